"""When a training stops, and which epoch counts."""

import math

import pytest

from hear_axlstm.evaluation.native.stopping import Stopping


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
