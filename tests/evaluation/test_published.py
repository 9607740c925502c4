"""The published tables: read whole, under the names that our own tasks have, in percent."""

import pytest

from hear_axlstm.evaluation.protocols import PROTOCOLS
from hear_axlstm.evaluation.published import leaderboard, papers_table, published_with
from hear_axlstm.evaluation.statistics import Estimate
from hear_axlstm.evaluation.tasks.catalogue import KNOWN_TASKS, PAPER_TASKS

ESC = "esc50-v2.0.0-full"


def model(table, name):
    (found,) = [model for model in table.models if model.name == name]
    return found


def test_the_papers_table_has_20_models_with_ten_tasks_each():
    table = papers_table()
    assert len(table.models) == 20
    for row in table.models:
        assert list(row.scores) == [task.folder for task in PAPER_TASKS.values()]
        assert all(found.ci95 > 0 and found.n == 10 for found in (*row.scores.values(), row.aggregate))


def test_a_row_of_the_papers_table_is_as_printed():
    row = model(papers_table(), "AxLSTM-B")
    assert row.scores[ESC] == Estimate(79.2, 0.6, 10)
    assert row.scores["nsynth_pitch-v2.2.3-5h"] == Estimate(71.4, 0.8, 10)
    assert row.aggregate == Estimate(86.6, 0.2, 10)
    assert (row.parameters, row.pretraining) == (65_600_000, "AS")
    assert model(papers_table(), "HEAR-Naive").parameters is None


def test_the_leaderboard_has_percent_without_intervals():
    row = model(leaderboard(), "RedRice ced_base")
    assert row.scores[ESC].mean == pytest.approx(96.65, abs=0.001)
    assert row.scores[ESC].ci95 is None
    assert row.aggregate is None


def test_what_was_not_published_is_not_there():
    """Empty cells must not pass for 0; a printed 0 is a score."""
    assert "fsd50k-v1.0-full" not in model(leaderboard(), "CVSSP PANNS").scores
    assert model(leaderboard(), "CVSSP PANNS").scores["dcase2016_task2-hear2021-full"].mean == 0


def test_every_column_of_the_leaderboard_but_beehive_is_a_task_of_ours():
    found = {task for row in leaderboard().models for task in row.scores}
    assert found == {task.folder for task in KNOWN_TASKS.values() if task.leaderboard is not None}
    assert len(found) == 18
    assert len(leaderboard().models) == 34


@pytest.mark.parametrize("table", [papers_table(), leaderboard()], ids=lambda table: table.protocol)
def test_a_table_says_where_it_is_from(table):
    assert table.source
    assert table.url.startswith("https://")
    assert table.date[:2] == "20"
    assert len({row.name for row in table.models}) == len(table.models)
    assert all(0 <= found.mean <= 100 for row in table.models for found in row.scores.values())


def test_each_protocol_has_its_own_table_and_no_other():
    assert published_with("axlstm", PROTOCOLS["axlstm"].sha256) is papers_table()
    assert published_with("hear2021", PROTOCOLS["hear2021"].sha256) is leaderboard()
    assert published_with("axlstm", PROTOCOLS["hear2021"].sha256) is None
    assert published_with("another", "0" * 64) is None
