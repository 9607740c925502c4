"""What a student hears of a clip while teachers heard all of it: a stretch, another sound under it, through a channel.

Everything follows from the seed and the clip's place in the run alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from hear_axlstm.audio import Wave
from hear_axlstm.config import CHUNK_FRAMES, HOP, N_MELS
from hear_axlstm.frontend import STD_OFFSET, log_mel
from hear_axlstm.synthesis.draws import Draws

MOMENT = 640  # samples, 40 ms: what a row of targets covers
MOMENTS = CHUNK_FRAMES * HOP // MOMENT  # of a crop
SHORT = 0.3  # the share of crops that are shorter than a chunk, as words and single sounds are
SHORTEST = 8  # moments of those
MIXED = 0.35  # the share of crops that another sound lies under
UNDER_DB = (3.0, 20.0)  # how far under, in power
TILT = 1.0  # deviation of a channel's slope over all bands, in deviations of a log-mel; of its waves, half


class View(NamedTuple):
    """A crop as the student hears it: standardised log-mel (200, 80), zero after its end; targets (50, D), zero where there
    are none."""

    spectrogram: Tensor
    targets: dict[str, Tensor]


def view(
    wave: Wave, taught: dict[str, np.ndarray], sizes: dict[str, int], other: Callable[[Tensor], Wave], draws: Draws
) -> View:
    """A random view of a clip.

    taught: each teacher's targets of the whole clip, (moments, D), D as ``sizes`` says. other: the samples of another clip,
    chosen by a number from 0 to 1. draws: those of this clip alone.
    """
    short, length = draws.chance(SHORT), draws.integers(SHORTEST, MOMENTS)
    whole = max(1, len(wave) // MOMENT)
    moments = min(whole, int(length) if short else MOMENTS)
    first = int(draws.integers(0, whole - moments + 1))
    heard = wave[first * MOMENT : (first + moments) * MOMENT]
    mixed, chosen, level, place = (draws.chance(MIXED), draws.uniform(0, 1), draws.uniform(*UNDER_DB), draws.uniform(0, 1))
    if mixed:
        heard = _over(heard, other(chosen), float(level), float(place))
    mel = _through_a_channel(log_mel(torch.from_numpy(heard.copy())[None])[0, :CHUNK_FRAMES], draws)
    spectrogram = nn.functional.pad(mel, (0, 0, 0, CHUNK_FRAMES - len(mel)))
    targets = {teacher: _cut(taught.get(teacher), first, moments, size) for teacher, size in sizes.items()}
    return View(spectrogram, targets)


def _over(wave: Wave, other: Wave, decibels: float, place: float) -> Wave:
    """A sound with another one under it, by so many dB of mean power; ``place``, 0 to 1, says which part of that."""
    start = int(place * max(0, len(other) - len(wave)))
    under = np.resize(other[start : start + len(wave)], len(wave))
    power, below = np.square(wave).mean(), np.square(under).mean()
    if below == 0 or power == 0:
        return wave
    return wave + under * np.sqrt(power / below * 10 ** (-decibels / 10), dtype=np.float32)


def _through_a_channel(mel: Tensor, draws: Draws) -> Tensor:
    """A log-mel with a smooth curve over the bands added, standardised again."""
    band = torch.linspace(-0.5, 0.5, N_MELS)
    slope, height, phase = draws.normal()[0], draws.normal()[0], draws.uniform(0, 2 * torch.pi)[0]
    curve = TILT * (slope * band + 0.5 * height * torch.cos(2 * torch.pi * band + phase))
    mel = mel + curve
    return (mel - mel.mean()) / (mel.std() + STD_OFFSET)


def _cut(taught: np.ndarray | None, first: int, moments: int, size: int) -> Tensor:
    targets = torch.zeros(MOMENTS, size)
    if taught is not None:
        own = torch.from_numpy(taught[first : first + moments]).float()
        targets[: len(own)] = own
    return targets
