"""Busy processes beside the encoders: the share that is left, the processes, and what a row says."""

import signal
import subprocess
import sys

import pytest

from benchmarks.busy import SPIN, busy_processes, free_share, row
from benchmarks.subjects import Calls, Subject, timed, user_environment
from tests.processes import is_running, wait_until


@pytest.mark.parametrize(
    ("busy", "threads", "processors", "share"),
    [(0, 2, 2, 1), (2, 2, 2, 1 / 2), (8, 2, 2, 1 / 5), (2, 1, 2, 2 / 3), (2, 4, 8, 1), (8, 8, 8, 1 / 2)],
)
def test_the_free_share_treats_all_threads_alike(busy, threads, processors, share):
    assert free_share(busy, threads, processors) == pytest.approx(share)


def test_busy_processes_end_with_the_measurement():
    with busy_processes(2) as spinning:
        assert all(process.poll() is None for process in spinning)
    assert all(process.returncode == -signal.SIGKILL for process in spinning)


def test_busy_processes_end_when_the_measurement_is_killed():
    starts = f"import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', {SPIN!r}], stdin=subprocess.PIPE)"
    script = starts + "; print(p.pid, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        spinning = int(process.stdout.readline())
        assert is_running(spinning)
        process.kill()
    wait_until(lambda: not is_running(spinning))


def test_a_row_compares_with_the_free_share_and_with_one_thread():
    ours, one_thread = Calls(1, (0.1, 0.3), (0.2, 0.2)), Calls(1, (0.2, 0.2), (0.1, 0.1))
    cells = row(ours, one_thread, free=10.0)
    assert cells["chunks/s"] == 5.0
    assert cells["% of the free share"] == 50
    assert cells["processor s a chunk"] == 0.2
    assert (cells["p50 ms"], cells["p99 ms"], cells["its p50 ms"]) == (100.0, 300.0, 200.0)
    assert cells["time / one thread's"] == 1.0


def test_calls_are_made_for_the_time_given_and_once_at_least():
    batches = []
    assert len(timed(batches.append, 8, seconds=0)["wall"]) == 1
    assert batches == [8]
    both = Calls(8, (0.5,), (0.25,)) + Calls(8, (1.5,), (0.75,))
    assert both.chunks_per_second == 8
    assert both.processor_seconds == 1 / 16


def test_a_process_that_is_measured_has_the_settings_of_a_user(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("HEAR_AXLSTM_THREADS", "7")
    monkeypatch.setenv("HEAR_AXLSTM_WEIGHTS", "elsewhere")
    environment = user_environment({"OMP_NUM_THREADS": "1"})
    assert environment["OMP_NUM_THREADS"] == "1"
    assert "HEAR_AXLSTM_THREADS" not in environment
    assert environment["HEAR_AXLSTM_WEIGHTS"] == "elsewhere"


def test_a_process_that_cannot_be_measured_says_so():
    with Subject("benchmarks.nothing") as subject, pytest.raises(RuntimeError, match="exit status 1"):
        subject.ready()
