"""The engine "linear": embeddings of a scene task with one label a clip -> scores. Needs scikit-learn, the extra [probe]."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hear_axlstm.classification.regression import Span, require_packages
from hear_axlstm.errors import TaskError
from hear_axlstm.evaluation.classes import by_class
from hear_axlstm.evaluation.metrics import accuracy, score
from hear_axlstm.evaluation.native.data import Split, read_data
from hear_axlstm.evaluation.protocols import Protocol
from hear_axlstm.evaluation.results import Outcome
from hear_axlstm.evaluation.tasks.taskfolder import TaskFolder, read_task

FOLDS = 5  # of the clips to learn from, to choose the penalty by
NEIGHBOURS = 5


def require_scikit_learn() -> None:
    """Raises ConfigError, which names the extra, when scikit-learn is not installed."""
    require_packages("the linear engine", "probe", sklearn="scikit-learn")


def check_one_label(task: TaskFolder) -> None:
    """Raises TaskError when a task is not one of scenes with one label each, which logistic regression can tell apart."""
    if (task.embedding_type, task.prediction_type) != ("scene", "multiclass"):
        raise TaskError(
            f"{task.name} is a {task.prediction_type} {task.embedding_type} task; the linear engine does scenes with one "
            "label each: use --engine native or heareval"
        )


def evaluate_linear(embeddings: Path, protocol: Protocol, seed: int = 0) -> Outcome:
    """The scores of logistic regression on standardised embeddings, and of the 5 nearest neighbours by cosine distance.

    embeddings: the task's folder of them. Train and validation clips are learnt from. protocol: the C, one over the strength
    of the penalty, with the best cross-validated accuracy on the first data split is taken for all. Nothing is random: seed
    must be 0. The neighbours' accuracy is "test_knn_acc", beside the metrics of the task.

    Raises TaskError when the task is of another kind, its embeddings do not fit it, or the clips have one label only.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.neighbors import KNeighborsClassifier
    from threadpoolctl import threadpool_limits

    assert seed == 0, "evaluate refuses other seeds"
    task = read_task(embeddings)
    check_one_label(task)
    grid, splits, classes = {"C": list(protocol.grid["C"])}, {}, {}
    with threadpool_limits(1):  # threads that wait for each other cost more than such small matrices
        for names in task.data_splits:
            data = read_data(task, names)
            clips = Split(*(torch.cat(parts) for parts in zip(astuple(data.train), astuple(data.valid), strict=True)))
            rarest = int(clips.targets.sum(0)[clips.targets.any(0)].min())
            folds = StratifiedKFold(max(2, min(FOLDS, rarest)))
            regression = GridSearchCV(LogisticRegression(max_iter=1_000), grid, cv=folds)
            neighbours = KNeighborsClassifier(min(NEIGHBOURS, len(clips)), metric="cosine")
            found, nearest = (learnt(clips, classifier)(data.test.embeddings) for classifier in (regression, neighbours))
            scores = {f"test_{metric}": score(metric, found, data.test.targets) for metric in task.metrics}
            (classes[names.test],) = by_class(found[None], data.test.targets, multilabel=False)
            splits[names.test] = {
                "test_score": scores[f"test_{task.metrics[0]}"],
                **scores,
                "test_knn_acc": float(accuracy(nearest, data.test.targets)),
                "cross_validated_acc": float(regression.best_score_),
            }
            grid = {"C": [regression.best_params_["C"]]}
    return Outcome(splits, {"C": grid["C"][0]}, classes)


def learnt(clips: Split, classifier: Any) -> Callable[[Tensor], Tensor]:
    """Fit a classifier of scikit-learn to embeddings, each number standardised over the clips.

    Returns a function of embeddings (N, D), from which it gives the probability of each label, (N, C) float64. Raises
    TaskError when all clips have the same label.
    """
    labels = clips.targets.argmax(1).numpy()
    if len(np.unique(labels)) < 2:
        raise TaskError(f"all {len(clips)} clips to learn from have the same label; expected clips of at least two labels")
    embedded = clips.embeddings.double().numpy()
    span = Span.of(embedded)
    classifier.fit(span(embedded), labels)

    def probabilities(embeddings: Tensor) -> Tensor:
        found = torch.zeros(len(embeddings), clips.targets.shape[1], dtype=torch.float64)
        features = span(embeddings.double().numpy())
        found[:, classifier.classes_] = torch.from_numpy(classifier.predict_proba(features))
        return found

    return probabilities
