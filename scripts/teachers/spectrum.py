"""What the spectrum does: the level of each band, how far groups of bands are from their mean, and how fast they change."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hear_axlstm.config import HOP, N_MELS
from hear_axlstm.frontend import log_mel
from teachers.moments import MOMENT, moments

GROUP = 4  # bands that are one group
LAGS = (1, 4)  # moments, over which a change is looked at


def load(wheels: Path) -> Callable[[Sequence[NDArray[np.float32]]], list[NDArray[np.float32]]]:
    """There are no weights."""
    return lambda waves: [_of(wave) for wave in waves]


def _of(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    """The clip's standardised log-mel; of groups of its bands the squares, and the sizes of their changes.

    Scene embeddings are means: they know of deviations and of roughness only what moments say of them already.

    Shape: -> (moments, 80 + 3 * 20).
    """
    count = moments(wave)
    mel = log_mel(torch.from_numpy(wave.copy())[None])[0].numpy()
    frames = MOMENT // HOP
    mel = np.pad(mel[: count * frames], ((0, max(0, count * frames - len(mel))), (0, 0)), "edge")
    levels = mel.reshape(count, frames, N_MELS).mean(1)
    groups = levels.reshape(count, N_MELS // GROUP, GROUP).mean(2)
    padded = np.pad(groups, ((max(LAGS), 0), (0, 0)), "edge")
    changes = [np.abs(groups - padded[max(LAGS) - lag :][:count]) for lag in LAGS]
    return np.concatenate([levels, np.square(groups), *changes], 1)
