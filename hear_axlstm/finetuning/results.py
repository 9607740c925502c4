"""Guesses of clips -> scores, and a finished run -> its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from hear_axlstm.classification.classifier import PAD_SHORT, Classifier
from hear_axlstm.classification.labelled import Labelled
from hear_axlstm.classification.scores import Scores, confusion_matrix
from hear_axlstm.embedder import Embedder
from hear_axlstm.errors import ConfigError
from hear_axlstm.files import embed


def scores_of(truth: Sequence[str], guessed: Sequence[str], classes: Sequence[str]) -> dict[str, Any]:
    """Accuracy and its interval, scores of each class and the confusion matrix (true classes down), for JSON."""
    scores = Scores(classes=list(classes), confusion=confusion_matrix(truth, guessed, classes), units=len(truth))
    return {
        **scores.facts(),
        "clips": len(truth),
        "per_class": [asdict(one) for one in scores.per_class],
        "confusion": scores.confusion.tolist(),
    }


def choice_of(epochs: int) -> str:
    """What the clips that were set apart chose in a run of so many epochs: none where the encoder is frozen."""
    return "the epoch and the head's penalty" if epochs else "the head's penalty"


def scores_on(classifier: Classifier, model: Embedder, test: Labelled, *, progress: bool | None) -> dict[str, Any]:
    """The scores of sounds that were not learnt from, and why some of them could not be read, as "failures".

    Short sounds are padded where those were that the classifier learnt from.

    Raises ConfigError where none could be read.
    """
    embedded = embed(test.sounds, model, pad_short=bool(classifier.facts.get(PAD_SHORT)), progress=progress)
    if not embedded.ok.any():
        why = next(iter(embedded.failures.values()), "")
        raise ConfigError(
            f"none of the {len(test.sounds)} test sounds can be read ({why}); expected sounds of these classes"
        )
    read, embeddings = np.flatnonzero(embedded.ok), embedded.matrix
    guesses = classifier.probabilities(embeddings[read]).argmax(1)
    guessed = [classifier.classes[index] for index in guesses]
    return {**scores_of([test.labels[index] for index in read], guessed, classifier.classes), "failures": embedded.failures}
