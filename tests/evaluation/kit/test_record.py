"""What is kept of the real kit's runs agrees with itself, and with the protocols."""

import pytest

from hear_axlstm.evaluation.tasks.taskfolder import read_task
from tests.evaluation.kit.record import CASES, recorded_curves, recorded_outcome


@pytest.mark.parametrize("name", CASES)
def test_the_best_check_of_each_training_is_its_outcome(name, tmp_path):
    case, curves, outcome = CASES[name], recorded_curves(name), recorded_outcome(name)
    task = read_task(case.write(tmp_path / name))
    points = case.protocol.points(case.seed, task.metadata)
    assert len(curves) == len(points) + len(task.data_splits) - 1
    best = [max(curve, key=lambda check: check["val_score"]) for curve in curves]
    scores = [check["val_score"] for check in best[: len(points)]]
    chosen = scores.index(max(scores))
    assert outcome.settings == points[chosen].to_dict()
    for split, check in zip(task.data_splits, [best[chosen], *best[len(points) :]], strict=True):
        assert outcome.splits[split.test]["validation_score"] == check["val_score"]
        assert outcome.splits[split.test]["epoch"] == check["epoch"]
    for curve in curves:
        assert [check["epoch"] for check in curve] == list(range(2, 3 * len(curve), 3))
