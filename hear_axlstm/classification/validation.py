"""Labelled embeddings -> how well a classifier of them guesses sounds that it has not learnt from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hear_axlstm.classification.regression import (
    ENOUGH,
    FOLDS,
    Floats,
    Indices,
    Regression,
    Split,
    choose_penalty,
    learn,
)
from hear_axlstm.errors import ConfigError
from hear_axlstm.progress import progress_bar

DRAWS, DRAWN_AGAIN = 3, 8  # of so many clips a class or fewer, several draws are made


@dataclass(frozen=True)
class CurvePoint:
    """How well a classifier guesses that learns from ``clips`` clips of each class at most. accuracy: 0 to 1."""

    clips: int
    accuracy: float


@dataclass(frozen=True)
class Validation:
    """Guesses of sounds, each by a classifier that did not learn from it nor from those that it belongs together with.

    probabilities: (N, C). fold: (N,), from 0 on, in which a sound was tested. penalties: of each fold. curve: by the number
    of clips that were learnt from; the last point is of all.
    """

    probabilities: Floats
    fold: Indices
    penalties: list[float]
    curve: list[CurvePoint]

    @property
    def guesses(self) -> Indices:
        """The likeliest class of each sound, (N,)."""
        return self.probabilities.argmax(1)


def rarest(labels: Indices, units: Indices) -> int:
    """How many units the class has that has the fewest; copies count once."""
    return min(len(np.unique(units[labels == label])) for label in np.unique(labels))


def find_splits(labels: Indices, units: Indices, folds: int, seed: int) -> list[Split]:
    """The sounds to learn from and to test on, fold by fold, with the classes as even as units allow.

    There are as many folds as the rarest class has units, at most; none where it has one.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    count = min(folds, rarest(labels, units))
    if count < 2:
        return []
    alone = len(np.unique(units)) == len(units)
    kind = StratifiedKFold if alone else StratifiedGroupKFold
    splits = kind(count, shuffle=True, random_state=seed).split(labels, labels, None if alone else units)
    return [(train, test) for train, test in splits if len(test)]


def cross_validate(
    embeddings: Floats, labels: Indices, units: Indices, classes: int, *, folds: int, seed: int, progress: bool | None
) -> Validation:
    """Learn from all folds but one, test on that one, and so for each. embeddings: (N, D). labels, units: (N,).

    Raises ConfigError where all that can be learnt from in a fold is of one class.
    """
    splits = find_splits(labels, units, folds, seed)
    found, fold = np.zeros((len(labels), classes)), np.full(len(labels), -1)
    penalties, sizes = [], _sizes(labels, splits)
    right = np.zeros(len(sizes))
    for number, (train, test) in enumerate(progress_bar(splits, unit="fold", desc="learn", shown=progress)):
        if len(np.unique(labels[train])) < 2:
            raise ConfigError("the groups leave only one class to learn from in a fold; expected classes of more groups")
        penalty = _penalty(embeddings[train], labels[train], units[train], classes, seed)
        found[test] = learn(embeddings[train], labels[train], classes, penalty).probabilities(embeddings[test])
        fold[test] = number
        penalties.append(penalty)
        rng = np.random.default_rng((seed, number))
        for place, size in enumerate(sizes):
            draws = list(_draws(train, labels, size, rng))
            for some in draws:
                guesses = learn(embeddings[some], labels[some], classes, penalty).probabilities(embeddings[test]).argmax(1)
                right[place] += (guesses == labels[test]).sum() / len(draws)
    points = [CurvePoint(size, float(share)) for size, share in zip(sizes, right / len(labels), strict=True)]
    most = max(int(np.bincount(labels[train]).max()) for train, _ in splits)
    return Validation(found, fold, penalties, [*points, CurvePoint(most, float((found.argmax(1) == labels).mean()))])


def learn_from_all(embeddings: Floats, labels: Indices, units: Indices, classes: int, seed: int) -> tuple[Regression, float]:
    """The regression that all sounds teach, and its penalty."""
    penalty = _penalty(embeddings, labels, units, classes, seed)
    return learn(embeddings, labels, classes, penalty), penalty


def _penalty(embeddings: Floats, labels: Indices, units: Indices, classes: int, seed: int) -> float:
    splits = find_splits(labels, units, FOLDS, seed) if rarest(labels, units) >= ENOUGH else []
    usable = [(train, test) for train, test in splits if len(np.unique(labels[train])) > 1]
    return choose_penalty(embeddings, labels, classes, usable)


def _sizes(labels: Indices, splits: list[Split]) -> list[int]:
    """1, 2, 4, ... clips of a class, fewer than the largest class has to learn from in any fold."""
    most = min(int(np.bincount(labels[train]).max()) for train, _ in splits)
    return [2**power for power in range(most.bit_length()) if 2**power < most]


def _draws(train: Indices, labels: Indices, size: int, rng: np.random.Generator) -> Iterator[Indices]:
    """Clips to learn from, ``size`` of each class at most, drawn once or several times."""
    for _ in range(DRAWS if size <= DRAWN_AGAIN else 1):
        shuffled = rng.permutation(train)
        yield np.concatenate([shuffled[labels[shuffled] == label][:size] for label in np.unique(labels[train])])
