"""Which notes sound: the spectrum at every semitone from C2 to B7, and the same with all octaves in one."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from teachers.moments import moments, windows

SAMPLE_RATE = 16_000
C2 = 440 * 2 ** (-33 / 12)  # Hz
LENGTHS = (8192, 4096, 2048, 1024, 1024, 512)  # samples that the notes of each octave are heard in
PER_SEMITONE = 3  # frequencies, of which the powers are summed
QUIET = 1e-8  # in power, full scale being 1


def load(wheels: Path) -> Callable[[Sequence[NDArray[np.float32]]], list[NDArray[np.float32]]]:
    """There are no weights."""
    kernels = [_kernels(octave, length) for octave, length in enumerate(LENGTHS)]
    return lambda waves: [_of(wave, kernels) for wave in waves]


def _of(wave: NDArray[np.float32], kernels: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Decibels / 10 about their mean in the moment, so that loudness does not count. Shape: -> (moments, 72 + 12)."""
    count = moments(wave)
    octaves = []
    for length, kernel in zip(LENGTHS, kernels, strict=True):
        parts = windows(wave, length, count) @ kernel  # (moments, 2 * 12 * PER_SEMITONE)
        octaves.append(np.square(parts).reshape(count, 2, 12, PER_SEMITONE).sum((1, 3)))
    semitones, folded = np.concatenate(octaves, 1), np.sum(octaves, 0)
    return np.concatenate([_compressed(semitones), _compressed(folded)], 1)


def _compressed(power: NDArray[np.float32]) -> NDArray[np.float32]:
    level = np.log10(power + QUIET)
    return level - level.mean(1, keepdims=True)


def _kernels(octave: int, length: int) -> NDArray[np.float32]:
    """Windowed cosines and sines of an octave's frequencies. Shape: (length, 2 * 12 * PER_SEMITONE)."""
    steps = (np.arange(12 * PER_SEMITONE) - PER_SEMITONE // 2) / (12 * PER_SEMITONE)
    phase = 2 * np.pi * C2 * 2 ** (octave + steps) / SAMPLE_RATE * np.arange(length)[:, None]
    window = np.hanning(length)[:, None] / (length / 4)  # a sine of full scale has power 1
    return np.concatenate([window * np.cos(phase), window * np.sin(phase)], 1).astype(np.float32)
