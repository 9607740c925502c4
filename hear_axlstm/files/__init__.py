"""Many sounds, of any length, in files or in memory -> embeddings, returned or written to a folder.

``embed`` does all of it here. ``open_folder``, ``plan``, ``encode`` and ``sink`` are its parts for a cluster: one process
plans and writes, and others, each with a model, encode one batch after the other.
"""

from typing import TYPE_CHECKING, Literal

from hear_axlstm import later

if TYPE_CHECKING:
    from hear_axlstm.files.load import load_embeddings
    from hear_axlstm.files.outcomes import Outcome, encode
    from hear_axlstm.files.planning import Plan, plan
    from hear_axlstm.files.result import Embedded, Row
    from hear_axlstm.files.run import embed
    from hear_axlstm.files.write import open_folder, sink

__all__ = ["Embedded", "Outcome", "Plan", "Row", "embed", "encode", "load_embeddings", "open_folder", "plan", "sink"]

Format = Literal["npy", "parquet"]  # that a folder of embeddings is kept in

__getattr__ = later(
    __name__,
    {
        "Embedded": "result",
        "Outcome": "outcomes",
        "Plan": "planning",
        "Row": "result",
        "embed": "run",
        "encode": "outcomes",
        "load_embeddings": "load",
        "open_folder": "write",
        "plan": "planning",
        "sink": "write",
    },
)
