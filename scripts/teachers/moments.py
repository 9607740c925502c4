"""The grid that all targets lie on: moments of 40 ms."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MOMENT = 640  # samples


def moments(wave: NDArray[np.float32]) -> int:
    """How many rows a clip's targets have.

    >>> moments(np.zeros(641, np.float32))
    2
    """
    return -(-len(wave) // MOMENT)


def windows(wave: NDArray[np.float32], length: int, count: int, hop: int = MOMENT) -> NDArray[np.float32]:
    """Windows of ``length`` samples around the middles of moments 0, hop / MOMENT, and so on; silence lies around the clip.

    Shape: -> (count, length), without a copy of the samples in each window.

    >>> windows(np.arange(1280, dtype=np.float32), 2, 2).tolist()
    [[319.0, 320.0], [959.0, 960.0]]
    """
    before = max(0, (length - MOMENT) // 2)
    skipped = max(0, (MOMENT - length) // 2)
    end = skipped + (count - 1) * hop + length
    padded = np.pad(wave, (before, max(0, end - before - len(wave))))
    return np.lib.stride_tricks.sliding_window_view(padded, length)[skipped : skipped + (count - 1) * hop + 1 : hop]


def split(rows: NDArray[np.float32], counts: Sequence[int]) -> list[NDArray[np.float32]]:
    """The rows of several clips, one clip after the other."""
    return np.split(rows, np.cumsum(counts)[:-1])
