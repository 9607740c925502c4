"""A task's embeddings and many seeds -> an Outcome each; the trainings of a split run at once, on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch

from hear_axlstm.evaluation.metrics import check_metrics
from hear_axlstm.evaluation.native.batched_network import ROWS_AT_ONCE
from hear_axlstm.evaluation.native.batched_training import Data, Group
from hear_axlstm.evaluation.native.data import Split, read_splits
from hear_axlstm.evaluation.native.draws import Draws
from hear_axlstm.evaluation.native.faithful import check_points, monitors_score
from hear_axlstm.evaluation.protocols import Protocol, Settings
from hear_axlstm.evaluation.results import Outcome
from hear_axlstm.evaluation.tasks.taskfolder import DataSplit, TaskFolder, read_task

SHARE = 0.8  # of the free memory of a GPU
ELSEWHERE = 2 << 30  # bytes, on a CPU

MakeDraws = Callable[..., Draws]


@dataclass(frozen=True)
class Training:
    """point: the settings' place among those that the seed tries."""

    seed: int
    point: int
    settings: Settings


def evaluate_batched(
    embeddings: Path, protocol: Protocol, seeds: Sequence[int], device: torch.device, *, draws: MakeDraws = Draws
) -> dict[int, Outcome]:
    """What hear-eval-kit gives for a scene task's embeddings with these seeds, but for the random numbers.

    The grid of all seeds is searched on the first split at once; then, split by split, each seed's best point is trained.
    As in the kit: the network, the order of clips, stopping, selection and metrics. Each training draws from a generator of
    its own, so that a seed's outcome depends on the others by rounding at most. Matrix products are in full float32, also
    where TF32 is allowed. draws: Draws, or what is made and used like it. Raises TaskError.
    """
    task = read_task(embeddings)
    check_metrics(task.metrics)
    first, *others = task.data_splits
    tried = [
        Training(seed, index, settings)
        for seed in dict.fromkeys(seeds)
        for index, settings in enumerate(protocol.points(seed, task.metadata))
    ]
    check_points(task, {training.settings for training in tried})
    sign = 1 if monitors_score(task) else -1
    with torch.inference_mode(), _full_precision():
        ended = _train(task, first, tried, device, draws)
        best: dict[int, Training] = {}
        for training in tried:  # of equal ones, the first that the seed tries
            rival = best.setdefault(training.seed, training)
            if sign * ended[training]["validation_score"] > sign * ended[rival]["validation_score"]:
                best[training.seed] = training
        splits = {seed: {first.test: ended[training]} for seed, training in best.items()}
        for split in others:
            ended = _train(task, split, list(best.values()), device, draws)
            for seed, training in best.items():
                splits[seed][split.test] = ended[training]
    return {seed: Outcome(splits[seed], best[seed].settings.to_dict()) for seed in best}


def _train(
    task: TaskFolder, split: DataSplit, trainings: Sequence[Training], device: torch.device, draws: MakeDraws
) -> dict[Training, dict[str, float]]:
    """What an Outcome has of the test split, of each training."""
    budget = _budget(device)
    train, valid, test = (_to(device, read_splits(task, names)) for names in (split.train, [split.valid], [split.test]))
    data = Data(train, valid, test, task.prediction_type == "multilabel", task.metrics, monitors_score(task))
    budget -= 4 * sum(part.embeddings.numel() + part.targets.numel() for part in (train, valid, test))
    shapes: dict[Settings, list[Training]] = {}
    for training in trainings:
        shape = replace(training.settings, dropout=0, lr=0, patience=0, initialization="xavier_normal")
        shapes.setdefault(shape, []).append(training)
    ended: dict[Training, dict[str, float]] = {}
    for shape, alike in shapes.items():
        groups = min(len(alike), -(-len(alike) * _bytes(shape, data) // max(1, budget)))
        for index in range(groups):
            together = alike[index::groups]
            own = [draws(task.name, split.test, training.seed, training.point, device=device) for training in together]
            outcomes = Group(data, [training.settings for training in together], own).train()
            ended.update(zip(together, outcomes, strict=True))
    return ended


def _to(device: torch.device, split: Split) -> Split:
    return Split(split.embeddings.to(device), split.targets.to(device))


def _budget(device: torch.device) -> int:
    """Bytes that data and trainings may take."""
    if device.type != "cuda":
        return ELSEWHERE
    torch.cuda.empty_cache()
    return int(SHARE * torch.cuda.mem_get_info(device)[0])


def _bytes(shape: Settings, data: Data) -> int:
    """That one training takes at most."""
    hidden, labels = shape.hidden_dim * bool(shape.hidden_layers), data.train.targets.shape[1]
    sizes = [data.train.embeddings.shape[1], *[hidden] * shape.hidden_layers, labels]
    parameters = sum((inputs + 3) * outputs for inputs, outputs in pairwise(sizes))
    activations = min(shape.batch_size, len(data.train)) * ((3 * shape.hidden_layers + 2) * hidden + 3 * labels)
    classified = ROWS_AT_ONCE * 3 * hidden + max(len(data.valid), len(data.test)) * 4 * labels
    # Parameters, gradients, two moments, those of the best check, and a copy of one of these.
    return 4 * (6 * parameters + max(activations, classified))


@contextmanager
def _full_precision() -> Iterator[None]:
    """TF32 would round the operands of matrix products to 10 bits."""
    matmul = torch.backends.cuda.matmul
    allowed = matmul.fp32_precision == "tf32" if hasattr(matmul, "fp32_precision") else matmul.allow_tf32
    if allowed:
        matmul.allow_tf32 = False
    try:
        yield
    finally:
        if allowed:
            matmul.allow_tf32 = True
