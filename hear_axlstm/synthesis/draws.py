"""Random numbers that belong to a clip: the same on every device, in every batch, in any order."""

from __future__ import annotations

import math
from typing import Self

import torch
from torch import Tensor

GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as int64; products wrap around, as the mixer wants
MIX_1, MIX_2 = -4658895280553007687, -7723592293110705685
FORK = 1 << 32  # draws of one fork before it would meet the next


def mix(x: Tensor) -> Tensor:
    """The finaliser of SplitMix64 (Steele et al., OOPSLA 2014), on int64: neighbours become unrelated."""
    x = (x ^ _shifted(x, 30)) * MIX_1
    x = (x ^ _shifted(x, 27)) * MIX_2
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Logical right shift: int64 alone would copy the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


class Draws:
    """A stream of random numbers for each of B clips: number k of clip i depends on (seed, i, k) alone.

    clips: ids (B,), int64, on the device where the numbers are wanted. Every draw returns (B, *shape), float32.
    """

    def __init__(self, clips: Tensor, seed: int, *, start: int = 0) -> None:
        self.clips = clips
        self.seed = seed
        self._start = start
        self._drawn = 0
        self._key = mix(mix(clips * GOLDEN + mix(torch.full_like(clips, seed))))

    @property
    def device(self) -> torch.device:
        """The device that all drawn numbers are on."""
        return self.clips.device

    def __len__(self) -> int:
        return len(self.clips)

    def fork(self, index: int, chosen: Tensor) -> Self:
        """Another stream for some of the clips, whose draws leave all other draws as they are."""
        return type(self)(self.clips[chosen], self.seed, start=self._start + (index + 1) * FORK)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Numbers between two bounds, each as likely, neither bound included."""
        count = math.prod(shape)
        first = self._start + self._drawn
        self._drawn += count
        counter = torch.arange(first + 1, first + count + 1, device=self.device) * GOLDEN
        bits = _shifted(mix(self._key[:, None] + counter), 41)  # 23 of them, so that the half below is exact
        unit = (bits.float() + 0.5) * 2.0**-23
        return (low + (high - low) * unit).view(len(self), *shape)

    def log_uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Numbers between two positive bounds, every octave as likely."""
        return self.uniform(math.log(low), math.log(high), *shape).exp()

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers (Box and Muller, 1958)."""
        radius = (-2 * self.uniform(0, 1, *shape).log()).sqrt()
        return radius * (2 * math.pi * self.uniform(0, 1, *shape)).cos()

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Whole numbers from ``low`` to ``high`` - 1, each as likely, int64."""
        return self.uniform(low, high, *shape).floor().long().clamp(low, high - 1)

    def chance(self, probability: float, *shape: int) -> Tensor:
        """Truth values that are true with this probability, bool."""
        return self.uniform(0, 1, *shape) < probability

    def pick(self, values: list[float], *shape: int) -> Tensor:
        """One of the values for each clip and place, each as likely."""
        return torch.tensor(values, device=self.device)[self.integers(0, len(values), *shape)]
