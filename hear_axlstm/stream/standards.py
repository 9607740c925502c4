"""What log-mel frames are standardised by while nobody knows the whole sound: a mean and a deviation from elsewhere.

``frontend.log_mel`` takes those of the whole clip. A stream has none, so that they are given, learnt from its beginning, or
averaged as it goes on.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from hear_axlstm.config import HOP_MS, N_MELS, require
from hear_axlstm.errors import ConfigError
from hear_axlstm.frontend import STD_OFFSET

Mel = NDArray[np.float64]  # (N, 80), ln of mel power
Learnt = Literal["running", "first"]
BEGINNING = 1.0  # seconds that "running" learns from before anything comes
LONGEST = 1e9  # seconds, 30 years


class Statistics(NamedTuple):
    """The mean and the deviation of all values of a log-mel spectrogram, in nepers (natural logarithms of power)."""

    mean: float
    deviation: float


class Tally:
    """The sums of log-mel frames that their mean and deviation are made of, with a weight that may fade.

    Values are counted from the first one, so that silence has exactly no deviation. decay: of what was counted before, with
    each frame.
    """

    def __init__(self, decay: float = 1.0) -> None:
        self.decay, self.first = decay, 0.0
        self.weight = self.total = self.squares = 0.0  # of frames, and of their bands' means and mean squares

    def add(self, mel: Mel) -> None:
        """Count frames, (N, 80)."""
        if len(mel):
            means, squares = self._from_first(mel)
            weights = np.float64(self.decay) ** np.arange(len(mel) - 1, -1, -1)
            before = self.decay ** len(mel)
            self.weight = before * self.weight + float(weights.sum())
            self.total = before * self.total + float(weights @ means)
            self.squares = before * self.squares + float(weights @ squares)

    def standardised(self, mel: Mel) -> Mel:
        """Frames, (N, 80), each by the statistics of those up to itself, which it is counted among."""
        means, squares = self._from_first(mel)
        found = np.empty((len(mel), 2))
        for row, (mean, square) in enumerate(zip(means.tolist(), squares.tolist(), strict=True)):
            self.weight = self.decay * self.weight + 1
            self.total = self.decay * self.total + mean
            self.squares = self.decay * self.squares + square
            found[row] = self.about_first
        return (mel - self.first - found[:, :1]) / (found[:, 1:] + STD_OFFSET)

    @property
    def statistics(self) -> Statistics:
        """Of all frames so far; there must be one."""
        mean, deviation = self.about_first
        return Statistics(self.first + mean, deviation)

    @property
    def about_first(self) -> Statistics:
        """Of all frames so far less ``first``: exact where they hardly differ from it, in float32, too."""
        values, mean = self.weight * N_MELS, self.total / self.weight
        variance = (self.squares - self.total * mean) * N_MELS / (values - 1)
        return Statistics(mean, math.sqrt(max(variance, 0.0)))

    def _from_first(self, mel: Mel) -> tuple[Mel, Mel]:
        """Each frame's mean and mean square, (N,), both about the first value that was ever counted."""
        if not self.weight and len(mel):
            self.first = float(mel[0, 0])
        mel = mel - self.first
        return mel.mean(1), np.square(mel).mean(1)

    def state(self) -> list[float]:
        """The numbers that ``restore`` takes."""
        return [self.first, self.weight, self.total, self.squares]

    def restore(self, numbers: list[float]) -> None:
        """Go on from ``state``."""
        self.first, self.weight, self.total, self.squares = numbers


class Standard:
    """Log-mel frames -> standardised ones, by given statistics, or by those that it learns.

    kind: "given"; "first": by those of the first ``seconds``, until which nothing comes; or "running": each frame by an
    average in which a frame that is ``seconds`` old counts 1/e of the present one. That begins with the first second, or the
    first ``seconds`` when these are fewer, all by its own statistics: those of a few frames are far from any sound's.
    """

    def __init__(self, statistics: Statistics | tuple[float, float] | Learnt, seconds: float) -> None:
        self.given = None if isinstance(statistics, str) else Statistics(*map(float, statistics))
        self.kind = statistics if isinstance(statistics, str) else "given"
        self.seconds = seconds = float(seconds)
        self.needed = max(1, round(1000 * (seconds if self.kind == "first" else min(seconds, BEGINNING)) / HOP_MS))
        self.tally = Tally(math.exp(-HOP_MS / 1000 / seconds) if self.kind == "running" else 1.0)
        self.waiting: Mel = np.zeros((0, N_MELS))

    def push(self, mel: Mel) -> Mel:
        """The frames that can be standardised now, (N, 80) of those that are given and waited."""
        if self.given is None:
            self.waiting = np.concatenate([self.waiting, mel])
            return self._learnt(self.needed) if len(self.waiting) >= self.needed else self.waiting[:0]
        if self.kind == "running":
            return self.tally.standardised(mel)
        return self._by_given(mel)

    def end(self) -> Mel:
        """The frames that still wait when the sound ends, (N, 80): by the statistics of all there are."""
        return self._learnt(len(self.waiting)) if len(self.waiting) else self.waiting

    def _learnt(self, count: int) -> Mel:
        first, rest = self.waiting[:count], self.waiting[count:]
        self.tally.add(first)
        self.given, self.waiting = self.tally.statistics, self.waiting[:0]
        return np.concatenate([self._by_given(first), self.push(rest)])

    def _by_given(self, mel: Mel) -> Mel:
        assert self.given is not None
        return (mel - self.given.mean) / (self.given.deviation + STD_OFFSET)


def check_statistics(statistics: Any, seconds: Any) -> None:
    """Raise ConfigError unless a stream can be standardised by these."""
    expected = (
        f"expected {' or '.join(map(repr, get_args(Learnt)))}, or a mean and a deviation: hear_axlstm.statistics(files) "
        "measures them"
    )
    if isinstance(statistics, str):
        require(statistics in get_args(Learnt), f"statistics is {statistics!r}; {expected}")
    else:
        try:
            mean, deviation = map(float, statistics)
        except (TypeError, ValueError, OverflowError) as error:
            raise ConfigError(f"statistics is {statistics!r:.80}; {expected}") from error
        fits = math.isfinite(mean) and math.isfinite(deviation) and deviation >= 0
        require(fits, f"statistics is {statistics!r:.80}; expected finite numbers, and a deviation of 0 or more")
    is_number = isinstance(seconds, Real) and not isinstance(seconds, bool)
    expected = f"expected a positive number of seconds, {LONGEST:.0e} at most"
    require(is_number and 0 < seconds <= LONGEST, f"seconds is {seconds!r:.50}; {expected}")
