"""All trainings of a split at once, beside the same trainings one after the other, and beside Lightning's callbacks."""

import itertools
import logging
import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from hear_axlstm.errors import TaskError
from hear_axlstm.evaluation.native import batched
from hear_axlstm.evaluation.native.batched import BatchedStopping, Group, evaluate_batched
from hear_axlstm.evaluation.native.batched_network import TrainingDraws
from hear_axlstm.evaluation.native.data import Split, read_data, read_split
from hear_axlstm.evaluation.native.faithful import Stopping, evaluate_sequentially, measure, train
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
    monkeypatch.setattr("hear_axlstm.evaluation.native.data.read_split", lambda *named: converted(read_split(*named)))
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
    return replace(read_data(task, task.data_splits[0]), by_score=by_score)


def draws_of(count, key="draws"):
    return [TrainingDraws(key, index, device=CPU) for index in range(count)]


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


def one_by_one(data, settings):
    """Of each training, its validation losses and how it ends."""
    for seed, point in enumerate(settings):
        curve = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            trained = train(data, point, lambda epoch, loss, score, curve=curve: curve.append(loss))
            yield curve, measure(data, trained)


def curves(group, epochs, check_every):
    """What is monitored, check by check."""
    found = []
    for epoch in range(epochs):
        group.train_epoch()
        if (epoch + 1) % check_every == 0:
            found.append(group.monitored())
    return torch.stack(found, 1)


def assert_as_one_by_one(folder, settings, tolerance):
    data = data_of(read_task(folder), by_score=False)
    together = curves(Group(data, settings, streams(settings, 4)), 60, 3)
    ended = Group(data, settings, streams(settings, 4)).train()
    for ours, outcome, (losses, theirs) in zip(together, ended, one_by_one(data, settings), strict=True):
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
    class Broken(TrainingDraws):
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
        return TrainingDraws(split, seed, device=device)  # whatever the point

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
    own = [TrainingDraws("task", "test", 0, index, device=CPU) for index in range(2)]
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
    monkeypatch.setattr(batched, "CPU_BYTES", embeddings + 2 * need)
    in_turns = evaluate_batched(folder, protocol, range(3), CPU)
    assert sizes == [2, 2, 2]
    sizes.clear()
    monkeypatch.setattr(batched, "CPU_BYTES", 0)
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

    class Watching(TrainingDraws):
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
    with pytest.raises(TaskError, match="max_epochs is 2"):
        evaluate_batched(folder, protocol_of(replace(SETTINGS, max_epochs=2)), [0], CPU)


@pytest.mark.parametrize("initialization", ["xavier_uniform", "xavier_normal"])
def test_first_parameters_are_distributed_as_the_sequential_engine_s(initialization):
    settings = replace(SETTINGS, hidden_layers=2, hidden_dim=300, initialization=initialization)
    ours = TrainingDraws("a", device=CPU).linear(settings, 200, 100)
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
        draws, mask = TrainingDraws(*key, device=CPU), torch.empty(50, 400)
        ((weight, _),) = draws.linear(replace(SETTINGS, hidden_layers=0), 10, 5)
        draws.keep(mask, 0.75)
        assert set(mask.unique().tolist()) == {0.0, 1.0}
        assert float(mask.mean()) == pytest.approx(0.75, abs=0.02)
        return torch.cat([weight.flatten(), mask.flatten()])

    keys = [("task", "fold00", 0, 1), ("task", "fold01", 0, 1), ("task", "fold00", 1, 1), ("task", "fold00", 0, 0)]
    assert torch.equal(drawn(*keys[0]), drawn(*keys[0]))
    for one, other in itertools.combinations(keys, 2):
        assert not torch.equal(drawn(*one)[:50], drawn(*other)[:50])


CHECKS, PATIENCE = 60, 6


def trace(seed):
    """What a training may be told, check by check: many ties, values that float32 does not tell apart, worse ones."""
    rng = random.Random(seed)
    kind = seed % 4
    values = [round(rng.random(), (1, 2, 5)[seed % 3]) for _ in range(CHECKS)]
    values = [value + rng.choice([0, 1e-10]) for value in values]
    if kind == 1:
        values[rng.randrange(8)] = rng.choice([math.nan, math.inf, -math.inf])
    if kind == 2:  # ever better, at times
        values = [value + index // rng.randint(2, 9) / 10 for index, value in enumerate(values)]
    return values


CONSTANT = [[value] * CHECKS for value in (math.nan, math.inf, -math.inf, 0.5)]
STEADY = [[sign * check / CHECKS for check in range(CHECKS)] for sign in (1, -1)]
TRACES = [*CONSTANT, *STEADY, *map(trace, range(20))]


def followed_together(traces, patience, maximize):
    """Of each training: epoch and value that count, and after which check it stopped."""
    stopping = BatchedStopping(torch.full((len(traces),), patience), maximize=maximize)
    stops = [None] * len(traces)
    for check in range(CHECKS):
        alive = stopping.alive.tolist()
        stopping.check(check, torch.tensor([values[check] for values in traces], dtype=torch.float64))
        for index, before in enumerate(alive):
            if before and not stopping.alive[index]:
                stops[index] = check
    return list(zip(stopping.epoch.tolist(), stopping.best.tolist(), stops, strict=True))


def followed_alone(values, patience, maximize):
    stopping = Stopping(patience, maximize=maximize)
    for check, value in enumerate(values):
        stopping.check(check, value)
        if stopping.stopped:
            return stopping.epoch, stopping.best, check
    return stopping.epoch, stopping.best, None


def followed_by_lightning(values, patience, maximize, folder):
    pl = pytest.importorskip("pytorch_lightning")
    from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

    class Told(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))

        def training_step(self, batch, index):
            return 0 * self.weight

        def validation_step(self, batch, index):
            self.log("monitored", values[self.current_epoch])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    mode = "max" if maximize else "min"
    checkpoint = ModelCheckpoint(folder, monitor="monitored", mode=mode)
    early = EarlyStopping(monitor="monitored", patience=patience, mode=mode, check_finite=True)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    trainer = pl.Trainer(max_epochs=CHECKS, callbacks=[early, checkpoint], accelerator="cpu", **quiet)
    loader = torch.utils.data.DataLoader([0])
    trainer.fit(Told(), loader, loader)
    epoch = torch.load(checkpoint.best_model_path, weights_only=False)["epoch"]
    stop = early.stopped_epoch if trainer.should_stop else None
    return epoch, float(checkpoint.best_model_score), stop


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("maximize", [True, False])
def test_the_rule_is_lightning_s(tmp_path, maximize):
    together = followed_together(TRACES, PATIENCE, maximize)
    for index, values in enumerate(TRACES):
        theirs = followed_by_lightning(values, PATIENCE, maximize, tmp_path / str(index))
        assert together[index] == theirs, values
    assert len({stop for _, _, stop in together}) > 6
    assert None in {stop for _, _, stop in together}


@pytest.mark.parametrize("patience", [1, 3, 20])
@pytest.mark.parametrize("maximize", [True, False])
def test_the_rule_is_that_of_one_training(patience, maximize):
    traces = TRACES + [trace(seed) for seed in range(100, 300)]
    assert followed_together(traces, patience, maximize) == [followed_alone(v, patience, maximize) for v in traces]


def test_each_training_has_its_own_patience_and_goes_on_without_the_others():
    stopping = BatchedStopping(torch.tensor([1, 2, 9]), maximize=True)
    improved = [stopping.check(check, torch.tensor([0.5, 0.5, 0.5])).tolist() for check in range(2)]
    assert improved == [[True] * 3, [False] * 3]
    assert stopping.alive.tolist() == [False, True, True]
    assert stopping.check(2, torch.tensor([0.9, 0.4, 0.7])).tolist() == [False, False, True]
    stopping.select(torch.tensor([2]))
    assert stopping.check(3, torch.tensor([0.8])).tolist() == [True]
    assert (stopping.epoch.tolist(), stopping.best.tolist()) == ([3], [float(np.float32(0.8))])
