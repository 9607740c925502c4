"""The folder of results: what is written is read back, and damage is named."""

import json
import math
import re

import pytest

from hear_axlstm.errors import OutputError
from hear_axlstm.evaluation.results import (
    MODEL,
    Failure,
    ModelRecord,
    Outcome,
    Score,
    failure_path,
    read_results,
    score_path,
)

SCORE = Score(
    model="m", weights_sha256="ab", task="esc50-v2.0.0-full", task_sha256="cd", differences=[], protocol="axlstm",
    protocol_sha256="ef", engine="native", seed=3, metric="top1_acc", score=0.5,
    splits={"fold00": {"test_score": 0.5, "test_d_prime": math.inf, "test_aucroc": math.nan, "epoch": 8}},
    settings={"dropout": 0.1}, versions={"torch": "2"}, device="cpu", seconds=1.5, finished="2026-01-01T00:00:00+00:00",
)  # fmt: skip


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "results"
    record = ModelRecord(name="m", module="hear_axlstm", weights_sha256="ab", parameters=7, options={"layout": "time"})
    record.write(folder / "m" / MODEL)
    SCORE.write(score_path(folder / "m", "axlstm", "native", SCORE.task, 3))
    failure = Failure(model="m", task="fsd50k-v1.0-full", protocol="axlstm", engine="native", reason="no such folder")
    failure.write(failure_path(folder / "m", "axlstm", "native", failure.task))
    return folder


def test_what_was_written_is_read(results):
    found = read_results([results])
    assert found.models["m"].options == {"layout": "time"}
    assert [failure.reason for failure in found.failures] == ["no such folder"]
    (score,) = found.scores
    assert score.splits["fold00"]["test_d_prime"] == math.inf
    assert math.isnan(score.splits["fold00"].pop("test_aucroc"))
    SCORE.splits["fold00"].pop("test_aucroc", None)
    assert score == SCORE


def test_files_are_strict_json(results):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    for path in results.rglob("*.json"):
        json.loads(path.read_text(), parse_constant=refuse)


def test_an_outcome_is_averaged_over_its_splits():
    outcome = Outcome({"fold00": {"test_score": 0.25}, "fold01": {"test_score": 0.75}}, {})
    assert outcome.mean("test_score") == 0.5


def test_nothing_there_and_two_of_a_name_are_refused(results, tmp_path):
    with pytest.raises(OutputError, match=f"{tmp_path / 'nowhere'}: no such folder"):
        read_results([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(OutputError, match=f"{tmp_path / 'empty'}: no results there"):
        read_results([tmp_path / "empty"])
    (tmp_path / "more").symlink_to(results)
    with pytest.raises(OutputError, match="both called m"):
        read_results([results, tmp_path / "more"])


def test_damage_and_other_versions_are_named(results):
    path = score_path(results / "m", "axlstm", "native", SCORE.task, 3)
    content = json.loads(path.read_text())
    path.write_text("")
    others = len(read_results([results]).scores)
    for text, why in (
        (json.dumps({**content, "schema": 99}), "another version"),
        (json.dumps({**content, "surprise": 1}), r"seed-003\.json is damaged"),
        ("{", r"seed-003\.json is damaged"),
    ):
        path.write_text(text)
        with pytest.raises(OutputError, match=why):
            Score.read(path)
        found = read_results([results])
        assert len(found.scores) == others
        (damaged,) = found.damaged
        assert re.search(why, damaged)
