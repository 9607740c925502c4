"""A task's embeddings and many seeds -> an Outcome each; the trainings of a split run at once, on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hear_axlstm.evaluation.classes import ByClass, by_class
from hear_axlstm.evaluation.metrics import check_metrics, scores
from hear_axlstm.evaluation.native.batched_network import ROWS_AT_ONCE, Adam, BatchedNetwork, TrainingDraws, along
from hear_axlstm.evaluation.native.data import Split, TaskData, check_points, monitors_score, read_data
from hear_axlstm.evaluation.native.network import probabilities
from hear_axlstm.evaluation.protocols import Protocol, Settings
from hear_axlstm.evaluation.results import Outcome
from hear_axlstm.evaluation.tasks.taskfolder import DataSplit, TaskFolder, read_task

MEMORY_SHARE = 0.8  # part of the free memory of a GPU that data and trainings may take
CPU_BYTES = 2 << 30  # what they may take on a CPU
COMPACT_BELOW = 0.5  # when a smaller part of the networks in memory is still trained, the others are put aside

MakeDraws = Callable[..., TrainingDraws]


@dataclass(frozen=True)
class Trial:
    """One training of one seed. point: the place of the settings among those that the seed tries."""

    seed: int
    point: int
    settings: Settings


def evaluate_batched(
    embeddings: Path, protocol: Protocol, seeds: Sequence[int], device: torch.device, *, draws: MakeDraws = TrainingDraws
) -> dict[int, Outcome]:
    """The outcomes that hear-eval-kit has for a scene task's embeddings with these seeds, but for the random numbers.

    The grid of all seeds is searched on the first split at once; then, split by split, each seed's best point is trained.
    As in the kit: the network, the order of clips, stopping, selection and metrics. Each training has a generator to itself,
    so that a seed's outcome depends on the others by rounding at most. Matrix products are in full float32, also where TF32
    is allowed. draws: TrainingDraws, or a function that makes something like it.

    Raises TaskError when the embeddings are damaged, or do not fit the task or the protocol.
    """
    task = read_task(embeddings)
    check_metrics(task.metrics)
    first, *others = task.data_splits
    tried = [
        Trial(seed, index, settings)
        for seed in dict.fromkeys(seeds)
        for index, settings in enumerate(protocol.points(seed, task.metadata))
    ]
    check_points(task, {trial.settings for trial in tried})
    sign = 1 if monitors_score(task) else -1
    with torch.inference_mode(), _full_precision():
        ended = _train(task, first, tried, device, draws)
        best: dict[int, Trial] = {}
        for trial in tried:  # of equal ones, the first that the seed tries
            rival = best.setdefault(trial.seed, trial)
            if sign * ended[trial][0]["validation_score"] > sign * ended[rival][0]["validation_score"]:
                best[trial.seed] = trial
        outcomes = {seed: Outcome({}, trial.settings.to_dict()) for seed, trial in best.items()}
        for split in (first, *others):
            if split is not first:
                ended = _train(task, split, list(best.values()), device, draws)
            for seed, trial in best.items():
                outcomes[seed].splits[split.test], outcomes[seed].classes[split.test] = ended[trial]
    return outcomes


def _train(
    task: TaskFolder, split: DataSplit, trials: Sequence[Trial], device: torch.device, draws: MakeDraws
) -> dict[Trial, tuple[dict[str, float], ByClass]]:
    """The scores of every trial on the test split, with the names that an Outcome has for them, and its classes."""
    budget = _budget(device)
    data = read_data(task, split)
    data = replace(data, train=_to(device, data.train), valid=_to(device, data.valid), test=_to(device, data.test))
    budget -= 4 * sum(part.embeddings.numel() + part.targets.numel() for part in (data.train, data.valid, data.test))
    shapes: dict[Settings, list[Trial]] = {}
    for trial in trials:
        shape = replace(trial.settings, dropout=0, lr=0, patience=0, initialization="xavier_normal")
        shapes.setdefault(shape, []).append(trial)
    ended: dict[Trial, tuple[dict[str, float], ByClass]] = {}
    for shape, alike in shapes.items():
        groups = min(len(alike), -(-len(alike) * _bytes(shape, data) // max(1, budget)))
        for index in range(groups):
            together = alike[index::groups]
            own = [draws(task.name, split.test, trial.seed, trial.point, device=device) for trial in together]
            group = Group(data, [trial.settings for trial in together], own)
            ended.update(zip(together, zip(group.train(), group.classes, strict=True), strict=True))
    return ended


def _to(device: torch.device, split: Split) -> Split:
    return Split(split.embeddings.to(device), split.targets.to(device))


def _budget(device: torch.device) -> int:
    """How many bytes data and trainings may take."""
    if device.type != "cuda":
        return CPU_BYTES
    torch.cuda.empty_cache()
    return int(MEMORY_SHARE * torch.cuda.mem_get_info(device)[0])


def _bytes(shape: Settings, data: TaskData) -> int:
    """An upper bound of the memory of one training."""
    hidden, labels = shape.hidden_dim * bool(shape.hidden_layers), data.train.targets.shape[1]
    sizes = [data.train.embeddings.shape[1], *[hidden] * shape.hidden_layers, labels]
    parameters = sum((inputs + 3) * outputs for inputs, outputs in pairwise(sizes))
    activations = min(shape.batch_size, len(data.train)) * ((3 * shape.hidden_layers + 2) * hidden + 3 * labels)
    classified = ROWS_AT_ONCE * 3 * hidden + max(len(data.valid), len(data.test)) * 4 * labels
    # Six: parameters, gradients, two moments, the parameters of the best check, and a copy of one of these.
    return 4 * (6 * parameters + max(activations, classified))


@contextmanager
def _full_precision() -> Iterator[None]:
    """No TF32 in the block: it would round the operands of matrix products to 10 bits."""
    matmul = torch.backends.cuda.matmul
    allowed = matmul.fp32_precision == "tf32" if hasattr(matmul, "fp32_precision") else matmul.allow_tf32
    if allowed:
        matmul.allow_tf32 = False
    try:
        yield
    finally:
        if allowed:
            matmul.allow_tf32 = True


class Group:
    """Trainings whose settings differ in dropout, lr, initialization and patience only.

    data: on the device that they are trained on. draws: one of each training. classes: what ``by_class`` finds of each, once
    they are trained.
    """

    def __init__(self, data: TaskData, settings: Sequence[Settings], draws: Sequence[TrainingDraws]) -> None:
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
        self._places = list(range(len(settings)))  # where the networks in memory stand among the results
        self.classes: list[ByClass] = [np.zeros(0)] * len(settings)

    def train(self, compact_below: float = COMPACT_BELOW) -> list[dict[str, float]]:
        """Train all of them to their end. Returns the scores of each on the test split, with the names of an Outcome."""
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
        """Train every network on the train split once, in its order."""
        size = self._settings.batch_size
        for x, targets in zip(self._data.train.embeddings.split(size), self._data.train.targets.split(size), strict=True):
            slope = partial(slopes, targets=targets, multilabel=self._data.multilabel)
            self._network.gradients(x, slope, self._dropout, out=self._gradients)
            self._adam.step(self._network.parameters, self._gradients)

    def monitored(self) -> Tensor:
        """The validation score or loss of each network as it is now: (R,)."""
        logits, targets = self._network.logits(self._data.valid.embeddings), self._data.valid.targets
        if self._data.by_score:
            return scores(self._data.metrics[0], probabilities(logits, self._data.multilabel), targets)
        return losses(logits, targets, self._data.multilabel)

    def _dropout(self, factors: Tensor) -> None:
        for mask, (draws, kept) in zip(factors, self._draws, strict=True):
            draws.keep(mask, kept)
        factors.div_(along(self._kept, factors))

    def _measure(self, rows: Sequence[int]) -> dict[int, dict[str, float]]:
        """Place -> scores on the test split of each network of ``rows`` at its best."""
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
        for row, found in zip(rows, by_class(likely, data.targets, self._data.multilabel), strict=True):
            self.classes[self._places[row]] = found
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


class BatchedStopping:
    """When each of R trainings stops and which of its epochs counts: the rule of ``Stopping``, without leaving the device.

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
        """The monitored value at the best epoch of each training: (R,), float32."""
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
        """Go on with the trainings ``rows`` (n,) only."""
        for name in ("_patience", "_kept", "_best", "_waited", "epoch", "alive"):
            setattr(self, name, getattr(self, name)[rows])


def losses(logits: Tensor, targets: Tensor, multilabel: bool) -> Tensor:
    """The mean cross entropy over clips, or the mean binary one over clips and classes. Shape: (R, N, C), (N, C) -> (R,)."""
    if multilabel:
        return F.binary_cross_entropy_with_logits(logits, targets.expand_as(logits), reduction="none").mean((1, 2))
    classes = targets.argmax(-1).expand(logits.shape[:2])
    return F.cross_entropy(logits.mT, classes, reduction="none").mean(1)


def slopes(logits: Tensor, targets: Tensor, multilabel: bool) -> Tensor:
    """The gradients of ``losses`` with respect to the logits. Shape: (R, N, C), (N, C) -> (R, N, C)."""
    clips, classes = targets.shape
    return probabilities(logits, multilabel).sub_(targets).div_(clips * classes if multilabel else clips)
