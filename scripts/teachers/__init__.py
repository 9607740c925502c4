"""What knows something of sound already, and says of every 40 ms what it hears: three small networks and two spectra.

Each module has ``load(wheels) -> teacher``, where ``wheels`` is the folder that its weights are kept in. A teacher takes
clips at 16 kHz and gives (moments, D) float32 for each; row m is about the samples 640 m to 640 (m + 1).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hear_axlstm.audio import Wave
from teachers import chroma, pitch, speaker, spectrum, speech

Targets = NDArray[np.float32]
Teach = Callable[[Sequence[Wave]], list[Targets]]


class Teacher(NamedTuple):
    """load: makes the teacher from the folder of its weights. knows: which kinds of sound it is asked about. size: how many
    numbers are kept of what it says of a moment. late: how many moments later a row is learnt, so that students who read
    from left to right have heard all that it is about."""

    load: Callable[[Path], Teach]
    knows: Callable[[str], bool] = lambda kind: True
    size: int = 64
    late: int = 0


TEACHERS = {
    "speaker": Teacher(speaker.load, size=128),
    "speech": Teacher(speech.load, lambda kind: "speech" in kind, late=9),
    "pitch": Teacher(pitch.load, size=32),
    "chroma": Teacher(chroma.load),
    "spectrum": Teacher(spectrum.load, size=96),
}
