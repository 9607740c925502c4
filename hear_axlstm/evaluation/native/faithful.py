"""A task's embeddings and one seed -> an Outcome, one training after the other, equal to the kit bit for bit on a CPU."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hear_axlstm.errors import TaskError
from hear_axlstm.evaluation.metrics import score
from hear_axlstm.evaluation.native.data import Split, read_splits
from hear_axlstm.evaluation.native.network import build_network
from hear_axlstm.evaluation.native.step import Step
from hear_axlstm.evaluation.native.stopping import Stopping
from hear_axlstm.evaluation.protocols import Protocol, Settings
from hear_axlstm.evaluation.results import Outcome
from hear_axlstm.evaluation.tasks.taskfolder import DataSplit, TaskFolder, read_task

Check = Callable[[int, float, float | None], None]


@dataclass
class Training:
    """A network at its best check, and what it was then."""

    settings: Settings
    network: nn.Sequential
    epoch: int
    validation_score: float


def evaluate_sequentially(embeddings: Path, protocol: Protocol, seed: int) -> Outcome:
    """What hear-eval-kit gives for a scene task's embeddings with this seed, to the last bit where it has as many threads.

    The grid is searched on the first split; its best point is trained on the others. torch's generator is left as it was.
    Raises TaskError.
    """
    task = read_task(embeddings)
    points = protocol.points(seed, task.metadata)
    check_points(task, points)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first, *others = task.data_splits
        tried = [train(task, first, settings) for settings in points]
        sign = 1 if monitors_score(task) else -1
        best = max(tried, key=lambda training: sign * training.validation_score)  # of equal ones, the first that was run
        trainings = [best, *(train(task, split, best.settings) for split in others)]
    splits = {
        split.test: measure(task, split, training) for split, training in zip(task.data_splits, trainings, strict=True)
    }
    return Outcome(splits, best.settings.to_dict())


def check_points(task: TaskFolder, points: Iterable[Settings]) -> None:
    """Raises TaskError when these settings cannot be trained on a split of the task."""
    for point in points:
        if point.max_epochs < point.check_val_every_n_epoch:
            raise TaskError(
                f"{task.name}: a check every {point.check_val_every_n_epoch} epochs is none in {point.max_epochs}; "
                "expected max_epochs of at least as many"
            )
        for split in task.data_splits:
            clips = sum(len(task.clips(name)) for name in split.train)
            if point.hidden_layers and clips % point.batch_size == 1:
                raise TaskError(
                    f"{task.name}: {clips} clips of {'+'.join(split.train)} end in a batch of 1: a single clip is too few "
                    "for batch norm; hear-eval-kit fails on it, too"
                )


def monitors_score(task: TaskFolder) -> bool:
    """Whether trainings are stopped and chosen by the task's score, not by the validation loss."""
    return bool(task.metadata.get("use_scoring_for_early_stopping", True))


def train(task: TaskFolder, split: DataSplit, settings: Settings, on_check: Check | None = None) -> Training:
    """Train one classifier with torch's generator as it is; as it leaves it, the next one is drawn.

    settings: that pass ``check_points``. on_check: told epoch, validation loss and score at every check. Raises TaskError.
    """
    data, valid = read_splits(task, split.train), read_splits(task, [split.valid])
    network = build_network(settings, data.embeddings.shape[1], len(task.labels))
    loss_of = LOSSES[task.prediction_type]
    step = Step(network, loss_of, settings.lr, min(settings.batch_size, len(data)))
    by_score = monitors_score(task)
    stopping = Stopping(settings.patience, maximize=by_score)
    best: dict[str, Any] = {}
    for epoch in range(settings.max_epochs):
        _draw_seed_of_loader()
        for x, y in zip(data.embeddings.split(settings.batch_size), data.targets.split(settings.batch_size), strict=True):
            step(x, y)
        if (epoch + 1) % settings.check_val_every_n_epoch:
            continue
        _draw_seed_of_loader()
        logits = _predict(network, valid, settings.batch_size)
        loss = float(loss_of(logits, valid.targets))
        value = score(task.metrics[0], _probabilities(task, logits), valid.targets) if by_score else None
        if on_check is not None:
            on_check(epoch, loss, value)
        if stopping.check(epoch, loss if value is None else value):
            best = copy.deepcopy(network.state_dict())
        if stopping.stopped:
            break
    assert stopping.epoch is not None  # check_points
    network.load_state_dict(best)
    return Training(settings, network, stopping.epoch, stopping.best)


def measure(task: TaskFolder, split: DataSplit, training: Training) -> dict[str, float]:
    """All that an Outcome has of a test split."""
    data = read_splits(task, [split.test])
    logits = _predict(training.network, data, training.settings.batch_size)
    probabilities = _probabilities(task, logits)
    scores = {name: score(name, probabilities, data.targets) for name in task.metrics}
    return {
        "test_loss": float(LOSSES[task.prediction_type](logits, data.targets)),
        "test_score": scores[task.metrics[0]],
        **{f"test_{name}": value for name, value in scores.items()},
        "validation_score": training.validation_score,
        "epoch": training.epoch,
    }


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits, targets.argmax(1))


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "multiclass": _cross_entropy,
    "multilabel": F.binary_cross_entropy_with_logits,
}


def _predict(network: nn.Sequential, data: Split, batch_size: int) -> Tensor:
    network.eval()
    with torch.no_grad():
        logits = torch.cat([network(x) for x in data.embeddings.split(batch_size)])
    network.train()
    return logits


def _probabilities(task: TaskFolder, logits: Tensor) -> Tensor:
    return logits.softmax(1) if task.prediction_type == "multiclass" else logits.sigmoid()


def _draw_seed_of_loader() -> None:
    """An iterator of a DataLoader draws a seed for its workers, even where it has none."""
    torch.empty((), dtype=torch.int64).random_()
