"""When many trainings stop and which epochs count, beside the rule for one and beside Lightning itself."""

import logging
import math
import random

import numpy as np
import pytest
import torch

from hear_axlstm.evaluation.native.batched_stopping import BatchedStopping
from hear_axlstm.evaluation.native.stopping import Stopping

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
