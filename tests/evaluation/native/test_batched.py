"""All trainings of a split at once, beside the same trainings one after the other, and beside Lightning's callbacks."""

import itertools
import math
from dataclasses import replace

import pytest
import torch

from hear_axlstm.errors import TaskError
from hear_axlstm.evaluation.native import batched
from hear_axlstm.evaluation.native import faithful as sequential
from hear_axlstm.evaluation.native.batched import evaluate_batched
from hear_axlstm.evaluation.native.batched_training import Data, Group
from hear_axlstm.evaluation.native.data import Split, read_splits
from hear_axlstm.evaluation.native.draws import Draws
from hear_axlstm.evaluation.native.faithful import evaluate_sequentially, measure, train
from hear_axlstm.evaluation.native.network import build_network
from hear_axlstm.evaluation.protocols import Protocol, Settings
from hear_axlstm.evaluation.tasks.taskfolder import read_task
from tests.evaluation.folders import write_embeddings
from tests.evaluation.native.replay import Stream

CPU = torch.device("cpu")
SETTINGS = Settings(
    hidden_layers=1,
    hidden_dim=32,
    dropout=0.25,
    lr=1e-3,
    patience=20,
    max_epochs=60,
    check_val_every_n_epoch=3,
    batch_size=32,
    initialization="xavier_normal",
)
VARIED = [  # what may differ within a group
    SETTINGS,
    replace(SETTINGS, dropout=0.1, lr=3.2e-4),
    replace(SETTINGS, dropout=0.5, initialization="xavier_uniform"),
    replace(SETTINGS, dropout=0.0, lr=3.2e-3, patience=2),
]
SIZES = {"train": 98, "valid": 41, "test": 37}  # three batches of 32, one of 2


@pytest.fixture
def double(monkeypatch):
    """Everything in float64, where only an error makes a difference.

    In float32 rounding does, too: the batch norm of 2 clips is badly conditioned; and the bias before a batch norm, whose
    gradient is rounding alone, takes Adam's steps all the same.
    """
    read = sequential.read_splits
    monkeypatch.setattr(sequential, "read_splits", lambda *arguments: converted(read(*arguments)))
    monkeypatch.setattr(batched, "read_splits", lambda *arguments: converted(read(*arguments)))
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def converted(split):
    dtype = torch.get_default_dtype()
    return Split(split.embeddings.to(dtype), split.targets.to(dtype))


def protocol_of(*points):
    """Whose grid has these settings only, if they differ in one value at most."""
    grid = {name: list(dict.fromkeys(point.to_dict()[name] for point in points)) for name in points[0].to_dict()}
    return Protocol("test", grid, 8, "these tests")


def data_of(task, *, by_score=True):
    (split, *_) = task.data_splits
    parts = [converted(read_splits(task, names)) for names in (split.train, [split.valid], [split.test])]
    return Data(*parts, task.prediction_type == "multilabel", task.metrics, by_score)


def draws_of(count, key="draws"):
    return [Draws(key, index, device=CPU) for index in range(count)]


def streams(settings, batches):
    return [
        Stream(
            torch.Generator().manual_seed(seed),
            hidden_layers=point.hidden_layers,
            batches=batches,
            check_every=point.check_val_every_n_epoch,
        )
        for seed, point in enumerate(settings)
    ]


def one_by_one(task, settings):
    """Of each training, its validation losses and how it ends."""
    for seed, point in enumerate(settings):
        curve = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            split = task.data_splits[0]
            training = train(task, split, point, lambda epoch, loss, score, curve=curve: curve.append(loss))
            yield curve, measure(task, split, training)


def curves(group, epochs, check_every):
    """What is monitored, check by check."""
    found = []
    for epoch in range(epochs):
        group.train_epoch()
        if (epoch + 1) % check_every == 0:
            found.append(group.monitored())
    return torch.stack(found, 1)


def assert_as_one_by_one(folder, settings, tolerance):
    task = read_task(folder)
    data = data_of(task, by_score=False)
    together = curves(Group(data, settings, streams(settings, 4)), 60, 3)
    ended = Group(data, settings, streams(settings, 4)).train()
    for ours, outcome, (losses, theirs) in zip(together, ended, one_by_one(task, settings), strict=True):
        torch.testing.assert_close(ours, torch.tensor(losses), atol=tolerance, rtol=tolerance)
        assert outcome.keys() == theirs.keys()
        for name in theirs:
            assert outcome[name] == pytest.approx(theirs[name], abs=1e-3), name


@pytest.mark.parametrize("hidden_layers", [0, 1, 2])
@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
def test_with_the_same_draws_many_trainings_are_those_that_are_run_one_by_one(tmp_path, double, kind, hidden_layers):
    metrics = ["mAP", "aucroc"] if kind == "multilabel" else None
    folder = write_embeddings(
        tmp_path / "task", sizes=SIZES, prediction_type=kind, metrics=metrics, use_scoring_for_early_stopping=False
    )
    settings = [replace(point, hidden_layers=hidden_layers, patience=100) for point in VARIED]
    assert_as_one_by_one(folder, settings, 1e-8)


def test_in_float32_they_are_so_up_to_rounding(tmp_path):
    sizes = {**SIZES, "train": 116}
    folder = write_embeddings(tmp_path / "task", sizes=sizes, use_scoring_for_early_stopping=False)
    assert_as_one_by_one(folder, [replace(point, lr=point.lr / 10, patience=100) for point in VARIED], 1e-4)


def test_a_whole_evaluation_is_that_of_the_sequential_engine_if_the_draws_are(tmp_path, double):
    """With a single point there is one training at a time, and a single stream of draws can go through all of them."""
    sizes = {"fold00": 52, "fold01": 47, "fold02": 51, "fold03": 54}  # four batches of whichever two
    folder = write_embeddings(tmp_path / "task", sizes=sizes, noise=4)
    point = replace(SETTINGS, patience=4, max_epochs=80)
    generator, before = torch.Generator().manual_seed(3), []

    def draws(task, split, seed, index, *, device):
        for stream in before:
            stream.end()
        before[:] = [Stream(generator, hidden_layers=1, batches=4, check_every=3)]
        return before[0]

    ours = evaluate_batched(folder, protocol_of(point), [3], CPU, draws=draws)[3]
    theirs = evaluate_sequentially(folder, protocol_of(point), 3)
    assert ours.settings == theirs.settings
    assert list(ours.splits) == list(theirs.splits)
    for split in ours.splits:
        assert ours.splits[split] == pytest.approx(theirs.splits[split], abs=1e-6)
    assert len({split["epoch"] for split in ours.splits.values()}) > 1  # trainings of several lengths


def test_nothing_depends_on_what_is_trained_beside(tmp_path, double):
    data = data_of(read_task(write_embeddings(tmp_path / "task", sizes=SIZES)), by_score=False)
    settings = VARIED * 5
    together = curves(Group(data, settings, draws_of(20)), 15, 3)
    for index in (0, 6, 19):
        alone = curves(Group(data, [settings[index]], [draws_of(20)[index]]), 15, 3)
        torch.testing.assert_close(alone[0], together[index], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("by_score", [True, False])
def test_putting_aside_what_has_stopped_changes_nothing(tmp_path, monkeypatch, double, by_score):
    data = data_of(read_task(write_embeddings(tmp_path / "task", sizes=SIZES, noise=4)), by_score=by_score)
    varied = [replace(point, lr=10 * point.lr) for point in VARIED]
    settings = [replace(point, patience=patience) for point, patience in itertools.product(varied, (1, 3, 9))]
    selected = []
    select = Group._select
    monkeypatch.setattr(Group, "_select", lambda group, rows: (selected.append(rows), select(group, rows)))
    kept = Group(data, settings, draws_of(12)).train(compact_below=0)
    assert not selected
    for compact_below, at_least in ((0.5, 1), (1, 3)):
        compacted = Group(data, settings, draws_of(12)).train(compact_below=compact_below)
        assert len(selected) >= at_least
        selected.clear()
        for mine, theirs in zip(compacted, kept, strict=True):
            assert mine == pytest.approx(theirs, abs=1e-5, nan_ok=True)
    assert len({outcome["epoch"] for outcome in kept}) > 3


def test_a_training_without_numbers_ends_at_once_and_alone(tmp_path, double):
    class Broken(Draws):
        def linear(self, settings, width, labels):
            layers = super().linear(settings, width, labels)
            layers[0][0][0, 0] = math.nan
            return layers

    data = data_of(read_task(write_embeddings(tmp_path / "task", sizes=SIZES, metrics=["mAP"])))
    settings = [SETTINGS] * 2
    broken, ours = Group(data, settings, [Broken("x", device=CPU), *draws_of(1)]).train()
    assert broken["epoch"] == 2
    assert broken["validation_score"] == -math.inf
    assert math.isnan(broken["test_score"])
    assert ours == pytest.approx(Group(data, [SETTINGS], draws_of(1)).train()[0], abs=1e-5)


@pytest.mark.parametrize(
    ("name", "values"), [("lr", (1e-5, 1e-3, 1e-2)), ("hidden_layers", (0, 1, 2))], ids=["one shape", "several shapes"]
)
def test_the_best_point_of_the_first_split_is_trained_on_the_others(tmp_path, double, name, values):
    folder = write_embeddings(tmp_path / "task", sizes={"fold00": 60, "fold01": 61, "fold02": 59}, noise=4)
    points = {value: replace(SETTINGS, max_epochs=30, **{name: value}) for value in values}

    def draws(task, split, seed, index, *, device):
        return Draws(split, seed, device=device)  # whatever the point

    alone = {
        value: evaluate_batched(folder, protocol_of(point), range(4), CPU, draws=draws) for value, point in points.items()
    }
    outcomes = evaluate_batched(folder, protocol_of(*points.values()), range(4), CPU, draws=draws)
    for seed, outcome in outcomes.items():
        validated = {value: alone[value][seed].splits["fold00"]["validation_score"] for value in values}
        chosen = outcome.settings[name]
        assert validated[chosen] == max(validated.values()) > min(validated.values())
        assert outcome.settings == points[chosen].to_dict()
        for split, found in outcome.splits.items():
            assert found == pytest.approx(alone[chosen][seed].splits[split], abs=1e-6)


def test_of_equally_good_points_the_first_that_a_seed_tries_is_chosen(tmp_path):
    folder = write_embeddings(tmp_path / "task", sizes=SIZES, noise=0.0)
    protocol = protocol_of(SETTINGS, replace(SETTINGS, dropout=0.1))
    outcomes = evaluate_batched(folder, protocol, range(6), CPU)
    assert all(outcome.splits["test"]["validation_score"] == 1 for outcome in outcomes.values())
    first = {seed: protocol.points(seed, {})[0].dropout for seed in range(6)}
    assert {seed: outcome.settings["dropout"] for seed, outcome in outcomes.items()} == first
    assert set(first.values()) == {0.1, 0.25}


def test_a_task_may_monitor_the_validation_loss(tmp_path):
    folder = write_embeddings(tmp_path / "task", sizes=SIZES, noise=4, use_scoring_for_early_stopping=False)
    data = data_of(read_task(folder), by_score=False)
    points = [SETTINGS, replace(SETTINGS, lr=1e-2)]
    outcome = evaluate_batched(folder, protocol_of(*points), [0], CPU)[0]
    order = protocol_of(*points).points(0, {})
    own = [Draws("task", "test", 0, index, device=CPU) for index in range(2)]
    losses = curves(Group(data, order, own), 60, 3)
    assert outcome.splits["test"]["validation_score"] == pytest.approx(float(losses.min()), abs=1e-5)
    assert outcome.settings == order[int(losses.min(1).values.argmin())].to_dict()


def test_trainings_that_do_not_fit_into_memory_take_turns(tmp_path, monkeypatch, double):
    folder = write_embeddings(tmp_path / "task", sizes=SIZES)
    protocol = protocol_of(replace(SETTINGS, max_epochs=12), replace(SETTINGS, max_epochs=12, dropout=0.1))
    sizes = []
    train = Group.train
    monkeypatch.setattr(Group, "train", lambda group: (sizes.append(len(group._places)), train(group))[1])
    together = evaluate_batched(folder, protocol, range(3), CPU)
    assert sizes == [6]
    sizes.clear()
    task = read_task(folder)
    need = batched._bytes(SETTINGS, data_of(task))
    embeddings = 4 * sum(SIZES.values()) * (24 + 4)
    monkeypatch.setattr(batched, "ELSEWHERE", embeddings + 2 * need)
    in_turns = evaluate_batched(folder, protocol, range(3), CPU)
    assert sizes == [2, 2, 2]
    sizes.clear()
    monkeypatch.setattr(batched, "ELSEWHERE", 0)
    evaluate_batched(folder, protocol, range(3), CPU)
    assert sizes == [1] * 6
    for seed in together:
        assert in_turns[seed].splits["test"] == pytest.approx(together[seed].splits["test"], abs=1e-5)


@pytest.fixture
def tf32():
    """Allowed, as a user may have it."""
    matmul = torch.backends.cuda.matmul
    before, matmul.allow_tf32 = matmul.allow_tf32, True
    yield matmul
    matmul.allow_tf32 = before


def test_matrix_products_are_in_full_precision_meanwhile(tmp_path, tf32):
    seen = []

    class Watching(Draws):
        def keep(self, mask, probability):
            seen.append(tf32.allow_tf32)
            super().keep(mask, probability)

    folder = write_embeddings(tmp_path / "task", sizes=SIZES)
    evaluate_batched(folder, protocol_of(replace(SETTINGS, max_epochs=3)), [0], CPU, draws=Watching)
    assert set(seen) == {False}
    assert tf32.allow_tf32


def test_a_last_batch_of_one_clip_is_refused_where_there_is_a_batch_norm(tmp_path):
    folder = write_embeddings(tmp_path / "task", sizes={**SIZES, "train": 33})
    with pytest.raises(TaskError, match=r"33 clips of train.*batch norm"):
        evaluate_batched(folder, protocol_of(SETTINGS), [0], CPU)
    assert evaluate_batched(folder, protocol_of(replace(SETTINGS, hidden_layers=0)), [0], CPU)


def test_what_cannot_be_evaluated_is_said_before_anything_is_trained(tmp_path):
    folder = write_embeddings(tmp_path / "task", sizes=SIZES, metrics=["top1_acc", "event_onset_200ms_fms"])
    with pytest.raises(TaskError, match="--engine heareval"):
        evaluate_batched(folder, protocol_of(SETTINGS), [0], CPU)
    folder = write_embeddings(tmp_path / "other", sizes=SIZES)
    with pytest.raises(TaskError, match="every 3 epochs is none in 2"):
        evaluate_batched(folder, protocol_of(replace(SETTINGS, max_epochs=2)), [0], CPU)


@pytest.mark.parametrize("initialization", ["xavier_uniform", "xavier_normal"])
def test_first_parameters_are_distributed_as_the_sequential_engine_s(initialization):
    settings = replace(SETTINGS, hidden_layers=2, hidden_dim=300, initialization=initialization)
    ours = Draws("a", device=CPU).linear(settings, 200, 100)
    theirs = [module for module in build_network(settings, 200, 100).requires_grad_(False) if hasattr(module, "in_features")]
    for (weight, bias), layer in zip(ours, theirs, strict=True):
        for mine, other in ((weight, layer.weight), (bias, layer.bias)):
            assert mine.shape == other.shape
            tolerance = 6 * mine.numel() ** -0.5  # standard errors of a mean, about
            assert float(mine.mean() / other.std()) == pytest.approx(0, abs=tolerance)
            assert float(mine.std() / other.std()) == pytest.approx(1, abs=tolerance)
            assert float(mine.abs().max() / other.abs().max()) == pytest.approx(1, abs=0.3)


def test_draws_are_a_training_s_own():
    def drawn(*key):
        draws, mask = Draws(*key, device=CPU), torch.empty(50, 400)
        ((weight, _),) = draws.linear(replace(SETTINGS, hidden_layers=0), 10, 5)
        draws.keep(mask, 0.75)
        assert set(mask.unique().tolist()) == {0.0, 1.0}
        assert float(mask.mean()) == pytest.approx(0.75, abs=0.02)
        return torch.cat([weight.flatten(), mask.flatten()])

    keys = [("task", "fold00", 0, 1), ("task", "fold01", 0, 1), ("task", "fold00", 1, 1), ("task", "fold00", 0, 0)]
    assert torch.equal(drawn(*keys[0]), drawn(*keys[0]))
    for one, other in itertools.combinations(keys, 2):
        assert not torch.equal(drawn(*one)[:50], drawn(*other)[:50])
