"""The engine "linear": from features to scores."""

import json
import sys

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from hear_axlstm.errors import ConfigError, TaskError
from hear_axlstm.evaluation.native.data import Split, read_data
from hear_axlstm.evaluation.probe.classifiers import FOLDS, evaluate_linear, learnt, require_scikit_learn
from hear_axlstm.evaluation.protocols import LINEAR
from hear_axlstm.evaluation.tasks.taskfolder import read_task
from tests.evaluation.folders import write_embeddings

CLASSES, CLIPS = 4, 80
LABELS = np.arange(CLIPS) % CLASSES
PARTS = {"train": 24, "valid": 12, "test": 12}


def clips(seed, size=50, distance=6.0, labels=LABELS, move=lambda clouds: clouds):
    """Clouds, one a class, whose centres lie ``distance`` along their own axis."""
    clouds = np.random.default_rng(seed).standard_normal((CLIPS, size))
    clouds[np.arange(CLIPS), LABELS] += distance
    return Split(torch.from_numpy(move(clouds)).float(), torch.eye(CLASSES)[labels])


def accuracies(train, test):
    """Of both classifiers."""
    classifiers = LogisticRegression(C=0.1, max_iter=1_000), KNeighborsClassifier(5, metric="cosine")
    found = [learnt(train, classifier)(test.embeddings).argmax(1) for classifier in classifiers]
    return [float((labels == test.targets.argmax(1)).double().mean()) for labels in found]


def test_separable_features_are_told_apart():
    assert accuracies(clips(0, size=6, distance=20), clips(1, size=6, distance=20)) == [1.0, 1.0]


def test_shuffled_labels_give_chance():
    rng = np.random.default_rng(2)
    train, test = (clips(seed, labels=rng.permutation(LABELS)) for seed in (0, 1))
    assert accuracies(train, test) == pytest.approx([1 / CLASSES] * 2, abs=0.15)


def test_scale_and_offset_of_a_feature_do_not_matter():
    rng = np.random.default_rng(3)
    scale, offset = np.exp(rng.standard_normal(50)), rng.standard_normal(50)
    moved = [clips(seed, distance=2, move=lambda clouds: clouds * scale + offset) for seed in (0, 1)]
    assert accuracies(*moved) == pytest.approx(accuracies(clips(0, distance=2), clips(1, distance=2)), abs=2 / CLIPS)


def test_the_same_features_give_the_same_accuracy():
    assert accuracies(clips(0, distance=1.5), clips(1, distance=1.5)) == accuracies(
        clips(0, distance=1.5), clips(1, distance=1.5)
    )


def test_features_that_never_change_and_few_clips_are_no_trouble():
    def few(seed):
        every = clips(seed, size=8)
        return Split(torch.nn.functional.pad(every.embeddings[:8], (0, 300), value=1.0), every.targets[:8])

    assert accuracies(few(0), few(1))[0] >= 0.75


@pytest.mark.parametrize("size", [30, 300])
def test_probabilities_are_those_of_the_plain_classifiers(size):
    """Fewer features than clips, and more, where the regression is solved among the clips' axes alone."""
    train, test = clips(0, size, distance=2), clips(1, size, distance=2)
    scaler = StandardScaler().fit(train.embeddings)
    for classifier in (LogisticRegression(C=0.1, max_iter=1_000), KNeighborsClassifier(5, metric="cosine")):
        plain = classifier.fit(scaler.transform(train.embeddings), LABELS).predict_proba(scaler.transform(test.embeddings))
        found = learnt(train, classifier)(test.embeddings)
        np.testing.assert_allclose(found, plain, atol=2e-3)


def test_a_label_that_was_not_learnt_is_never_expected():
    train = clips(0)
    some = train.targets.argmax(1) != 2
    found = learnt(Split(train.embeddings[some], train.targets[some]), LogisticRegression())(clips(1).embeddings)
    assert found.shape == (CLIPS, CLASSES)
    assert (found[:, 2] == 0).all()
    np.testing.assert_allclose(found.sum(1), 1)
    one = train.targets.argmax(1) == 2
    with pytest.raises(TaskError, match="all 20 clips to learn from have the same label"):
        learnt(Split(train.embeddings[one], train.targets[one]), LogisticRegression())


def test_train_and_validation_clips_are_learnt_from_with_the_penalty_that_they_choose(tmp_path):
    folder = write_embeddings(tmp_path / "parts", sizes=PARTS, noise=4.0)
    data = read_data(read_task(folder), read_task(folder).data_splits[0])
    features = torch.cat([data.train.embeddings, data.valid.embeddings]).numpy()
    labels = torch.cat([data.train.targets, data.valid.targets]).argmax(1).numpy()
    search = GridSearchCV(LogisticRegression(max_iter=1_000), {"C": LINEAR.grid["C"]}, cv=StratifiedKFold(FOLDS))
    scaler = StandardScaler().fit(features)
    search.fit(scaler.transform(features), labels)
    outcome = evaluate_linear(folder, LINEAR)
    assert outcome.settings == search.best_params_
    found = outcome.splits["test"]
    assert found["cross_validated_acc"] == pytest.approx(search.best_score_)
    expected = search.score(scaler.transform(data.test.embeddings), data.test.targets.argmax(1))
    assert found["test_score"] == found["test_top1_acc"] == pytest.approx(expected)
    assert set(found) == {
        "test_score",
        "test_top1_acc",
        "test_mAP",
        "test_d_prime",
        "test_aucroc",
        "test_knn_acc",
        "cross_validated_acc",
    }
    assert evaluate_linear(folder, LINEAR) == outcome


def test_every_fold_is_tested_with_the_penalty_of_the_first(tmp_path):
    folder = write_embeddings(tmp_path / "folds", sizes={f"fold{index:02}": 12 for index in range(3)}, noise=0.5)
    outcome = evaluate_linear(folder, LINEAR)
    assert list(outcome.splits) == ["fold00", "fold01", "fold02"]
    assert outcome.settings.keys() == {"C"}
    assert outcome.mean("test_score") > 0.9
    assert outcome.mean("test_knn_acc") > 0.9


def test_tasks_of_another_kind_are_refused_with_the_way_out(tmp_path):
    tags = write_embeddings(tmp_path / "tags", sizes=PARTS, prediction_type="multilabel", metrics=["mAP"])
    with pytest.raises(TaskError, match=r"tags is a multilabel scene task; .* --engine native or heareval"):
        evaluate_linear(tags, LINEAR)
    events = write_embeddings(tmp_path / "events", sizes=PARTS)
    path = events / "task_metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "embedding_type": "event"}))
    with pytest.raises(TaskError, match="events is a multiclass event task"):
        evaluate_linear(events, LINEAR)


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ConfigError, match=r"pip install 'hear-axlstm\[probe\]'"):
        require_scikit_learn()
