"""The sequential engine against hear-eval-kit and plain torch, to the last bit, and against recorded runs of the kit."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from hear_axlstm.errors import TaskError
from hear_axlstm.evaluation.kit.launch import evaluate_with_kit
from hear_axlstm.evaluation.metrics import score
from hear_axlstm.evaluation.native import faithful
from hear_axlstm.evaluation.native.data import Split, TaskData
from hear_axlstm.evaluation.native.faithful import Stopping, evaluate_sequentially, train
from hear_axlstm.evaluation.native.network import build_network
from hear_axlstm.evaluation.protocols import PROTOCOLS, Settings
from tests.evaluation.folders import write_embeddings
from tests.evaluation.kit import record
from tests.tolerances import RECORDED_LOSS, RECORDED_SCORE

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


def small(grid=(), **options):
    return {**options, "evaluation_params": {"task_specific_param_grid": {**SMALL, **dict(grid)}}}


def folder(path, grid=(), **options):
    return write_embeddings(path / "task", **small(grid, **options))


CASES = {
    "folds": record.Case(small(sizes=FOLDS, noise=4.0)),
    "tags": record.Case(
        small(sizes=PARTS, prediction_type="multilabel", metrics=["mAP", "d_prime", "aucroc", "top1_acc"]), seed=3
    ),
    "upstream, by the loss": record.Case(
        small(sizes=FOLDS, metrics=["pitch_acc", "chroma_acc"], labels=13, use_scoring_for_early_stopping=False),
        PROTOCOLS["hear2021"],
        seed=42,
    ),
    "stopped": record.CASES["stopped"],
}


@pytest.mark.kit
@pytest.mark.parametrize("name", CASES)
def test_a_whole_protocol_equals_the_kits(tmp_path, one_thread, monkeypatch, name):
    case, curves = CASES[name], []

    def observed(data, settings):
        curves.append([])
        return train(data, settings, lambda *checked: curves[-1].append(checked))

    monkeypatch.setattr(faithful, "train", observed)
    embeddings = case.write(tmp_path / "task")
    theirs = evaluate_with_kit(embeddings, case.protocol, case.seed, curves=tmp_path / "curves")
    ours = evaluate_sequentially(embeddings, case.protocol, case.seed)
    logged = record.read_curves(tmp_path / "curves")
    assert [[(epoch, loss) for epoch, loss, _ in curve] for curve in curves] == [
        [(check["epoch"], check["val_loss"]) for check in curve] for curve in logged
    ]
    assert ours.settings == theirs.settings
    assert ours.splits.keys() == theirs.splits.keys()
    for split, expected in theirs.splits.items():
        found = ours.splits[split]
        assert found.keys() == expected.keys()
        assert found["test_loss"] == expected["test_loss"]
        assert found["validation_score"] == expected["validation_score"]
        assert found["epoch"] == expected["epoch"]
        for key in found:  # the kit rounds scores to float32
            assert found[key] == pytest.approx(expected[key], rel=1e-6, nan_ok=True), key


POINT = {"hidden_dim": 70, "lr": 1e-3, "patience": 9, "max_epochs": 5, "check_val_every_n_epoch": 1, "batch_size": 31}


@pytest.mark.parametrize("multilabel", [False, True], ids=["multiclass", "multilabel"])
@pytest.mark.parametrize("dropout", [0.0, 0.25])
@pytest.mark.parametrize("hidden_layers", [0, 1, 2])
def test_a_training_is_a_plain_loop_of_autograd_and_adam(one_thread, hidden_layers, dropout, multilabel):
    """Over a DataLoader, whose batches are new tensors; a slice of 31 x 33 numbers may begin anywhere in memory."""
    settings = Settings(hidden_layers=hidden_layers, dropout=dropout, initialization="xavier_normal", **POINT)
    x, targets = torch.randn(66, 33), F.one_hot(torch.arange(66) % 7, 7).float()  # two batches and a last one of four clips
    split = Split(x, targets)
    data = TaskData(split, split, split, multilabel=multilabel, metrics=("top1_acc",), by_score=False)
    torch.manual_seed(1)
    network, losses = build_network(settings, 33, 7), []
    adam = torch.optim.Adam(network.parameters(), lr=settings.lr)
    loader = DataLoader(TensorDataset(x, targets), settings.batch_size)

    def loss(logits, targets):
        if multilabel:
            return F.binary_cross_entropy_with_logits(logits, targets)
        return F.cross_entropy(logits, targets.argmax(1))

    for _ in range(settings.max_epochs):
        for batch, wanted in loader:
            adam.zero_grad()
            loss(network(batch), wanted).backward()
            adam.step()
        network.eval()
        with torch.no_grad():
            losses.append(float(loss(torch.cat([network(batch) for batch, _ in loader]), targets)))
        if losses[-1] == min(losses):
            best = copy.deepcopy(network.state_dict())
        network.train()
    after, found = torch.get_rng_state(), []
    torch.manual_seed(1)
    trained = train(data, settings, lambda epoch, loss, score: found.append(loss))
    assert found == losses
    assert torch.equal(torch.get_rng_state(), after)
    for name, expected in best.items():
        assert torch.equal(trained.network.state_dict()[name], expected), name
    assert not torch.equal(trained.network[0].weight, build_network(settings, 33, 7)[0].weight)


@pytest.mark.parametrize("name", record.CASES)
def test_a_recorded_run_of_the_kit_is_repeated(tmp_path, one_thread, monkeypatch, name):
    """On any machine, with other kernels than those of the recording: decisions are taken by the recorded scores, and are
    equal; what is computed between them is equal but for rounding. (Equality to the last bit is asked of the kit and of
    plain torch above, on one machine.)"""
    case, expected, recorded = record.CASES[name], record.recorded_outcome(name), record.recorded_curves(name)
    remaining, losses, scores = iter(recorded), [], []

    def observed(data, settings):
        checks = iter(next(remaining))

        def given(metric, probabilities, targets):
            scores.append(score(metric, probabilities, targets))
            return next(checks)["val_score"]

        with monkeypatch.context() as patch:
            patch.setattr(faithful, "score", given)
            trained = train(data, settings, lambda epoch, loss, value: losses.append((epoch, loss)))
        assert not list(checks)  # it went on as long as the kit's
        return trained

    monkeypatch.setattr(faithful, "train", observed)
    outcome = evaluate_sequentially(case.write(tmp_path / "task"), case.protocol, case.seed)
    assert not list(remaining)
    every = [check for curve in recorded for check in curve]
    assert [epoch for epoch, _ in losses] == [check["epoch"] for check in every]
    np.testing.assert_allclose([loss for _, loss in losses], [check["val_loss"] for check in every], rtol=RECORDED_LOSS)
    np.testing.assert_allclose(scores, [check["val_score"] for check in every], atol=RECORDED_SCORE)
    assert outcome.settings == expected.settings
    assert outcome.splits.keys() == expected.splits.keys()
    for split, values in expected.splits.items():
        found = dict(outcome.splits[split])
        assert found.pop("epoch") == values.pop("epoch")
        assert found.pop("validation_score") == values.pop("validation_score")
        assert found.pop("test_loss") == pytest.approx(values.pop("test_loss"), rel=RECORDED_LOSS)
        assert found.pop("test_d_prime") == pytest.approx(values.pop("test_d_prime"), abs=10 * RECORDED_SCORE)
        assert found == pytest.approx(values, abs=RECORDED_SCORE)


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
    with pytest.raises(TaskError, match="a last batch of 1"):
        evaluate_sequentially(embeddings, PROTOCOLS["axlstm"], 0)


def test_a_grid_without_a_check_is_refused(tmp_path):
    embeddings = folder(tmp_path, {"max_epochs": [2]}, sizes=FOLDS)
    with pytest.raises(TaskError, match="max_epochs is 2"):
        evaluate_sequentially(embeddings, PROTOCOLS["axlstm"], 0)


def test_a_score_that_is_no_number_ends_the_training_and_is_told(tmp_path):
    """A class without clips in the validation split has no AUC."""
    embeddings = folder(tmp_path, sizes={"train": 40, "valid": 3, "test": 12}, metrics=["aucroc", "top1_acc"])
    outcome = evaluate_sequentially(embeddings, PROTOCOLS["axlstm"], 0)
    assert outcome.splits["test"]["epoch"] == 2
    assert math.isinf(outcome.splits["test"]["validation_score"])


def follow(values, patience=3, maximize=True):
    stopping = Stopping(patience, maximize=maximize)
    kept = []
    for epoch, value in enumerate(values):
        if stopping.check(epoch, value):
            kept.append(epoch)
        if stopping.stopped:
            break
    return stopping, kept, epoch


def test_the_earliest_of_equal_values_counts_and_equal_is_not_better():
    stopping, kept, last = follow([0.1, 0.5, 0.5, 0.5, 0.5, 0.9])
    assert (stopping.epoch, kept, last, stopping.stopped) == (1, [0, 1], 4, True)


def test_values_that_are_equal_in_float32_are_equal():
    stopping, kept, _ = follow([0.5, 0.5 + 1e-9, 0.4])
    assert kept == [0]
    assert stopping.best == 0.5


def test_a_loss_is_minimised():
    stopping, kept, last = follow([3.0, 2.0, 2.5, 1.0, 1.5], patience=5, maximize=False)
    assert (stopping.epoch, stopping.best, kept, last) == (3, 1.0, [0, 1, 3], 4)
    assert not stopping.stopped


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_stops_at_once(value):
    stopping, _, last = follow([0.1, 0.2, value, 0.9])
    assert last == 2
    assert stopping.stopped
    assert stopping.epoch == (2 if value == math.inf else 1)


def test_a_first_value_that_is_no_number_is_kept_all_the_same():
    stopping, kept, last = follow([math.nan, 0.5])
    assert (kept, last, stopping.epoch) == ([0], 0, 0)
    assert stopping.best == -math.inf
