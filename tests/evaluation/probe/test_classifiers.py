"""From features to accuracy."""

import sys

import numpy as np
import pytest

from hear_axlstm.errors import ConfigError
from hear_axlstm.evaluation.probe.classifiers import accuracies, require_scikit_learn

CLASSES, CLIPS = 4, 80
LABELS = np.arange(CLIPS) % CLASSES


def features(seed, size=50, distance=6.0):
    """Clouds, one a class, whose centres lie ``distance`` along their own axis."""
    rng = np.random.default_rng(seed)
    clouds = rng.standard_normal((CLIPS, size))
    clouds[np.arange(CLIPS), LABELS] += distance
    return clouds.astype(np.float32)


def test_separable_features_are_told_apart():
    train, test = features(0, size=6, distance=20), features(1, size=6, distance=20)
    assert accuracies(train, LABELS, test, LABELS) == {"logistic": 1.0, "knn": 1.0}


def test_shuffled_labels_give_chance():
    rng = np.random.default_rng(2)
    for accuracy in accuracies(features(0), rng.permutation(LABELS), features(1), rng.permutation(LABELS)).values():
        assert accuracy == pytest.approx(1 / CLASSES, abs=0.15)


def test_scale_and_offset_of_a_feature_do_not_matter():
    rng = np.random.default_rng(3)
    scale, offset = np.exp(rng.standard_normal(50)), rng.standard_normal(50)
    train, test = features(0, distance=2), features(1, distance=2)
    moved = accuracies(train * scale + offset, LABELS, test * scale + offset, LABELS)
    assert moved == pytest.approx(accuracies(train, LABELS, test, LABELS), abs=2 / CLIPS)


def test_the_same_features_give_the_same_accuracy():
    train, test = features(0, distance=1.5), features(1, distance=1.5)
    assert accuracies(train, LABELS, test, LABELS) == accuracies(train, LABELS, test, LABELS)


def test_features_that_never_change_and_few_clips_are_no_trouble():
    train, test = (np.pad(features(seed, size=8)[:8], ((0, 0), (0, 300)), constant_values=1.0) for seed in (0, 1))
    assert accuracies(train, LABELS[:8], test, LABELS[:8])["logistic"] >= 0.75


def test_more_features_than_clips_give_what_plain_logistic_regression_gives():
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.preprocessing import StandardScaler

    from hear_axlstm.evaluation.probe.classifiers import FOLDS, STRENGTHS

    train, test = features(0, 300, distance=2).astype(float), features(1, 300, distance=2).astype(float)
    scaler = StandardScaler().fit(train)
    search = GridSearchCV(LogisticRegression(max_iter=1_000), {"C": STRENGTHS}, cv=StratifiedKFold(FOLDS))
    expected = search.fit(scaler.transform(train), LABELS).score(scaler.transform(test), LABELS)
    assert accuracies(train, LABELS, test, LABELS)["logistic"] == pytest.approx(expected, abs=2 / CLIPS)


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ConfigError, match=r"pip install 'hear-axlstm\[probe\]'"):
        require_scikit_learn()
