"""What a run tells: its rate and its time from the first passes on, and a warning where it would take days."""

import logging

import torch

from hear_axlstm.pretraining.log import Log, Pace, warning_of
from hear_axlstm.pretraining.state import RunFolder

HOUR = 3_600


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self):
        return self.now


def told(clips, passes):
    """What Pace says after each of some passes, (clips, seconds that it took)."""
    clock = Clock()
    pace = Pace(clips, clock)
    found = []
    for seen, seconds in passes:
        clock.now += seconds
        found.append(pace.add(seen))
    return found


def test_a_run_of_more_than_a_day_is_warned_of_with_what_to_do():
    assert warning_of(24 * HOUR, rate=1.0) is None
    text = warning_of(48 * HOUR, rate=0.5)
    assert "about 4 days more: 172,800 clips at 0.5 a second" in text
    assert "--steps, --batch or recipe" in text


def test_the_warning_comes_once_and_after_the_first_passes():
    first, second, third, fourth = told(1_000_000, [(16, 60.0), (16, 4.0), (16, 12.0), (16, 8.0)])
    assert (first, second, fourth) == (None, None, None)
    assert "999,952 clips at 2.0 a second" in third  # the first minute, in which kernels were compiled, is not counted


def test_a_short_run_is_not_warned_of():
    assert told(10_000, [(16, 60.0), *[(16, 5.0)] * 9]) == [None] * 10


def test_the_bar_moves_within_an_update_and_says_loss_rate_and_time(tmp_path, capsys):
    with Log(RunFolder(tmp_path), 2, 4, 8, processes=2, active=True, progress=True) as log:
        log.bar.mininterval = 0
        assert log.bar.n == 16
        log.seen(2)
        assert log.bar.n == 20
        log.seen(2)
        log.add(3, torch.tensor(0.25), 1e-3)
        assert log.bar.desc == "update 4/4"
    shown = capsys.readouterr().err
    assert "update 3/4" in shown
    assert "loss 0.2500, lr 1.0e-03" in shown
    assert "clips/s" in shown
    assert " left, " in shown


def test_the_warning_of_a_long_run_is_logged(tmp_path, caplog):
    with (
        caplog.at_level(logging.WARNING),
        Log(RunFolder(tmp_path), 0, 9, 8, processes=1, active=True, progress=False) as log,
    ):
        log.pace = Pace(10**9, clock := Clock())
        for _ in range(3):
            clock.now += 20
            log.seen(8)
    assert [message.count("this run will take about") for message in caplog.messages] == [1]
