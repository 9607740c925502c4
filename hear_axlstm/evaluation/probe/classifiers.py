"""Features of train and test clips -> accuracy on the test clips. Needs scikit-learn, the extra [probe]."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hear_axlstm.errors import ConfigError
from hear_axlstm.evaluation.probe.features import Features

Classifier = Literal["logistic", "knn"]
Labels = NDArray[np.int64]

STRENGTHS = (0.001, 0.01, 0.1, 1.0)  # C of the logistic regression: one over the strength of its penalty
FOLDS = 5  # of the train clips, to choose among them
NEIGHBOURS = 5


def require_scikit_learn() -> str:
    """The installed version. Raises ConfigError, which names the extra, when there is none."""
    try:
        import sklearn
    except ImportError as error:
        raise ConfigError("the probe needs scikit-learn: pip install 'hear-axlstm[probe]'") from error
    return str(sklearn.__version__)


def accuracies(train: Features, train_labels: Labels, test: Features, test_labels: Labels) -> dict[Classifier, float]:
    """Share of the test clips classified rightly, 0 to 1, from features standardised by the train clips.

    "logistic": logistic regression, its penalty chosen by cross-validation over the train clips. "knn": the vote of the 5
    train clips at the smallest cosine distance. Both are deterministic.

    Shape: features (n, D), labels (n,); at least 2 train clips of each class.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    scaler = StandardScaler().fit(train.astype(np.float64))
    train, test = scaler.transform(train), scaler.transform(test)
    logistic = GridSearchCV(
        LogisticRegression(max_iter=1_000),
        {"C": STRENGTHS},
        cv=StratifiedKFold(min(FOLDS, int(np.bincount(train_labels).min()))),
    )
    # The weights of a penalised regression lie in the span of the train clips: its axes, fewer than D, give the same answer.
    axes = np.linalg.svd(train, full_matrices=False)[2].T
    knn = KNeighborsClassifier(min(NEIGHBOURS, len(train)), metric="cosine")
    with threadpool_limits(1):  # threads that wait for each other cost more than such small matrices
        return {
            "logistic": float(logistic.fit(train @ axes, train_labels).score(test @ axes, test_labels)),
            "knn": float(knn.fit(train, train_labels).score(test, test_labels)),
        }
