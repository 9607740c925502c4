"""Metrics beside scikit-learn's and the kit's own."""

import math
import warnings

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch.nn.functional import one_hot

from hear_axlstm.errors import TaskError
from hear_axlstm.evaluation import metrics
from hear_axlstm.evaluation.kit.mend import PKG_RESOURCES, standing_in
from hear_axlstm.evaluation.metrics import METRICS, check_metrics, score, scores

SHARPNESS = {"ordinary": 1, "faint": 0.01, "saturated": 100, "rounded": 1}


@pytest.fixture(scope="module")
def kit():
    """The kit's scores by name."""
    pytest.importorskip("heareval")
    with standing_in([PKG_RESOURCES]):
        from heareval.score import available_scores
    return {name: available_scores[name](label_to_idx={}) for name in METRICS}


def task(seed, kind, multilabel, clips=None, labels=None):
    """Probabilities and targets. Of some classes there may be no clip."""
    random = torch.Generator().manual_seed(seed)
    clips = clips or int(torch.randint(3, 200, (), generator=random))
    labels = labels or int(torch.randint(2, 30, (), generator=random))
    if multilabel:
        targets = (torch.rand(clips, labels, generator=random) < (0.1, 0.5)[seed % 2]).float()
    else:
        targets = one_hot(torch.randint(0, labels, (clips,), generator=random), labels).float()
    logits = SHARPNESS[kind] * (torch.randn(clips, labels, generator=random) + seed % 3 * targets)
    probabilities = logits.sigmoid() if multilabel else logits.softmax(-1)
    return (probabilities * 20).round() / 20 if kind == "rounded" else probabilities, targets


def of_class(probabilities, positives):
    """One class of a task of two, the other of which is known perfectly."""
    first = torch.tensor(probabilities)
    targets = torch.tensor(positives, dtype=torch.float32)
    return torch.stack([first, targets], 1), torch.stack([targets, targets], 1)


@pytest.mark.parametrize("kind", SHARPNESS)
@pytest.mark.parametrize("multilabel", [False, True], ids=["multiclass", "multilabel"])
def test_scores_are_the_kit_s_to_the_last_bit_of_float32(kit, kind, multilabel):
    differing = []
    for seed in range(15):
        probabilities, targets = task(seed, kind, multilabel)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # classes without positives
            theirs = {name: kit[name](probabilities.numpy(), targets.numpy()) for name in METRICS}
        ours = {name: score(name, probabilities, targets) for name in METRICS}
        differing += [
            (seed, name, ours[name], theirs[name])
            for name in METRICS
            if not np.array_equal(np.float32(ours[name]), np.float32(theirs[name]), equal_nan=True)
        ]
    assert not differing


@pytest.mark.parametrize("name", METRICS)
def test_many_trainings_are_scored_as_each_alone(name, monkeypatch):
    tasks = [task(seed, "rounded", True, clips=40, labels=7) for seed in range(5)]
    targets = tasks[0][1]
    alone = [score(name, probabilities, targets) for probabilities, _ in tasks]
    together = torch.stack([probabilities for probabilities, _ in tasks])
    assert scores(name, together, targets).tolist() == alone
    monkeypatch.setattr(metrics, "CHUNK", 2 * targets.numel())
    assert scores(name, together, targets).tolist() == alone


def test_of_equally_likely_classes_the_first_counts():
    assert score("top1_acc", torch.tensor([[0.25, 0.25, 0.5, 0.5]]), torch.tensor([[0.0, 0, 1, 0]])) == 1
    assert score("top1_acc", torch.tensor([[0.5, 0.5, 0, 0]]), torch.tensor([[0.0, 1, 0, 0]])) == 0


def test_octaves_do_not_count_in_chroma():
    probabilities = one_hot(torch.tensor([0, 13, 24, 5]), 25).float()
    targets = one_hot(torch.tensor([12, 1, 23, 5]), 25).float()
    assert score("chroma_acc", probabilities, targets) == 0.75
    assert score("pitch_acc", probabilities, targets) == 0.25


def test_an_auc_by_hand():
    """Of the 2 x 3 pairs, a positive is ahead in 4 and level in 1."""
    probabilities, targets = of_class([0.9, 0.5, 0.5, 0.3, 0.6], [1, 1, 0, 0, 0])
    assert score("aucroc", probabilities, targets) == pytest.approx(((3 + 1 + 0.5) / 6 + 1) / 2)
    assert score("d_prime", probabilities, targets) == math.inf
    twice = probabilities[:, [0, 0]]
    assert score("d_prime", twice, targets) == pytest.approx(2**0.5 * norm.ppf(0.75))


def test_clips_of_one_probability_are_one_step_of_the_average_precision():
    probabilities, targets = of_class([0.5, 0.5, 0.5, 0.5], [1, 0, 0, 0])
    assert score("mAP", probabilities, targets) == (0.25 + 1) / 2


def test_a_class_without_positives_counts_nothing_in_map_and_spoils_the_auc():
    probabilities, targets = of_class([0.1, 0.8, 0.3], [0, 1, 0])
    targets[:, 0] = 0
    assert score("mAP", probabilities, targets) == 0.5
    assert math.isnan(score("aucroc", probabilities, targets))
    assert math.isnan(score("d_prime", probabilities, targets))


@pytest.mark.parametrize("name", ["mAP", "aucroc", "d_prime"])
def test_nan_spoils_its_own_training_only(name):
    probabilities, targets = task(0, "ordinary", True, clips=50, labels=3)
    spoilt = probabilities.clone()
    spoilt[7, 1] = math.nan
    found = scores(name, torch.stack([probabilities, spoilt]), targets)
    assert found[0] == score(name, probabilities, targets)
    assert found[1].isnan()


def test_other_metrics_are_refused():
    with pytest.raises(TaskError, match=r"'f1'.*top1_acc, pitch_acc, chroma_acc, mAP, d_prime, aucroc"):
        score("f1", *task(0, "ordinary", False))
    with pytest.raises(TaskError, match=r"event_onset_50ms_fms.*--engine heareval"):
        check_metrics(["top1_acc", "event_onset_50ms_fms"])
    with pytest.raises(TaskError, match=r"segment_1s_er.*--engine heareval"):
        check_metrics(["segment_1s_er"])
