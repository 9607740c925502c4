"""What is in a collection: which sounds are like a given one, a map of all, what is there twice, and what is odd."""

from typing import TYPE_CHECKING

from hear_axlstm import later

if TYPE_CHECKING:
    from hear_axlstm.explore.index import Index
    from hear_axlstm.explore.search import open_index
    from hear_axlstm.explore.twice import Duplicates, duplicates

__all__ = ["Duplicates", "Index", "duplicates", "open_index"]

__getattr__ = later(
    __name__,
    {"Duplicates": "twice", "Index": "index", "duplicates": "twice", "open_index": "search"},
)
