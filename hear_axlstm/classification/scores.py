"""True and guessed labels -> the confusion matrix, and the scores of each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.int64]


@dataclass(frozen=True)
class ClassScore:
    """How well one class is told from the others. precision, recall, f1: 0 to 1. clips: those truly of it."""

    name: str
    precision: float
    recall: float
    f1: float
    clips: int


def confusion_matrix(truth: Sequence[str], guessed: Sequence[str], classes: Sequence[str]) -> Matrix:
    """How many clips of each class were taken for which. Shape: -> (C, C), true classes down, guessed ones across.

    >>> confusion_matrix(["a", "a", "b"], ["a", "b", "b"], ["a", "b"]).tolist()
    [[1, 1], [0, 1]]
    """
    place = {name: index for index, name in enumerate(classes)}
    matrix = np.zeros((len(classes), len(classes)), dtype=np.int64)
    for true, guess in zip(truth, guessed, strict=True):
        matrix[place[true], place[guess]] += 1
    return matrix


def per_class(matrix: Matrix, classes: Sequence[str]) -> list[ClassScore]:
    """Precision, recall and their harmonic mean, of each class of a confusion matrix."""
    right, taken, clips = np.diag(matrix), matrix.sum(0), matrix.sum(1)
    return [
        ClassScore(
            name,
            precision=_share(right[index], taken[index]),
            recall=_share(right[index], clips[index]),
            f1=_share(2 * right[index], taken[index] + clips[index]),
            clips=int(clips[index]),
        )
        for index, name in enumerate(classes)
    ]


def accuracy(matrix: Matrix) -> float:
    """The share of clips on the diagonal of a confusion matrix, 0 to 1."""
    return _share(np.trace(matrix), matrix.sum())


def balanced_accuracy(matrix: Matrix) -> float:
    """The mean recall of the classes that have clips, 0 to 1: each class counts as much as another, however rare."""
    clips = matrix.sum(1)
    recalls = np.diag(matrix)[clips > 0] / clips[clips > 0]
    return float(recalls.mean()) if len(recalls) else 0.0


def _share(part: np.int64, whole: np.int64) -> float:
    return float(part / whole) if whole else 0.0
