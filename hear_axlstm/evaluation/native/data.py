"""A task's embeddings -> tensors of its splits, in the order that the kit stores and trains them in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hear_axlstm.errors import TaskError
from hear_axlstm.evaluation.protocols import Settings
from hear_axlstm.evaluation.tasks.taskfolder import DataSplit, TaskFolder
from hear_axlstm.storage import read_json

ROWS_AT_ONCE = 4_096  # searched for NaN at once, which bounds the memory that takes


@dataclass(frozen=True)
class Split:
    """The clips of one or several splits as tensors.

    embeddings: (N, D), float32, memory-mapped where they are one file. targets: (N, C), float32, 1 for each label.
    """

    embeddings: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.embeddings)


@dataclass(frozen=True)
class TaskData:
    """The clips that a classifier is trained on, chosen by and tested on, and how the task judges it.

    metrics: the first is the task's score. by_score: whether it stops and chooses trainings, not the validation loss.
    """

    train: Split
    valid: Split
    test: Split
    multilabel: bool
    metrics: tuple[str, ...]
    by_score: bool


def monitors_score(task: TaskFolder) -> bool:
    """Whether trainings are stopped and chosen by the task's score, not by the validation loss."""
    return bool(task.metadata.get("use_scoring_for_early_stopping", True))


def check_points(task: TaskFolder, points: Iterable[Settings]) -> None:
    """Raises TaskError when these settings cannot be trained on a split of the task."""
    sizes = {split.train: sum(len(task.clips(name)) for name in split.train) for split in task.data_splits}
    for point in points:
        if point.max_epochs < point.check_val_every_n_epoch:
            raise TaskError(
                f"{task.name}: max_epochs is {point.max_epochs}, and the first check comes after epoch "
                f"{point.check_val_every_n_epoch}; expected max_epochs of {point.check_val_every_n_epoch} or more"
            )
        for names, clips in sizes.items():
            if point.hidden_layers and clips % point.batch_size == 1:
                raise TaskError(
                    f"{task.name}: {clips} clips of {'+'.join(names)} leave a last batch of 1, but batch norm needs 2; "
                    "hear-eval-kit fails on it, too: add or remove a clip"
                )


def read_data(task: TaskFolder, split: DataSplit) -> TaskData:
    """The tensors of one data split of a scene task. task: the folder of its embeddings.

    Raises TaskError as ``read_split`` does, and when splits that are joined differ in the size of their embeddings.
    """
    train, valid, test = (_joined(task, names) for names in (split.train, (split.valid,), (split.test,)))
    return TaskData(train, valid, test, task.prediction_type == "multilabel", task.metrics, monitors_score(task))


def _joined(task: TaskFolder, splits: Sequence[str]) -> Split:
    """Several splits one after the other, in the given order."""
    parts = [read_split(task, split) for split in splits]
    if len({part.embeddings.shape[1] for part in parts}) != 1:
        raise TaskError(
            f"{task.path}: the splits' embeddings differ in size: {[part.embeddings.shape[1] for part in parts]}; "
            "embed the task again"
        )
    if len(parts) == 1:
        return parts[0]
    return Split(torch.cat([part.embeddings for part in parts]), torch.cat([part.targets for part in parts]))


def read_split(task: TaskFolder, split: str) -> Split:
    """One split of a scene task. task: the folder of its embeddings.

    The labels are those of the split's JSON file: the kit's pickle of them is not needed, and not read.

    Raises TaskError when the task is one of events, a file is missing or does not fit the others, an embedding is not
    finite, or a label is not in the vocabulary.
    """
    if task.embedding_type != "scene":
        raise TaskError(
            f"{task.name} is an {task.embedding_type} task; the native engine does scenes: use --engine heareval"
        )
    clips = task.clips(split)
    embeddings = _read_embeddings(task.path, split)
    if len(embeddings) != len(clips):
        raise TaskError(
            f"{task.path}: {len(embeddings)} embeddings of {split}, but {split}.json has {len(clips)} clips; "
            "embed the task again"
        )
    indices = {label: index for index, label in enumerate(task.labels)}
    targets = torch.zeros(len(clips), len(indices))
    for row, clip in zip(targets, task.stored_order[split], strict=True):
        labels = [str(label) for label in clips[clip]]
        if unknown := [label for label in labels if label not in indices]:
            raise TaskError(f"{task.path}: {split}/{clip} has the label {unknown[0]!r}, which is not in the vocabulary")
        if task.prediction_type == "multiclass" and len(labels) != 1:
            raise TaskError(f"{task.path}: {split}/{clip} has {len(labels)} labels; a multiclass task has one for each clip")
        row[[indices[label] for label in labels]] = 1
    return Split(embeddings, targets)


def _read_embeddings(folder: Path, split: str) -> Tensor:
    """The rows of a split's file of embeddings, memory-mapped. Shape: -> (N, D)."""
    path = folder / f"{split}.embeddings.npy"
    shape = read_json(folder / f"{split}.embedding-dimensions.json", TaskError, "embed the task again")
    try:
        count, size = shape
        rows = torch.from_numpy(np.memmap(path, np.float32, "c", shape=(count, size)))
    except (OSError, ValueError, TypeError) as error:
        raise TaskError(f"{path} and its dimensions cannot be read ({error}); embed the task again") from error
    if path.stat().st_size != rows.nbytes:
        raise TaskError(
            f"{path} has {path.stat().st_size} bytes; {count} x {size} floats have {rows.nbytes}: embed the task again"
        )
    if not all(torch.isfinite(part).all() for part in rows.split(ROWS_AT_ONCE)):
        raise TaskError(f"{path} holds NaN or infinity; expected finite embeddings")
    return rows
