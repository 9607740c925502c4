"""A task's split and trainings of one shape on it -> how each of them ends, all trained at once on one device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from hear_axlstm.evaluation.metrics import scores
from hear_axlstm.evaluation.native.adam import Adam
from hear_axlstm.evaluation.native.batched_losses import losses, probabilities, slopes
from hear_axlstm.evaluation.native.batched_network import BatchedNetwork
from hear_axlstm.evaluation.native.batched_stopping import BatchedStopping
from hear_axlstm.evaluation.native.data import Split
from hear_axlstm.evaluation.native.draws import Draws
from hear_axlstm.evaluation.native.stack import along
from hear_axlstm.evaluation.protocols import Settings

COMPACT_BELOW = 0.5  # of the trainings in memory that go on: the others are then put aside


@dataclass(frozen=True)
class Data:
    """What trainings share. by_score: whether the first metric stops and chooses them, not the validation loss."""

    train: Split
    valid: Split
    test: Split
    multilabel: bool
    metrics: tuple[str, ...]
    by_score: bool


class Group:
    """Trainings whose settings differ in dropout, lr, initialization and patience only.

    data: on the device that they are trained on. draws: one for each.
    """

    def __init__(self, data: Data, settings: Sequence[Settings], draws: Sequence[Draws]) -> None:
        width, labels = data.train.embeddings.shape[1], data.train.targets.shape[1]
        device = data.train.embeddings.device
        linear = [own.linear(point, width, labels) for point, own in zip(settings, draws, strict=True)]
        self._data, self._settings = data, settings[0]
        self._network, self._best = (BatchedNetwork.start(linear, device) for _ in range(2))
        self._gradients = self._network.parameters.empty_like()
        self._adam = Adam(self._network.parameters, torch.tensor([point.lr for point in settings], device=device))
        patience = torch.tensor([point.patience for point in settings], device=device)
        self._stopping = BatchedStopping(patience, maximize=data.by_score)
        self._draws = [(own, 1 - point.dropout) for point, own in zip(settings, draws, strict=True)]
        self._kept = torch.tensor([1 - point.dropout for point in settings], device=device)
        self._places = list(range(len(settings)))  # of those in memory, among the results

    def train(self, compact_below: float = COMPACT_BELOW) -> list[dict[str, float]]:
        """All of them to their end: what an Outcome has of a test split, of each."""
        ended: dict[int, dict[str, float]] = {}
        for epoch in range(self._settings.max_epochs):
            self.train_epoch()
            if (epoch + 1) % self._settings.check_val_every_n_epoch:
                continue
            self._best.take(self._network, self._stopping.check(epoch, self.monitored()))
            alive = self._stopping.alive.tolist()  # the one time that the device is waited for
            if not any(alive):
                break
            if sum(alive) < compact_below * len(alive):
                ended.update(self._measure([row for row, going_on in enumerate(alive) if not going_on]))
                self._select([row for row, going_on in enumerate(alive) if going_on])
        ended.update(self._measure(range(len(self._places))))
        return [ended[place] for place in sorted(ended)]

    def train_epoch(self) -> None:
        """Once over the train split, in its order."""
        size = self._settings.batch_size
        for x, targets in zip(self._data.train.embeddings.split(size), self._data.train.targets.split(size), strict=True):
            slope = partial(slopes, targets=targets, multilabel=self._data.multilabel)
            self._network.gradients(x, slope, self._dropout, out=self._gradients)
            self._adam.step(self._network.parameters, self._gradients)

    def monitored(self) -> Tensor:
        """Validation score or loss of each network as it is now: (R,)."""
        logits, targets = self._network.logits(self._data.valid.embeddings), self._data.valid.targets
        if self._data.by_score:
            return scores(self._data.metrics[0], probabilities(logits, self._data.multilabel), targets)
        return losses(logits, targets, self._data.multilabel)

    def _dropout(self, factors: Tensor) -> None:
        for mask, (draws, kept) in zip(factors, self._draws, strict=True):
            draws.keep(mask, kept)
        factors.div_(along(self._kept, factors))

    def _measure(self, rows: Sequence[int]) -> dict[int, dict[str, float]]:
        """By place, of each network of ``rows`` at its best."""
        chosen = torch.tensor(rows, device=self._kept.device)
        data = self._data.test
        logits = self._best.select(chosen).logits(data.embeddings)
        likely = probabilities(logits, self._data.multilabel)
        measured = {name: scores(name, likely, data.targets) for name in self._data.metrics}
        columns = {
            "test_loss": losses(logits, data.targets, self._data.multilabel),
            "test_score": measured[self._data.metrics[0]],
            **{f"test_{name}": values for name, values in measured.items()},
            "validation_score": self._stopping.best[chosen],
            "epoch": self._stopping.epoch[chosen],
        }
        values = zip(*(column.tolist() for column in columns.values()), strict=True)
        return {self._places[row]: dict(zip(columns, of_one, strict=True)) for row, of_one in zip(rows, values, strict=True)}

    def _select(self, rows: Sequence[int]) -> None:
        chosen = torch.tensor(rows, device=self._kept.device)
        self._network, self._best = self._network.select(chosen), self._best.select(chosen)
        self._gradients = self._network.parameters.empty_like()
        self._adam.select(chosen)
        self._stopping.select(chosen)
        self._kept = self._kept[chosen]
        self._draws = [self._draws[row] for row in rows]
        self._places = [self._places[row] for row in rows]
