"""Cross-validation, the regression in it, and the page of a result."""

import re

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from hear_axlstm.classification.apply import SoundClassifier
from hear_axlstm.classification.classifier import Classifier
from hear_axlstm.classification.labelled import Labelled
from hear_axlstm.classification.outcome import Classified, flattened
from hear_axlstm.classification.page import to_page
from hear_axlstm.classification.regression import learn
from hear_axlstm.classification.scores import confusion_matrix
from hear_axlstm.classification.units import check_apart, find_copies, find_units
from hear_axlstm.classification.validation import CurvePoint, Validation, cross_validate, find_splits
from hear_axlstm.errors import ConfigError
from hear_axlstm.files.sounds import FileSound

CLIPS, SIZE = 40, 30


def clouds(classes, distance=3.0, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(CLIPS) % classes
    embeddings = rng.standard_normal((CLIPS, SIZE)) * np.exp(rng.standard_normal(SIZE)) + 5
    embeddings[np.arange(CLIPS), labels] += distance
    return embeddings, labels


@pytest.mark.parametrize("classes", [2, 3])
def test_the_unfolded_regression_is_that_of_scikit_learn(classes):
    embeddings, labels = clouds(classes)
    scaler = StandardScaler().fit(embeddings)
    plain = LogisticRegression(C=1.0, max_iter=1_000, tol=1e-8).fit(scaler.transform(embeddings), labels)
    regression = learn(embeddings, labels, classes, 1.0)
    expected = plain.predict_proba(scaler.transform(embeddings))
    np.testing.assert_allclose(regression.probabilities(embeddings), expected, atol=2e-3)
    saved = Classifier(*regression.unfolded(), [str(label) for label in range(classes)])
    np.testing.assert_allclose(saved.probabilities(embeddings), regression.probabilities(embeddings), atol=1e-5)


def test_a_class_that_was_not_learnt_is_never_guessed():
    embeddings, labels = clouds(3)
    found = learn(embeddings[labels < 2], labels[labels < 2], 3, 1.0).probabilities(embeddings)
    assert (found[:, 2] == 0).all()
    np.testing.assert_allclose(found.sum(1), 1)


def test_what_cannot_be_told_apart_scores_like_chance():
    embeddings, labels = clouds(2, distance=0.0)
    found = cross_validate(embeddings, labels, np.arange(CLIPS), 2, folds=5, seed=0, progress=False)
    assert abs((found.guesses == labels).mean() - 0.5) < 0.25
    again = cross_validate(embeddings, labels, np.arange(CLIPS), 2, folds=5, seed=0, progress=False)
    np.testing.assert_array_equal(found.probabilities, again.probabilities)


def test_the_curve_ends_at_the_accuracy_of_all():
    embeddings, labels = clouds(2)
    found = cross_validate(embeddings, labels, np.arange(CLIPS), 2, folds=5, seed=0, progress=False)
    assert [point.clips for point in found.curve] == [1, 2, 4, 8, 16]
    assert found.curve[-1].accuracy == (found.guesses == labels).mean()


def test_units_are_never_divided_and_every_sound_is_tested_once():
    labels, units = np.arange(CLIPS) % 2, np.arange(CLIPS) // 4
    splits = find_splits(labels, units, 5, 0)
    assert len(splits) == 5
    assert sorted(np.concatenate([test for _, test in splits])) == list(range(CLIPS))
    for train, test in splits:
        assert not set(units[train]) & set(units[test])
    assert find_splits(labels, labels, 5, 0) == []


def test_copies_are_files_of_the_same_content(tmp_path):
    for name, content in {"a": b"one", "b": b"two", "c": b"one", "d": b"longer"}.items():
        (tmp_path / name).write_bytes(content)
    paths = [tmp_path / name for name in "abcd"] + [None, tmp_path / "gone"]
    assert find_copies(paths) == [[0, 2]]
    assert len(set(find_units(6, copies=[[0, 2]]))) == 5


def result_of(classes, *, wrong=0, curve=None):
    """A result of 80 sounds, made up so that it guesses so many wrongly, and with this curve."""
    embeddings, _ = clouds(2)
    embeddings = np.concatenate([embeddings, embeddings + 0.1])
    labels = np.arange(2 * CLIPS) % classes
    titles = [f"<i>{label:03}" for label in range(classes)]
    if curve is None:
        validation = cross_validate(embeddings, labels, np.arange(2 * CLIPS), classes, folds=2, seed=0, progress=False)
    else:
        probabilities = np.eye(classes)[np.where(np.arange(2 * CLIPS) < wrong, (labels + 1) % classes, labels)]
        points = [CurvePoint(2**power, accuracy) for power, accuracy in enumerate([*curve, 1 - wrong / (2 * CLIPS)])]
        validation = Validation(probabilities, np.zeros(2 * CLIPS, int), [1.0], points)
    facts = {"model": "m", "fingerprint": "f" * 64, "layout": "time"}
    return Classified(
        classes=titles,
        confusion=confusion_matrix([titles[i] for i in labels], [titles[i] for i in validation.guesses], titles),
        units=2 * CLIPS,
        names=[f"<em>{place}" for place in range(2 * CLIPS)],
        labels=[titles[i] for i in labels],
        validation=validation,
        classifier=SoundClassifier(Classifier(*learn(embeddings, labels, classes, 1.0).unfolded(), titles, facts), None),
        places=flattened(validation, embeddings),
        copies=[],
        left_out=[],
        settings={"folds": 2, "seed": 0},
        failures={"<u>broken": "it is <broken>"},
    )


def test_the_page_lists_the_confusions_of_many_classes():
    page = to_page(result_of(61, wrong=50, curve=[0.5]), "")
    assert 'class="confusion"' not in page
    assert "The 30 most frequent of 50 confusions are shown; the matrix of 61 classes is in scores.json." in page
    assert '<th scope="row">&lt;i&gt;019</th><td>&lt;i&gt;020</td><td>1 of 1</td>' in page
    assert page.count("</td><td>1 of ") == 30
    assert len(page) < 100_000
    assert "None of the 61 classes was taken for another." in to_page(result_of(61, curve=[0.5]), "")


@pytest.mark.parametrize(
    ("wrong", "curve", "said"),
    [
        (0, [0.5, 0.8], "can hardly rise: more clips would only tell it more exactly"),
        (
            16,
            [0.5, 0.6],
            "From 2 clips to 4 of each class the accuracy went from 60.0% to 80.0%: more clips will probably help",
        ),
        (16, [0.75], "From 1 clip to 2 of each class .* leaves open whether more clips help"),
        (16, [0.9], "leaves open whether more clips help"),
        (16, [], "too few sounds"),
    ],
    ids=["nothing to gain", "a rise", "a rise within the interval", "a fall", "no curve"],
)
def test_more_clips_are_advised_where_the_accuracy_rose_beyond_its_interval_and_can_rise(wrong, curve, said):
    assert re.search(said, result_of(2, wrong=wrong, curve=curve).curve_words())


def test_a_test_shares_neither_files_nor_groups_with_what_is_learnt_from(tmp_path):
    def labelled(names, groups):
        for name in names:
            (tmp_path / name).write_bytes(name[:1].encode())
        return Labelled([FileSound(name, tmp_path / name) for name in names], ["cat"] * len(names), groups)

    learnt = labelled(["a.wav", "b.wav"], ["Tom", ""])
    check_apart(learnt, labelled(["c.wav", "d.wav"], ["Rex", ""]))
    check_apart(learnt, labelled(["c.wav", "d.wav"], []))
    with pytest.raises(ConfigError, match=r"1 of the 2 test sounds is a copy of .*, such as b2\.wav"):
        check_apart(learnt, labelled(["c.wav", "b2.wav"], []))
    with pytest.raises(ConfigError, match=r"2 of the 3 test sounds are of groups .*, such as d\.wav of 'Tom'"):
        check_apart(learnt, labelled(["c.wav", "d.wav", "e.wav"], ["", "Tom", "Tom"]))


@pytest.mark.parametrize("classes", [2, 40], ids=["two classes", "more classes than colours"])
def test_the_page_needs_nothing_from_outside_and_escapes_names(classes):
    result = result_of(classes)
    page = to_page(result, "hear-axlstm classify <x>")
    assert not re.search(r"<em>|<[iux]>|<script|https?://|src=|@import", page)
    assert page.count("<title>&lt;em&gt;") == 2 * CLIPS
    assert f"{100 * result.accuracy:.1f}&thinsp;%" in page
    assert "nan" not in page.lower()
