"""When each of many trainings stops, and which of its epochs counts: the rule of stopping.py, without leaving the device."""

from __future__ import annotations

import torch
from torch import Tensor


class BatchedStopping:
    """Follows the monitored values of R trainings that are checked together.

    patience: (R,), checks without a better value. alive: (R,), false for good once a training has stopped. best: (R,)
    float32, the best value so far. epoch: (R,), its epoch, -1 before the first check.
    """

    def __init__(self, patience: Tensor, *, maximize: bool) -> None:
        self._sign = 1.0 if maximize else -1.0
        self._patience = patience
        self._kept = torch.full_like(patience, -torch.inf, dtype=torch.float32)  # NaN counts as the worst
        self._best = self._kept.clone()  # what the patience goes by
        self._waited = torch.zeros_like(patience)
        self.epoch = torch.full_like(patience, -1)
        self.alive = torch.ones_like(patience, dtype=torch.bool)

    @property
    def best(self) -> Tensor:
        return self._sign * self._kept

    def check(self, epoch: int, values: Tensor) -> Tensor:
        """Which networks, as they are after ``epoch``, are their trainings' best so far and must be kept: (R,) bool."""
        signed = self._sign * values.float()
        kept = signed.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
        improved = self.alive & ((self.epoch < 0) | (kept > self._kept))
        self._kept = torch.where(improved, kept, self._kept)
        self.epoch = torch.where(improved, epoch, self.epoch)
        better = signed > self._best
        self._best = torch.where(better, signed, self._best)
        self._waited = torch.where(better, 0, self._waited + 1)
        self.alive &= signed.isfinite() & (self._waited < self._patience)
        return improved

    def select(self, rows: Tensor) -> None:
        """Goes on with the trainings ``rows`` only."""
        for name in ("_patience", "_kept", "_best", "_waited", "epoch", "alive"):
            setattr(self, name, getattr(self, name)[rows])
