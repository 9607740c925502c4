"""A task's embeddings and one seed -> an Outcome, one training after the other, equal to the kit bit for bit on a CPU."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hear_axlstm.evaluation.classes import ByClass, by_class
from hear_axlstm.evaluation.metrics import score
from hear_axlstm.evaluation.native.data import Split, TaskData, check_points, read_data
from hear_axlstm.evaluation.native.network import LOSSES, build_network, probabilities
from hear_axlstm.evaluation.protocols import Protocol, Settings
from hear_axlstm.evaluation.results import Outcome
from hear_axlstm.evaluation.tasks.taskfolder import read_task

ALIGNMENT = 64  # bytes: where torch lets the memory of a new tensor begin
KEEP_FREED = 31 << 20  # bytes, just below the 32 MiB up to which glibc adapts to the program

OnCheck = Callable[[int, float, float | None], None]


@dataclass
class TrainedNetwork:
    """A network as it was at its best check. epoch: counted from 0. validation_score: what was monitored, then."""

    settings: Settings
    network: nn.Sequential
    epoch: int
    validation_score: float


def evaluate_sequentially(embeddings: Path, protocol: Protocol, seed: int) -> Outcome:
    """The outcome that hear-eval-kit has for a scene task's embeddings with this seed, to the last bit with as many threads.

    The grid is searched on the first split; its best point is trained on the others. torch's generator is left as it was.
    Raises TaskError when the embeddings are damaged, or do not fit the task or the protocol.
    """
    task = read_task(embeddings)
    points = protocol.points(seed, task.metadata)
    check_points(task, points)
    # Once a block of this size has been freed, glibc keeps the memory of smaller ones, instead of returning gradients and
    # Adam's temporaries to the system at every step: a sixth of the time in small tasks.
    torch.empty(KEEP_FREED, dtype=torch.uint8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first, *others = task.data_splits
        data = read_data(task, first)
        sign = 1 if data.by_score else -1
        tried = [train(data, settings) for settings in points]
        best = max(tried, key=lambda trained: sign * trained.validation_score)  # the first of equal ones
        splits, classes = {first.test: measure(data, best)}, {first.test: measure_classes(data, best)}
        for split in others:
            data = read_data(task, split)
            trained = train(data, best.settings)
            splits[split.test], classes[split.test] = measure(data, trained), measure_classes(data, trained)
    return Outcome(splits, best.settings.to_dict(), classes)


def train(data: TaskData, settings: Settings, on_check: OnCheck | None = None) -> TrainedNetwork:
    """Train one classifier with torch's own generator, which the next training continues.

    settings: must pass ``check_points``. on_check: called with epoch, validation loss and score at every check.
    """
    network = build_network(settings, data.train.embeddings.shape[1], data.train.targets.shape[1])
    loss_of = LOSSES[data.multilabel]
    adam = torch.optim.Adam(network.parameters(), lr=settings.lr, foreach=False)
    stopping = Stopping(settings.patience, maximize=data.by_score)
    best: dict[str, Any] = {}
    for epoch in range(settings.max_epochs):
        _draw_seed_of_loader()
        for x, targets in _batches(data.train, settings.batch_size):
            adam.zero_grad()
            loss_of(network(x), targets).backward()
            adam.step()
        if (epoch + 1) % settings.check_val_every_n_epoch:
            continue
        _draw_seed_of_loader()
        logits = _predict(network, data.valid, settings.batch_size)
        loss = float(loss_of(logits, data.valid.targets))
        value = score(data.metrics[0], probabilities(logits, data.multilabel), data.valid.targets) if data.by_score else None
        if on_check is not None:
            on_check(epoch, loss, value)
        if stopping.check(epoch, loss if value is None else value):
            best = copy.deepcopy(network.state_dict())
        if stopping.stopped:
            break
    assert stopping.epoch is not None  # check_points
    network.load_state_dict(best)
    return TrainedNetwork(settings, network, stopping.epoch, stopping.best)


def measure(data: TaskData, trained: TrainedNetwork) -> dict[str, float]:
    """The scores on the test split, with the names that an Outcome has for them."""
    logits = _predict(trained.network, data.test, trained.settings.batch_size)
    likely = probabilities(logits, data.multilabel)
    scores = {name: score(name, likely, data.test.targets) for name in data.metrics}
    return {
        "test_loss": float(LOSSES[data.multilabel](logits, data.test.targets)),
        "test_score": scores[data.metrics[0]],
        **{f"test_{name}": value for name, value in scores.items()},
        "validation_score": trained.validation_score,
        "epoch": trained.epoch,
    }


def measure_classes(data: TaskData, trained: TrainedNetwork) -> ByClass:
    """The results on the test split class by class."""
    logits = _predict(trained.network, data.test, trained.settings.batch_size)
    return by_class(probabilities(logits, data.multilabel)[None], data.test.targets, data.multilabel)[0]


def _predict(network: nn.Sequential, split: Split, batch_size: int) -> Tensor:
    """Logits without dropout, with running statistics. Shape: -> (N, C)."""
    network.eval()
    with torch.no_grad():
        logits = torch.cat([network(x) for x, _ in _batches(split, batch_size)])
    network.train()
    return logits


def _batches(split: Split, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Embeddings and targets, batch by batch, with embeddings aligned as the kit's loader gives them.

    Where a matrix begins in memory changes the last bits of its products. A loader stacks each batch into a new tensor; a
    slice of all embeddings may begin anywhere.
    """
    for x, targets in zip(split.embeddings.split(batch_size), split.targets.split(batch_size), strict=True):
        yield x.clone() if x.data_ptr() % ALIGNMENT else x, targets


def _draw_seed_of_loader() -> None:
    """Draw what an iterator of a DataLoader draws: a seed for its workers, even where it has none."""
    torch.empty((), dtype=torch.int64).random_()


class Stopping:
    """When a training stops and which of its epochs counts: what EarlyStopping and ModelCheckpoint of Lightning do together.

    It is given the monitored value check by check. patience: checks without a better value, after which training stops. A
    value that is not finite stops it at once. Of equal values the earliest counts. epoch: the best one, None before the
    first check.
    """

    def __init__(self, patience: int, *, maximize: bool) -> None:
        self.patience = patience
        self.epoch: int | None = None
        self.stopped = False
        self._sign = 1.0 if maximize else -1.0
        self._kept = -math.inf  # the checkpoint's value: NaN counts as the worst
        self._best = -math.inf  # what the patience goes by
        self._waited = 0

    @property
    def best(self) -> float:
        """The monitored value at the best epoch, rounded to float32."""
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
