"""How well a linear classifier tells classes of embeddings apart."""

import numpy as np
from scipy.optimize import minimize

from hear_axlstm.classification.classifier import softmax
from hear_axlstm.classification.regression import Floats, Indices, Split
from hear_axlstm.classification.scores import balanced_accuracy, confusion_matrix
from hear_axlstm.classification.validation import find_splits

PENALTIES = (0.01, 0.001, 0.1)  # one over the strength, as in scikit-learn; of equally good ones the first is taken
FOLDS = 3  # of what is learnt from, to choose the penalty by
GRADIENT = 1e-2  # where the largest is smaller, a regression has been learnt
STEPS = 200  # of a regression, at most


def judged(embeddings: Floats, labels: Indices, units: Indices, splits: list[Split]) -> float:
    """The balanced accuracy of logistic regression on what it has not learnt from.

    embeddings: (N, D). labels: (N,), from 0 on. units: (N,), what must not be divided between learning and testing.
    splits: what to learn from and to test on, one by one; each of them chooses its penalty by what it learns from.
    """
    classes = int(labels.max()) + 1
    guessed = np.full(len(labels), -1)
    for train, test in splits:
        mean, scale = embeddings[train].mean(0), np.maximum(embeddings[train].std(0), 1e-12)
        standardised = (embeddings - mean) / scale
        features = standardised @ np.linalg.svd(standardised[train], full_matrices=False)[2].T
        right = []
        for penalty in PENALTIES:
            found = np.full(len(train), -1)
            for learnt, guess in find_splits(labels[train], units[train], FOLDS, seed=0):
                some, others = train[learnt], train[guess]
                found[guess] = regress(features[some], labels[some], classes, penalty, features[others]).argmax(1)
            right.append(balance(labels[train], found))
        penalty = PENALTIES[int(np.argmax(right))]
        guessed[test] = regress(features[train], labels[train], classes, penalty, features[test]).argmax(1)
    return balance(labels, guessed)


def balance(labels: Indices, guessed: Indices) -> float:
    """The balanced accuracy of what was guessed; -1 is no guess."""
    there = guessed >= 0
    return balanced_accuracy(confusion_matrix(labels[there], guessed[there], np.unique(labels)))


def regress(features: Floats, labels: Indices, classes: int, penalty: float, others: Floats) -> Floats:
    """The probabilities of others by the logistic regression that these clips teach.

    The features are principal components, nearly independent of each other, so that steps of their own sizes lead to the
    weights that scikit-learn finds, in a fraction of its time.

    Shape: (N, R), (N,), (M, R) -> (M, C).
    """
    truth, size = np.eye(classes)[labels], features.shape[1] * classes
    steps = 1 / np.sqrt((features**2).sum(0) / classes + 1 / penalty)[:, None]
    scaled = features * steps.T

    def loss(values: Floats) -> tuple[float, Floats]:
        weight, bias = values[:size].reshape(-1, classes), values[size:]
        found = softmax(scaled @ weight + bias)
        shrunk = weight * steps**2 / penalty
        value = (weight * shrunk).sum() / 2 - np.log(np.maximum((found * truth).sum(1), 1e-300)).sum()
        wrong = found - truth
        return value, np.concatenate([(scaled.T @ wrong + shrunk).ravel(), wrong.sum(0)])

    options = {"maxiter": STEPS, "ftol": 0.0, "gtol": GRADIENT}
    values = minimize(loss, np.zeros(size + classes), jac=True, method="L-BFGS-B", options=options).x
    return softmax((others * steps.T) @ values[:size].reshape(-1, classes) + values[size:])
