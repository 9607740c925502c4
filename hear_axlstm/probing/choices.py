"""What a clip may vary: random numbers that keep the clips to learn from and the clips to be tested on apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

Part = Literal["train", "test"]
SHARES: dict[Part, tuple[float, float]] = {"train": (0.0, 0.55), "test": (0.6, 1.0)}  # of a range that is held out

T = TypeVar("T")


@dataclass(frozen=True)
class Choices:
    """The choices of one clip.

    rng: the clip's own generator. part: which clips it belongs to. soundfont: what instruments are played with.
    """

    rng: np.random.Generator
    part: Part
    soundfont: Path | None = None

    def uniform(self, low: float, high: float) -> float:
        """A number in [low, high), the same range for both parts."""
        return float(self.rng.uniform(low, high))

    def held_out(self, low: float, high: float) -> float:
        """A number between two positive bounds: train clips have the lower ones, test clips the higher ones, none both."""
        return float(low * (high / low) ** self.rng.uniform(*SHARES[self.part]))

    def of(self, values: Sequence[T]) -> T:
        """One of the values, each as likely."""
        return values[int(self.rng.integers(len(values)))]

    def of_part(self, values: Mapping[Part, Sequence[T]]) -> T:
        """One of the values that this part has."""
        return self.of(values[self.part])
