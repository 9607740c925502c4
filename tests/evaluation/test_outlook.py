"""The time that is left: what it goes by, and what is said of it."""

import pytest

from hear_axlstm.evaluation import outlook
from hear_axlstm.evaluation.outlook import Outlook, Work, seconds_of
from hear_axlstm.evaluation.protocols import PROTOCOLS
from hear_axlstm.evaluation.tasks.suite import write_suite
from hear_axlstm.evaluation.tasks.taskfolder import read_task


@pytest.fixture
def clock(monkeypatch):
    """A clock that is moved by hand."""
    now = [0.0]
    monkeypatch.setattr(outlook, "perf_counter", lambda: now[0])

    def move(seconds):
        now[0] += seconds

    return move


def work(sound=0.0, units=1_000.0, seeds=4):
    return Work(title="Tones", sound=sound, units=units, seeds=seeds, classifiers=5, clips=10)


def test_what_was_seen_takes_the_place_of_what_was_guessed(clock):
    with Outlook([work(sound=100), work(sound=300)], "native", "cpu", 2, shown=False) as found:
        guessed = found.left()
        assert guessed == pytest.approx(400 * 0.1 + 8_000 * 0.01 / 2)
        with found.embedding(0, None):
            clock(50)
        assert found.left() == pytest.approx(300 * 0.5 + 8_000 * 0.01 / 2)
        with found.embedding(1, None):
            clock(150)
        found.training()
        clock(20)
        found.trained(0, 4, 160)
        assert found.left() == pytest.approx(4 * 40 / 2)
        clock(30)
        assert found.left() == pytest.approx(50)
        found.failed(1)
        assert found.left() == 0


def test_without_a_terminal_there_is_a_line_as_a_task_starts_and_ends(clock, capsys):
    with Outlook([work(sound=100), work(sound=0, seeds=1)], "native", "cpu", 1, shown=True) as found:
        with found.embedding(0, None):
            clock(50)
        found.training()
        for _ in range(4):
            clock(2)
            found.trained(0, 1, 2)
        clock(2)
        found.trained(1, 1, 2)
    assert capsys.readouterr().err.splitlines() == [
        "task 1 of 2: Tones: embedding 10 clips, about 60 s left for all",
        "task 1 of 2: Tones: 10 clips embedded in 50 s, about 50 s left for all",
        "task 1 of 2: Tones: training 20 classifiers, about 50 s left for all",
        "task 1 of 2: Tones: 20 classifiers trained, about 2 s left for all",
        "task 2 of 2: Tones: training 5 classifiers, about 2 s left for all",
        "task 2 of 2: Tones: 5 classifiers trained",
    ]


def test_work_goes_by_sound_clips_and_grid(tmp_path):
    (path,) = write_suite(tmp_path, ["beijing_opera-v1.0-hear2021-full"]).tasks
    task = read_task(path)
    assert seconds_of(task) == pytest.approx(40, rel=0.01)
    found = Work.of(task, 3, PROTOCOLS["axlstm"], "native", embedded=False)
    assert (found.title, found.seeds, found.classifiers, found.clips) == ("Beijing Opera", 3, 5, 40)
    assert found.units == (2 + 4) * (200 + 24)  # two points on the first split, the better one on the other four
