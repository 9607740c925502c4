"""True and guessed labels -> the confusion matrix, and the scores of each class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Z = 1.959964  # standard deviations of 95 %

Matrix = NDArray[np.int64]


@dataclass(frozen=True)
class ClassScore:
    """How well one class is told from the others. precision, recall, f1: 0 to 1. clips: those truly of it."""

    name: str
    precision: float
    recall: float
    f1: float
    clips: int


@dataclass(frozen=True)
class Confusion:
    """Two classes that were taken for each other. count: sounds of ``true`` that were taken for ``guess``, of ``clips``."""

    true: str
    guess: str
    count: int
    clips: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Scores:
    """How well sounds of known classes were guessed. All shares are 0 to 1.

    classes: C names. confusion: (C, C), how many sounds of each class, row by row, were taken for which. units: how many
    sounds there are that do not belong together, which the interval is about.
    """

    classes: list[str]
    confusion: Matrix
    units: int

    @property
    def accuracy(self) -> float:
        """The share of sounds whose class was guessed."""
        return accuracy(self.confusion)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy, by Wilson, as if sounds that belong together were one sound."""
        return wilson(self.accuracy, self.units)

    @property
    def chance(self) -> float:
        """The accuracy of always guessing the largest class."""
        return _share(self.confusion.sum(1).max(initial=0), self.confusion.sum())

    @property
    def balanced_accuracy(self) -> float:
        """The mean recall of the classes, which is 1 / C by chance."""
        return balanced_accuracy(self.confusion)

    @property
    def per_class(self) -> list[ClassScore]:
        """Precision, recall and F1 of each class."""
        return per_class(self.confusion, self.classes)

    @property
    def confusions(self) -> list[Confusion]:
        """The pairs of classes that were confused, those that were confused most often first."""
        return confusions(self.confusion, self.classes)

    def facts(self) -> dict[str, Any]:
        """The numbers, as JSON can hold them."""
        clips = {one.name: one.clips for one in self.per_class}
        return {
            "accuracy": self.accuracy,
            "interval": list(self.interval),
            "chance": self.chance,
            "balanced_accuracy": self.balanced_accuracy,
            "clips": clips,
        }


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


def confusions(matrix: Matrix, classes: Sequence[str]) -> list[Confusion]:
    """The pairs of classes that were confused, those that were confused most often first.

    >>> confusions(np.array([[3, 1], [2, 0]]), ["a", "b"])[0]
    Confusion(true='b', guess='a', count=2, clips=2)
    """
    clips = matrix.sum(1)
    found = [
        Confusion(classes[true], classes[guess], int(matrix[true, guess]), int(clips[true]))
        for true, guess in np.argwhere(matrix)
        if true != guess
    ]
    return sorted(found, key=lambda one: (-one.count, -one.count / one.clips))


def accuracy(matrix: Matrix) -> float:
    """The share of clips on the diagonal of a confusion matrix, 0 to 1."""
    return _share(np.trace(matrix), matrix.sum())


def balanced_accuracy(matrix: Matrix) -> float:
    """The mean recall of the classes that have clips, 0 to 1: each class counts as much as another, however rare."""
    clips = matrix.sum(1)
    recalls = np.diag(matrix)[clips > 0] / clips[clips > 0]
    return float(recalls.mean()) if len(recalls) else 0.0


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval, by Wilson, of a share that was seen among so many; from 0 to 1 for none.

    >>> [round(end, 3) for end in wilson(0.9, 50)]
    [0.786, 0.957]
    """
    if not count:
        return 0.0, 1.0
    centre = share + Z**2 / (2 * count)
    spread = Z * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    return max(0.0, (centre - spread) / (1 + Z**2 / count)), min(1.0, (centre + spread) / (1 + Z**2 / count))


def _share(part: np.int64, whole: np.int64) -> float:
    return float(part / whole) if whole else 0.0
