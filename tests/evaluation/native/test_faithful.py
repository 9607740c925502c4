"""The sequential evaluator against hear-eval-kit itself: equal to the last bit, for whole protocols."""

import math

import numpy as np
import pytest
import torch

from hear_axlstm.errors import TaskError
from hear_axlstm.evaluation.kit.launch import evaluate_with_kit
from hear_axlstm.evaluation.native import sequential
from hear_axlstm.evaluation.native.faithful import evaluate_sequentially
from hear_axlstm.evaluation.protocols import PROTOCOLS
from tests.evaluation.folders import write_embeddings
from tests.evaluation.kit import record

SMALL = {"hidden_dim": [32], "max_epochs": [14]}
FOLDS = {"fold00": 14, "fold01": 13, "fold02": 13}
PARTS = {"train": 1027, "valid": 40, "test": 30}  # two batches, the second of three clips


@pytest.fixture
def one_thread():
    """The kit is given one, and the number of threads changes the last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def folder(path, grid=(), **options):
    return write_embeddings(
        path / "task", evaluation_params={"task_specific_param_grid": {**SMALL, **dict(grid)}}, **options
    )


CASES = {
    "folds": ("axlstm", 0, {"sizes": FOLDS, "noise": 4.0}),
    "tags": (
        "axlstm",
        3,
        {"sizes": PARTS, "prediction_type": "multilabel", "metrics": ["mAP", "d_prime", "aucroc", "top1_acc"]},
    ),
    "upstream, by the loss": (
        "hear2021",
        42,
        {"sizes": FOLDS, "metrics": ["pitch_acc", "chroma_acc"], "labels": 13, "use_scoring_for_early_stopping": False},
    ),
}


@pytest.mark.kit
@pytest.mark.parametrize("case", CASES)
def test_a_whole_protocol_equals_the_kits(tmp_path, one_thread, case):
    protocol, seed, options = CASES[case]
    embeddings = folder(tmp_path, **options)
    theirs = evaluate_with_kit(embeddings, PROTOCOLS[protocol], seed)
    ours = evaluate_sequentially(embeddings, PROTOCOLS[protocol], seed)
    assert ours.settings == theirs.settings
    assert ours.splits.keys() == theirs.splits.keys()
    for split, expected in theirs.splits.items():
        found = ours.splits[split]
        assert found.keys() == expected.keys()
        assert found["test_loss"] == expected["test_loss"]
        assert found["validation_score"] == expected["validation_score"]
        assert found["epoch"] == expected["epoch"]
        for name in found:  # the kit rounds scores to float32
            assert found[name] == pytest.approx(expected[name], rel=1e-6, nan_ok=True), name


@pytest.mark.parametrize("name", ["multiclass", "multilabel", "stopped"])
def test_curves_and_outcome_are_those_that_the_kit_was_recorded_with(tmp_path, one_thread, monkeypatch, name):
    """On the machine that recorded them they are equal; another one, or another torch, may round otherwise."""
    case, curves = record.CASES[name], []

    def train(task, split, settings):
        curves.append([])
        return original(task, split, settings, lambda *checked: curves[-1].append(checked))

    original = sequential.train
    monkeypatch.setattr(sequential, "train", train)
    outcome = evaluate_sequentially(case.write(tmp_path / "task"), case.protocol, case.seed)
    recorded = [[tuple(row.values()) for row in curve] for curve in record.recorded_curves(name)]
    assert [[check[0] for check in curve] for curve in curves] == [[row[0] for row in curve] for curve in recorded]
    for curve, expected in zip(curves, recorded, strict=True):
        np.testing.assert_allclose(np.array(curve), np.array(expected), rtol=1e-6)
    expected = record.recorded_outcome(name)
    assert outcome.settings == expected.settings
    for split, values in expected.splits.items():
        assert outcome.splits[split] == pytest.approx(values, rel=1e-6, nan_ok=True)


def test_seeds_differ_and_repeat_and_leave_torchs_generator_alone(tmp_path):
    embeddings = folder(tmp_path, sizes=FOLDS, noise=4.0)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (evaluate_sequentially(embeddings, PROTOCOLS["axlstm"], seed) for seed in (1, 1, 2))
    assert first == again
    assert first.splits["fold00"]["test_loss"] != other.splits["fold00"]["test_loss"]
    assert torch.equal(torch.get_rng_state(), before)


def test_what_can_be_learnt_is_learnt(tmp_path):
    grid = {"max_epochs": [60], "lr": [1e-3]}
    easy, hard = (folder(tmp_path / str(noise), grid, sizes=FOLDS, noise=noise) for noise in (0.5, 50.0))
    assert evaluate_sequentially(easy, PROTOCOLS["axlstm"], 0).mean("test_score") > 0.9
    assert evaluate_sequentially(hard, PROTOCOLS["axlstm"], 0).mean("test_score") < 0.6


def test_no_hidden_layer_is_a_linear_classifier(tmp_path):
    embeddings = folder(tmp_path, {"hidden_layers": [0], "lr": [1e-2]}, sizes=FOLDS, noise=0.5)
    outcome = evaluate_sequentially(embeddings, PROTOCOLS["axlstm"], 0)
    assert outcome.settings["hidden_layers"] == 0
    assert outcome.mean("test_score") > 0.7


def test_what_batch_norm_cannot_do_is_refused(tmp_path):
    embeddings = folder(tmp_path, sizes={"train": 1025, "valid": 8, "test": 8})
    with pytest.raises(TaskError, match="a single clip"):
        evaluate_sequentially(embeddings, PROTOCOLS["axlstm"], 0)


def test_a_grid_without_a_check_is_refused(tmp_path):
    embeddings = folder(tmp_path, {"max_epochs": [2]}, sizes=FOLDS)
    with pytest.raises(TaskError, match="is none in 2"):
        evaluate_sequentially(embeddings, PROTOCOLS["axlstm"], 0)


def test_a_score_that_is_no_number_ends_the_training_and_is_told(tmp_path):
    """A class without clips in the validation split has no AUC."""
    embeddings = folder(tmp_path, sizes={"train": 40, "valid": 3, "test": 12}, metrics=["aucroc", "top1_acc"])
    outcome = evaluate_sequentially(embeddings, PROTOCOLS["axlstm"], 0)
    assert outcome.splits["test"]["epoch"] == 2
    assert math.isinf(outcome.splits["test"]["validation_score"])
