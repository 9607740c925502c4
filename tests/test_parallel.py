"""Work in threads, in order; and functions run by processes that may fail or die."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from pathlib import Path

import pytest

from hear_axlstm import parallel
from hear_axlstm.errors import ConfigError, TaskError
from hear_axlstm.parallel import Worker, WorkerDiedError, Workers, ordered_map, processors
from tests.processes import is_running, wait_until

# The ordered map


def test_results_come_in_the_order_of_the_items():
    def slow_if_early(number):
        time.sleep(0.02 * (5 - number))
        return number**2

    assert list(ordered_map(slow_if_early, range(6), 3)) == [number**2 for number in range(6)]
    assert list(ordered_map(slow_if_early, [])) == []


def drawn(taken, count=100):
    for number in range(count):
        taken.append(number)
        yield number


@pytest.mark.parametrize(("options", "expected"), [({"limit": 4}, 4), ({"limit": 30, "size": lambda item: 10}, 3)])
def test_no_more_items_wait_than_the_limit_allows(options, expected):
    taken, go_on = [], threading.Event()
    note_when_it_waits(taken, expected, go_on)
    with closing(ordered_map(lambda item: go_on.wait() and item, drawn(taken), 2, **options)) as results:
        assert next(results) == 0
    assert taken[:expected] == list(range(expected))
    assert taken[expected] == "waited"


def test_no_more_items_wait_than_a_thousand(monkeypatch):
    monkeypatch.setattr(parallel, "WAITING", 5)
    taken, go_on = [], threading.Event()
    note_when_it_waits(taken, 5, go_on)
    with closing(ordered_map(lambda item: go_on.wait(), drawn(taken), 2)) as results:
        next(results)
    assert taken[5] == "waited"


def note_when_it_waits(taken, expected, go_on):
    """Let the map go on when it has taken what it may, and some time for more."""

    def note():
        wait_until(lambda: len(taken) >= expected)
        time.sleep(0.1)
        taken.append("waited")
        go_on.set()

    threading.Thread(target=note, daemon=True).start()


def test_enough_is_under_way_before_a_result_is_given():
    taken = []
    with closing(ordered_map(str, drawn(taken), 2, ahead=7, limit=7)) as results:
        assert next(results) == "0"
        assert len(taken) == 7


def test_a_finished_result_is_given_before_more_items_are_drawn():
    taken, first_is_done = [], threading.Event()

    def items():
        for item in drawn(taken):
            assert item != 2 or first_is_done.wait()
            yield item

    work = lambda item: item != 1 or first_is_done.set()  # noqa: E731 - by a single thread, one after the other
    with closing(ordered_map(work, items(), 1, ahead=0)) as results:
        next(results)
        assert len(taken) <= 3


@pytest.fixture
def ending(monkeypatch):
    """Is set as soon as a map ends and has dropped what it drops."""
    ending = threading.Event()

    class Pool(ThreadPoolExecutor):
        def shutdown(self, *, cancel_futures):
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            ending.set()
            super().shutdown()

    monkeypatch.setattr(parallel, "ThreadPoolExecutor", Pool)
    return ending


@pytest.mark.parametrize("cancel", [True, False])
def test_an_item_that_raises_ends_the_map(ending, cancel):
    done = []

    def work(number):
        if number == 2:
            raise TaskError("2 is bad")
        if number > 2:
            ending.wait()
        done.append(number)
        return number

    with pytest.raises(TaskError, match="2 is bad"):
        list(ordered_map(work, range(30), 1, ahead=30, cancel=cancel))
    assert len(done) <= 3 if cancel else done == [number for number in range(30) if number != 2]


@pytest.mark.parametrize("cancel", [True, False])
def test_items_that_raise_or_a_caller_that_stops_end_the_map(ending, cancel):
    done = []

    def work(number):
        if number > 0:
            ending.wait()
        done.append(number)

    def broken():
        yield from range(30)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(ordered_map(work, broken(), 1, ahead=99, cancel=cancel))
    assert len(done) <= 2 if cancel else done == list(range(30))
    done.clear()
    ending.clear()
    with closing(ordered_map(work, range(30), 1, ahead=30, cancel=cancel)) as results:
        next(results)
    assert len(done) <= 2 if cancel else done == list(range(30))


# Processes


def square(number):
    return number * number, os.getpid()


def refuse(number):
    raise TaskError(f"{number} is odd")


def die(number):
    os.kill(os.getpid(), signal.SIGKILL)


def wait_forever(note):
    with open(f"{note}.tmp", "w") as file:
        file.write(str(os.getpid()))
    os.rename(f"{note}.tmp", note)
    time.sleep(600)


@pytest.fixture
def worker():
    worker = Worker()
    yield worker
    worker.close()


def test_functions_run_side_by_side_and_one_that_dies_takes_no_other_with_it():
    with Workers(2) as workers:
        jobs = {workers.submit((square, refuse, die)[number % 3], number): number for number in range(9)}
        results = {jobs[future]: future for future in as_completed(jobs)}
        assert workers.submit(square, 10).result()[0] == 100
    assert sorted(results) == list(range(9))
    for number in (0, 3, 6):
        value, process = results[number].result()
        assert value == number**2
        assert process != os.getpid()
    for number in (1, 4, 7):
        with pytest.raises(TaskError, match=f"{number} is odd"):
            results[number].result()
    for number in (2, 5, 8):
        with pytest.raises(WorkerDiedError, match="the process ended with SIGKILL; was there enough memory"):
            results[number].result()


def test_without_processes_threads_of_this_one_run_the_functions():
    with Workers(0) as workers:
        assert workers.submit(square, 3).result() == (9, os.getpid())


def test_leaving_ends_processes_in_the_middle_of_what_they_do(tmp_path):
    with Workers(2) as workers:
        futures = [workers.submit(wait_forever, tmp_path / str(number)) for number in range(5)]
        wait_until((tmp_path / "0").exists)
    for future in futures:
        assert future.cancelled() or isinstance(future.exception(), WorkerDiedError)


def test_a_process_is_replaced_when_it_has_died(worker):
    first = worker.call(square, 1)[1]
    assert worker.call(square, 1)[1] == first
    threading.Timer(0.2, os.kill, (first, signal.SIGKILL)).start()
    with pytest.raises(WorkerDiedError, match="SIGKILL"):
        worker.call(time.sleep, 600)
    second = worker.call(square, 1)[1]
    os.kill(second, signal.SIGKILL)
    time.sleep(0.1)
    with pytest.raises(WorkerDiedError, match="SIGKILL"):  # nothing is tried twice: it may be to blame
        worker.call(square, 1)
    assert worker.call(square, 1)[1] not in {first, second}


def test_what_cannot_be_sent_costs_its_own_call_only(worker):
    with pytest.raises(WorkerDiedError):
        worker.call(threading.Lock)  # the result
    with pytest.raises((AttributeError, TypeError)):
        worker.call(print, threading.Lock())
    assert worker.call(square, 2)[0] == 4


def test_what_a_function_prints_is_no_reply(worker):
    assert worker.call(os.write, 1, b"printed\n") == 8
    assert worker.call(square, 2)[0] == 4


def test_a_process_that_cannot_start_says_so(worker, monkeypatch):
    monkeypatch.setattr(parallel, "PROGRAM", "raise SystemExit(3)")
    with pytest.raises(OSError, match=r"ended with exit status 3 as it started; workers=0 does without"):
        worker.call(square, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_process_does_without_torch(worker):
    worker.call(os.getpid)
    assert "libtorch" not in Path(f"/proc/{worker.process.pid}/maps").read_text()


def test_this_room_does_without_torch():
    program = "import sys, hear_axlstm.parallel; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.fixture
def unlimited(monkeypatch):
    monkeypatch.delenv("HEAR_AXLSTM_THREADS", raising=False)
    monkeypatch.setattr(parallel, "quota_at_start", lambda: None)


@pytest.mark.skipif(sys.platform != "linux", reason="affinity is Linux's")
def test_processors_are_those_that_this_process_may_run_on(unlimited):
    before = os.sched_getaffinity(0)
    assert processors() == len(before)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert processors() == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(("quota", "count"), [(None, 4), (1, 1), (3, 3), (64, 4)])
def test_processors_are_no_more_than_the_control_group_allows(unlimited, monkeypatch, quota, count):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(4)), raising=False)
    monkeypatch.setattr(parallel, "quota_at_start", lambda: quota)
    assert processors() == count


def test_a_variable_says_how_many_processors_are_used(unlimited, monkeypatch):
    monkeypatch.setenv("HEAR_AXLSTM_THREADS", "77")
    assert processors() == 77
    monkeypatch.setenv("HEAR_AXLSTM_THREADS", "")
    assert processors() <= os.cpu_count()


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "two", " 2", "\u0662"], ids=ascii)
def test_a_number_of_processors_that_is_none_is_refused(unlimited, monkeypatch, text):
    monkeypatch.setenv("HEAR_AXLSTM_THREADS", text)
    with pytest.raises(ConfigError, match=r"HEAR_AXLSTM_THREADS is .*; expected a whole number, 1 or more"):
        processors()


PROGRAM = """
import sys
from hear_axlstm.parallel import Workers
from tests.test_parallel import wait_forever
print("once", flush=True)
with Workers(1) as workers:  # a script without a guard
    workers.submit(wait_forever, sys.argv[1]).result()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_processes_end_when_their_parent_is_killed(tmp_path):
    program, note = tmp_path / "program.py", tmp_path / "pid"
    program.write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])}
    parent = subprocess.Popen([sys.executable, program, note], env=environment, stdout=subprocess.PIPE, text=True)
    wait_until(note.exists, parent)
    child = int(note.read_text())
    assert is_running(child)
    parent.kill()
    assert parent.communicate()[0] == "once\n"
    wait_until(lambda: not is_running(child))
