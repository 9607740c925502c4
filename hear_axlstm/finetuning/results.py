"""Guesses of clips -> scores, and a finished run -> its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from hear_axlstm.classification.classifier import Classifier
from hear_axlstm.classification.labelled import Labelled
from hear_axlstm.classification.scores import accuracy, balanced_accuracy, confusion_matrix, per_class
from hear_axlstm.embedder import Embedder
from hear_axlstm.errors import ConfigError
from hear_axlstm.files import embed

Scores = dict[str, Any]


def scores_of(truth: Sequence[str], guessed: Sequence[str], classes: Sequence[str]) -> Scores:
    """Accuracy, balanced accuracy, scores of each class and the confusion matrix (true classes down), for JSON."""
    matrix = confusion_matrix(truth, guessed, classes)
    return {
        "clips": len(truth),
        "accuracy": accuracy(matrix),
        "balanced_accuracy": balanced_accuracy(matrix),
        "per_class": [asdict(one) for one in per_class(matrix, classes)],
        "confusion": matrix.tolist(),
    }


def scores_on(classifier: Classifier, model: Embedder, test: Labelled, *, progress: bool | None) -> Scores:
    """The scores of sounds that were not learnt from, and why some of them could not be read, as "failures".

    Raises ConfigError where none could be read.
    """
    embedded = embed(test.sounds, model, progress=progress)
    if not embedded.ok.any():
        why = next(iter(embedded.failures.values()), "")
        raise ConfigError(
            f"none of the {len(test.sounds)} test sounds can be read ({why}); expected sounds of these classes"
        )
    read, embeddings = np.flatnonzero(embedded.ok), embedded.matrix
    guesses = classifier.probabilities(embeddings[read]).argmax(1)
    guessed = [classifier.classes[index] for index in guesses]
    return {**scores_of([test.labels[index] for index in read], guessed, classifier.classes), "failures": embedded.failures}
