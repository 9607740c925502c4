"""Guesses of clips -> scores, and a finished run -> its files."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from typing import Any

import numpy as np

from hear_axlstm.classification.classifier import Classifier
from hear_axlstm.classification.labelled import Labelled
from hear_axlstm.classification.scores import accuracy, balanced_accuracy, confusion_matrix, per_class
from hear_axlstm.embedder import Embedder
from hear_axlstm.errors import ConfigError
from hear_axlstm.files.decode import decode_batches
from hear_axlstm.files.find import plan
from hear_axlstm.files.outcomes import encode_ahead
from hear_axlstm.progress import progress_bar

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


def scores_on(classifier: Classifier, model: Embedder, test: Labelled, *, progress: bool) -> Scores:
    """The scores of sounds that were not learnt from, and why some of them could not be read, as "failures".

    Raises ConfigError where none could be read.
    """
    planned = plan(test.sounds)
    embeddings = np.full((len(test.sounds), model.scene_embedding_size), np.nan, dtype=np.float32)
    failures = dict(planned.failures)
    total = sum(map(len, planned.batches))
    with (
        progress_bar(total=total, unit=" clips", desc="test", shown=progress) as bar,
        closing(encode_ahead(decode_batches(planned.batches), model)) as outcomes,
    ):
        for outcome in outcomes:
            if outcome.embedding is None:
                failures[outcome.name] = outcome.failure
            else:
                embeddings[outcome.index] = outcome.embedding
            bar.update()
    read = np.flatnonzero(np.isfinite(embeddings).all(1))
    if not len(read):
        raise ConfigError(f"none of the {len(test.sounds)} test sounds can be read: {next(iter(failures.values()), '')}")
    guesses = classifier.probabilities(embeddings[read]).argmax(1)
    guessed = [classifier.classes[index] for index in guesses]
    return {**scores_of([test.labels[index] for index in read], guessed, classifier.classes), "failures": failures}
