"""The kit's own predictions, on small tasks, without TensorFlow and pkg_resources."""

import csv
import hashlib
import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hear_axlstm.errors import TaskError
from hear_axlstm.evaluation.kit.launch import evaluate_with_kit, read_outcome
from hear_axlstm.evaluation.protocols import PROTOCOLS
from hear_axlstm.evaluation.tasks.taskfolder import read_task
from tests.evaluation.folders import SCENE_METRICS, write_embeddings

pytestmark = pytest.mark.kit
FOLDS = {f"fold{index:02}": 30 for index in range(3)}
SPLITS = {"train": 60, "valid": 30, "test": 30}
PROTOCOL = PROTOCOLS["hear2021"]


def small(**grid):
    return {"task_specific_param_grid": {"max_epochs": [9], "hidden_dim": [16], **grid}}


def hashes(folder):
    return {path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns) for path in folder.iterdir()}


class Runs:
    """Two seeds side by side, from one folder; and the command alone, in folders that it writes into."""

    def __init__(self, current: Path, temporary: Path, pool: ThreadPoolExecutor) -> None:
        self.temporary = temporary
        self.current = current
        own = small()
        self.folds = write_embeddings(temporary.parent / "folds", sizes=FOLDS, evaluation_params=own)
        self.copy = write_embeddings(temporary.parent / "copy", sizes=FOLDS, evaluation_params=own)
        self.tags = write_embeddings(
            temporary.parent / "tags",
            sizes=SPLITS,
            prediction_type="multilabel",
            metrics=["mAP", "aucroc"],
            evaluation_params=small(max_epochs=[3]),
        )
        self.curves = temporary.parent / "curves"
        self.before = hashes(self.folds)
        self.one = pool.submit(evaluate_with_kit, self.folds, PROTOCOL, 1)
        self.zero = pool.submit(evaluate_with_kit, self.folds, PROTOCOL, 0, curves=self.curves)
        self.command = pool.submit(self.call)

    def call(self) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "hear_axlstm.evaluation.kit", "predictions", "--seed", "0"]
        command += ["--protocol", PROTOCOL.name, str(self.copy), str(self.tags)]
        return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def runs(bare_python):
    with ThreadPoolExecutor(2) as pool:
        yield Runs(*bare_python, pool)


def grid_points(folder):
    """What the kit's log says of the settings that it tried."""
    return re.findall(r"Grid point \d of 8: (\{.*\})", (folder / "prediction.log").read_text())


def is_told(settings, text):
    def told(name, value):
        return f"'{name}': <function {value}_ at" if name == "initialization" else f"'{name}': {value}"

    return all(told(name, value) in text for name, value in settings.to_dict().items())


def test_every_fold_is_tested_and_the_chosen_settings_are_told(runs):
    outcome = runs.zero.result()
    assert list(outcome.splits) == list(FOLDS)
    for split in outcome.splits.values():
        expected = {"test_loss", "test_score", "validation_score", "epoch", *(f"test_{name}" for name in SCENE_METRICS)}
        assert set(split) == expected
        assert split["test_score"] == split["test_top1_acc"]
        assert split["epoch"] in {2, 5, 8}
    tried = [settings.to_dict() for settings in PROTOCOL.points(0, read_task(runs.folds).metadata)]
    assert outcome.settings in tried


def test_seeds_side_by_side_are_as_alone(runs):
    assert runs.command.result().returncode == 0
    assert runs.zero.result() == read_outcome(runs.copy, read_task(runs.copy))
    assert runs.zero.result().mean("test_loss") != runs.one.result().mean("test_loss")


def test_what_lightning_logged_of_each_training_is_kept(runs):
    outcome = runs.zero.result()
    paths = sorted(runs.curves.iterdir())
    assert len(paths) == 8 + 2  # the grid on the first fold, then the other two folds
    with open(paths[-1], newline="") as file:
        checks = [row for row in csv.DictReader(file) if row["val_loss"]]
    assert [check["epoch"] for check in checks] == ["2", "5", "8"]
    assert max(float(check["val_score"]) for check in checks) == outcome.splits["fold02"]["validation_score"]


def test_embeddings_are_only_read_and_nothing_is_left_anywhere(runs):
    for run in (runs.zero, runs.one, runs.command):
        run.result()
    assert hashes(runs.folds) == runs.before
    assert not list(runs.current.iterdir())
    assert not list(runs.temporary.glob("hear-axlstm*"))


def test_the_protocols_points_are_tried_in_its_order(runs):
    runs.command.result()
    for folder in (runs.copy, runs.tags):
        logged, points = grid_points(folder), PROTOCOL.points(0, read_task(folder).metadata)
        assert len(logged) == len(points) == 8
        assert all(map(is_told, points, logged))


def test_several_labels_a_clip_are_scored_by_map(runs):
    runs.command.result()
    (split,) = read_outcome(runs.tags, read_task(runs.tags)).splits.values()
    assert split["test_score"] == split["test_mAP"] > 0.3


def test_the_command_is_quiet(runs):
    result = runs.command.result()
    assert result.stdout == ""
    assert all(line.startswith(("predict - copy - ", "predict - tags - ")) for line in result.stderr.splitlines())


def test_embeddings_that_are_not_there_are_no_matter_for_the_kit(tmp_path):
    folder = write_embeddings(tmp_path / "task", sizes=SPLITS)
    (folder / "valid.embeddings.npy").unlink()
    with pytest.raises(TaskError, match=r"valid\.embeddings\.npy is missing; embed the task first"):
        evaluate_with_kit(folder, PROTOCOL, 0)
    metadata = json.loads((folder / "task_metadata.json").read_text())
    metadata["evaluation_params"] = {"task_specific_param_grid": {"optim": ["SGD"]}}
    (folder / "task_metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(TaskError, match="own grid sets optim"):
        evaluate_with_kit(folder, PROTOCOL, 0)
