"""Jobs in processes that may fail or die."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from hear_axlstm.errors import EvaluationError, TaskError
from hear_axlstm.parallel import Workers


def square(number):
    return number * number, os.getpid(), torch.get_num_threads()


def refuse(number):
    raise TaskError(f"{number} is odd")


def die(number):
    os.kill(os.getpid(), signal.SIGKILL)


def test_jobs_are_done_side_by_side_and_one_that_dies_takes_no_other_with_it():
    jobs = [(number, ((square, refuse, die)[number % 3], (number,))) for number in range(9)]
    with Workers(2) as workers:
        results = dict(workers.run(jobs))
        again = dict(workers.run([(10, (square, (10,)))]))
    assert sorted(results) == list(range(9))
    for number in (0, 3, 6):
        value, process, threads = results[number].result()
        assert (value, threads) == (number**2, 1)
        assert process != os.getpid()
    for number in (1, 4, 7):
        with pytest.raises(TaskError, match=f"{number} is odd"):
            results[number].result()
    for number in (2, 5, 8):
        with pytest.raises(EvaluationError, match="exit code -9"):
            results[number].result()
    assert again[10].result()[0] == 100


PROGRAM = """
import sys, time
from hear_axlstm.parallel import Workers
from tests.test_parallel import report_and_sleep
if __name__ == "__main__":
    with Workers(1) as workers:
        list(workers.run([(0, (report_and_sleep, (sys.argv[1],)))]))
"""


def report_and_sleep(path):
    with open(f"{path}.tmp", "w") as file:
        file.write(str(os.getpid()))
    os.rename(f"{path}.tmp", path)
    time.sleep(600)


def is_alive(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().split()[2] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_workers_end_when_their_parent_is_killed(tmp_path):
    program, note = tmp_path / "program.py", tmp_path / "pid"
    program.write_text(PROGRAM)
    parent = subprocess.Popen([sys.executable, program, note], env={**os.environ, "PYTHONPATH": os.getcwd()})
    deadline = time.monotonic() + 60
    while not note.exists():
        assert time.monotonic() < deadline
        assert parent.poll() is None
        time.sleep(0.1)
    child = int(note.read_text())
    assert is_alive(child)
    parent.kill()
    parent.wait()
    while is_alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)
