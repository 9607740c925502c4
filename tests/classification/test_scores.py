"""Scores of a confusion matrix, by hand and against scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics

from hear_axlstm.classification.pages import confusion_table, per_class_table
from hear_axlstm.classification.scores import accuracy, balanced_accuracy, confusion_matrix, per_class

CLASSES = ["ant", "bee", "<cow>", "dog"]


@pytest.fixture
def guesses():
    rng = np.random.default_rng(0)
    truth = rng.choice(CLASSES[:3], 60)  # no dog is heard
    return truth, np.where(rng.random(60) < 0.6, truth, rng.choice(CLASSES, 60))


def test_scores_are_those_of_scikit_learn(guesses):
    truth, guessed = guesses
    matrix = confusion_matrix(truth, guessed, CLASSES)
    np.testing.assert_array_equal(matrix, metrics.confusion_matrix(truth, guessed, labels=CLASSES))
    assert accuracy(matrix) == metrics.accuracy_score(truth, guessed)
    present = metrics.recall_score(truth, guessed, labels=CLASSES[:3], average="macro")
    assert balanced_accuracy(matrix) == pytest.approx(present)
    expected = metrics.precision_recall_fscore_support(truth, guessed, labels=CLASSES, zero_division=0)
    found = [(one.precision, one.recall, one.f1, one.clips) for one in per_class(matrix, CLASSES)]
    np.testing.assert_allclose(np.array(found).T, expected)


def test_nothing_scores_nothing():
    matrix = confusion_matrix([], [], CLASSES)
    assert accuracy(matrix) == balanced_accuracy(matrix) == 0


def test_pages_show_every_class_and_count(guesses):
    matrix = confusion_matrix(*guesses, CLASSES)
    table, classes = confusion_table(matrix, CLASSES), per_class_table(per_class(matrix, CLASSES))
    assert "&lt;cow&gt;" in table
    assert "<cow>" not in table + classes
    assert table.count("<td style") == 16
    assert f">{matrix[0, 0]}</td>" in table
    assert classes.count('<th scope="row">') == 4
