"""Logistic regression on standardised embeddings. Needs scikit-learn."""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hear_axlstm.classification.classifier import softmax, unstandardised
from hear_axlstm.errors import ConfigError

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Split = tuple[Indices, Indices]  # of what to learn from, and what to test on

PENALTIES = (0.01, 0.1, 1.0, 10.0)  # scikit-learn's C: one over the strength of the penalty
PENALTY_OF_FEW = 0.1  # where there are too few clips to choose by
ENOUGH = 4  # clips of the rarest class to choose by
FOLDS = 5  # of the clips to learn from, to choose by
LEAST = 1e-12  # a probability, as far as its logarithm is concerned
ITERATIONS = 1_000


def require_packages(what: str, extra: str, **packages: str) -> None:
    """Raise ConfigError, which names the extra, unless these packages can be imported: import name = its name for pip."""
    missing = []
    for module, name in packages.items():
        try:
            importlib.import_module(module)
        except ImportError:
            missing.append(name)
    if missing:
        raise ConfigError(f"{what} needs {' and '.join(missing)}: pip install 'hear-axlstm[{extra}]'")


@dataclass(frozen=True)
class Span:
    """Standardised embeddings, in the axes that the clips span: R numbers, where they have D.

    The weights of a penalised regression lie in that span, so that fewer numbers give the same answer.
    mean, scale: (D,), of the clips. axes: (D, R), orthogonal.
    """

    mean: Floats
    scale: Floats
    axes: Floats

    @classmethod
    def of(cls, embeddings: Floats) -> Span:
        """The span of clips. Shape: (N, D)."""
        from sklearn.preprocessing import StandardScaler

        scaler = StandardScaler().fit(embeddings)
        return cls(scaler.mean_, scaler.scale_, np.linalg.qr(scaler.transform(embeddings).T)[0])

    def __call__(self, embeddings: Floats) -> Floats:
        """Embeddings of any clips in these axes. Shape: (N, D) -> (N, R)."""
        return ((embeddings - self.mean) / self.scale) @ self.axes


@dataclass(frozen=True)
class Regression:
    """Logistic regression of C classes in a span. weight: (C, R). bias: (C,), -inf for classes that were not learnt."""

    span: Span
    weight: Floats
    bias: Floats

    def probabilities(self, embeddings: Floats) -> Floats:
        """How likely each class is. Shape: (N, D) -> (N, C)."""
        return softmax(self.span(embeddings) @ self.weight.T + self.bias)

    def unfolded(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The same for plain embeddings, without standardising them: a weight (C, D) and a bias (C,)."""
        return unstandardised(self.weight @ self.span.axes.T, self.bias, self.span.mean, self.span.scale)


def learn(embeddings: Floats, labels: Indices, classes: int, penalty: float) -> Regression:
    """The regression that these clips teach. embeddings: (N, D). labels: (N,), 0 to classes - 1, of two kinds or more."""
    span = Span.of(embeddings)
    return Regression(span, *_fit(span(embeddings), labels, classes, penalty))


def choose_penalty(embeddings: Floats, labels: Indices, classes: int, splits: list[Split]) -> float:
    """The one of PENALTIES that finds the labels likeliest, over the splits; PENALTY_OF_FEW where there are none."""
    losses = np.zeros(len(PENALTIES))
    if splits:
        features = Span.of(embeddings)(embeddings)
    for train, test in splits:
        for place, penalty in enumerate(PENALTIES):
            weight, bias = _fit(features[train], labels[train], classes, penalty)
            found = softmax(features[test] @ weight.T + bias)[np.arange(len(test)), labels[test]]
            losses[place] -= np.log(np.maximum(found, LEAST)).sum()
    return PENALTIES[int(losses.argmin())] if splits else PENALTY_OF_FEW


def _fit(features: Floats, labels: Indices, classes: int, penalty: float) -> tuple[Floats, Floats]:
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():  # of many classes with few clips each, which is nothing unusual here
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        fitted = LogisticRegression(C=penalty, max_iter=ITERATIONS).fit(features, labels)
    weight, bias = np.zeros((classes, features.shape[1])), np.full(classes, -np.inf)
    coefficients, intercept = fitted.coef_, fitted.intercept_
    if len(fitted.classes_) == 2:  # one row, for the second class against the first
        coefficients, intercept = (np.concatenate([-half, half]) for half in (coefficients / 2, intercept / 2))
    weight[fitted.classes_], bias[fitted.classes_] = coefficients, intercept
    return weight, bias
