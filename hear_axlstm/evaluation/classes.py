"""Probabilities and targets of a task's test clips -> its results class by class, as a score keeps them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hear_axlstm.evaluation.metrics import average_precisions

ByClass = NDArray[Any]
Confusion = dict[str, dict[str, int]]  # true class -> guessed class -> clips; a class without clips is there, and empty
Precisions = dict[str, dict[str, float]]  # class -> "average_precision", and "clips" that have it


def checked(confusion: Confusion) -> Confusion:
    """The confusion as it was kept. Raises ValueError, TypeError or AttributeError where it is none."""
    if strange := {guess for guesses in confusion.values() for guess in guesses} - confusion.keys():
        raise ValueError(f"{min(strange)} is no class")
    return {true: {guess: int(clips) for guess, clips in guesses.items()} for true, guesses in confusion.items()}


def by_class(probabilities: Tensor, targets: Tensor, multilabel: bool) -> list[ByClass]:
    """What each of R trainings makes of every class.

    Shape: probabilities (R, N, C), targets (N, C) -> R of (C, C), how many clips of each class were taken for which; of a
    multilabel task R of (C,), the average precisions.
    """
    if multilabel:
        return list(average_precisions(probabilities, targets).cpu().numpy())
    labels = targets.shape[1]
    pairs = targets.argmax(-1) * labels + probabilities.argmax(-1)
    return [torch.bincount(own, minlength=labels**2).view(labels, labels).cpu().numpy() for own in pairs]


def named(
    found: Mapping[str, ByClass], labels: Sequence[str], clips: Mapping[str, Iterable[Sequence[Any]]]
) -> tuple[dict[str, Confusion], dict[str, Precisions]]:
    """The results by test split with the names of the classes: confusions, average precisions.

    clips: the labels of every clip, by test split.
    """
    confusions: dict[str, Confusion] = {}
    precisions: dict[str, Precisions] = {}
    for split, values in found.items():
        if values.ndim == 2:
            confusions[split] = {
                true: {labels[guess]: int(row[guess]) for guess in np.flatnonzero(row).tolist()}
                for true, row in zip(labels, values, strict=True)
            }
        else:
            have = Counter(str(label) for own in clips[split] for label in set(own))
            precisions[split] = {
                label: {"average_precision": float(value), "clips": have[label]}
                for label, value in zip(labels, values, strict=True)
            }
    return confusions, precisions
