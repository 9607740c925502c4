"""Embeddings of a task's splits -> tensors, in the order that the kit stores and trains them in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hear_axlstm.errors import TaskError
from hear_axlstm.evaluation.tasks.taskfolder import TaskFolder

ROWS_AT_ONCE = 4_096  # looked at for NaN


@dataclass(frozen=True)
class Split:
    """embeddings: (N, D), float32, memory-mapped where they are one file. targets: (N, C), float32, 1 for each label."""

    embeddings: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.embeddings)


def read_split(task: TaskFolder, split: str) -> Split:
    """A split of a scene task. task: the folder of its embeddings.

    The labels are those of the split's JSON file: the kit's pickle of them is not needed, and not read. Raises TaskError
    when a file is missing or does not fit the others, an embedding is not finite, or a label is not in the vocabulary.
    """
    if task.embedding_type != "scene":
        raise TaskError(
            f"{task.name} is an {task.embedding_type} task; the native engine does scenes: use --engine heareval"
        )
    clips = task.clips(split)
    embeddings = _read_embeddings(task.path, split)
    if len(embeddings) != len(clips):
        raise TaskError(f"{task.path}: {len(embeddings)} embeddings of {split}, but {split}.json has {len(clips)} clips")
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


def read_splits(task: TaskFolder, splits: Sequence[str]) -> Split:
    """Several splits one after the other. Raises TaskError."""
    parts = [read_split(task, split) for split in splits]
    if len({part.embeddings.shape[1] for part in parts}) != 1:
        raise TaskError(
            f"{task.path}: the splits' embeddings differ in size: {[part.embeddings.shape[1] for part in parts]}"
        )
    if len(parts) == 1:
        return parts[0]
    return Split(torch.cat([part.embeddings for part in parts]), torch.cat([part.targets for part in parts]))


def _read_embeddings(folder: Path, split: str) -> Tensor:
    path = folder / f"{split}.embeddings.npy"
    try:
        count, size = json.loads((folder / f"{split}.embedding-dimensions.json").read_text(encoding="utf-8"))
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
