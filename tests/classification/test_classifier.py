"""A classifier keeps its classes, gives probabilities, and is refused when its file is not whole."""

import numpy as np
import pytest

from hear_axlstm.classification.classifier import CLASSIFIER, Classifier, read_classifier
from hear_axlstm.errors import ConfigError, WeightsError


@pytest.fixture
def classifier():
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(3, 8)).astype(np.float32), rng.normal(size=3).astype(np.float32)
    return Classifier(weight, bias, ["ant", "bee", "cöw"], {"model": "axlstm-tiny-synth", "accuracy": 0.75})


def test_probabilities_sum_to_one_and_failed_sounds_have_none(classifier):
    embeddings = np.random.default_rng(1).normal(size=(5, 8)) * 1_000
    embeddings[2] = np.nan
    found = classifier.probabilities(embeddings)
    np.testing.assert_allclose(found.sum(1)[[0, 1, 3, 4]], 1)
    assert np.isnan(found[2]).all()
    best = embeddings @ classifier.weight.T + classifier.bias
    np.testing.assert_array_equal(found[[0, 1, 3, 4]].argmax(1), best[[0, 1, 3, 4]].argmax(1))


def test_a_file_or_its_folder_gives_back_what_was_saved(classifier, tmp_path):
    classifier.save(tmp_path / CLASSIFIER)
    for path in (tmp_path, tmp_path / CLASSIFIER):
        found = read_classifier(path)
        np.testing.assert_array_equal(found.weight, classifier.weight)
        np.testing.assert_array_equal(found.bias, classifier.bias)
        assert (found.classes, found.facts) == (classifier.classes, classifier.facts)


def test_embeddings_of_other_weights_are_refused(classifier):
    with pytest.raises(ConfigError, match=r"shape \(2, 9\); expected \(n, 8\), as axlstm-tiny-synth gives"):
        classifier.probabilities(np.zeros((2, 9)))


def test_one_class_is_no_classifier():
    with pytest.raises(ConfigError, match="two different classes"):
        Classifier(np.zeros((1, 8), np.float32), np.zeros(1, np.float32), ["ant"])


def test_a_damaged_file_is_refused(classifier, tmp_path):
    path = tmp_path / CLASSIFIER
    classifier.save(path)
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1]), whole.replace(b"bee", b"bea"), b"", b"{}"):
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match="is damaged, or no classifier"):
            read_classifier(path)
    with pytest.raises(WeightsError, match="no such file"):
        read_classifier(tmp_path / "nothing")
