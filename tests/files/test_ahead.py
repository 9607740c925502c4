"""Plans drawn ahead in the background: in order, bounded, errors raised where they are seen."""

import threading
import time

import pytest

from hear_axlstm.files.ahead import DrawnAhead
from tests.processes import wait_until


def drawn(items, limit=3, **options):
    return DrawnAhead(items, size=lambda item: 1, limit=limit, **options)


def test_items_come_in_order_and_few_wait():
    given = []

    def numbers():
        for number in range(10):
            given.append(number)
            yield number

    ahead = drawn(numbers())
    wait_until(lambda: len(given) == 4)
    time.sleep(0.05)  # for more, which must not come
    assert len(given) == 4
    assert list(ahead) == list(range(10))
    ahead.close()


def test_one_item_may_wait_however_large():
    ahead = DrawnAhead(iter("ab"), size=lambda item: 99, limit=1)
    assert list(ahead) == ["a", "b"]


def test_what_is_raised_comes_after_the_items_in_the_thread_that_draws():
    def broken():
        yield 1
        raise OSError("the disk is gone")

    ahead = drawn(broken())
    assert next(ahead) == 1
    with pytest.raises(OSError, match="the disk is gone"):
        next(ahead)
    assert next(ahead, None) is None


def test_whoever_waits_is_told_so():
    go_on, ticks = threading.Event(), []

    def slow():
        go_on.wait()
        yield 1

    def tick():
        ticks.append(threading.current_thread())
        go_on.set()

    assert list(drawn(slow(), while_waiting=tick)) == [1]
    assert ticks[0] is threading.current_thread()


def test_the_thread_ends_when_nobody_wants_more():
    closed = []

    def endless():
        try:
            while True:
                yield 1
        finally:
            closed.append(threading.current_thread().name)

    ahead = drawn(endless())
    assert next(ahead) == 1
    ahead.close()
    assert closed == ["plan"]
