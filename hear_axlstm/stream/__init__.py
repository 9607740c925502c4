"""Sound as it comes: ``Stream`` for one sound, ``Streams`` for many in one batch."""

from typing import TYPE_CHECKING

from hear_axlstm import later

if TYPE_CHECKING:
    from hear_axlstm.stream.standards import Statistics
    from hear_axlstm.stream.stream import Stream
    from hear_axlstm.stream.streams import Steps, Streams

__all__ = ["Statistics", "Steps", "Stream", "Streams"]

__getattr__ = later(__name__, {"Statistics": "standards", "Steps": "streams", "Stream": "stream", "Streams": "streams"})
