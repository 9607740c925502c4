"""When a training stops and which of its epochs counts: what Lightning's EarlyStopping and ModelCheckpoint do together."""

from __future__ import annotations

import math

import numpy as np


class Stopping:
    """Follows the monitored value of one training, check by check.

    patience: checks without a better value, after which it stops. A value that is not finite stops it at once. Of equal
    values the earliest counts. best: the best value so far, as float32; epoch: its epoch, None before the first check.
    """

    def __init__(self, patience: int, *, maximize: bool) -> None:
        self.patience = patience
        self.epoch: int | None = None
        self._sign = 1.0 if maximize else -1.0
        self._kept = -math.inf  # the checkpoint's value: NaN counts as the worst
        self._best = -math.inf  # what the patience goes by
        self._waited = 0
        self.stopped = False

    @property
    def best(self) -> float:
        """Of the epoch that counts."""
        return self._sign * self._kept

    def check(self, epoch: int, value: float) -> bool:
        """Whether the network, as it is after ``epoch``, is the best so far and must be kept."""
        signed = self._sign * float(np.float32(value))
        kept = -math.inf if math.isnan(signed) else signed
        better = self.epoch is None or kept > self._kept
        if better:
            self.epoch, self._kept = epoch, kept
        if not math.isfinite(signed):
            self.stopped = True
        elif signed > self._best:
            self._best, self._waited = signed, 0
        else:
            self._waited += 1
            self.stopped = self._waited >= self.patience
        return better
