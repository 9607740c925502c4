"""kill -9 or Ctrl-C in the middle of a run: the next run does the rest, and the whole equals an uninterrupted run."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from hear_axlstm.cli.common import there_already
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.progress import several
from tests.conftest import noise
from tests.processes import children, is_running, stopped, wait_until
from tests.tolerances import BATCH_MATES

NAMES = [f"{index:02}.wav" for index in range(24)]


@pytest.fixture
def command(tmp_path, random_weights):
    """Embeds 24 sounds; the folder for the embeddings is yet to be named."""
    (tmp_path / "sounds").mkdir()
    for index, name in enumerate(NAMES):
        soundfile.write(tmp_path / "sounds" / name, noise(4 * SAMPLE_RATE + 99 * index, seed=index).numpy(), SAMPLE_RATE)
    return ["embed", tmp_path / "sounds", "--model", random_weights("ssam-tiny"), "--batch-seconds", "5", "-o"]


def running_children(process):
    """The two that decode, where the system tells."""
    found = children(process)
    assert len(found) == (2 if sys.platform == "linux" else 0)
    return found


def test_a_killed_run_is_taken_up_again(tmp_path, command):
    run = stopped("*.npy", 3, *command, tmp_path / "killed", "--workers", "2", stderr=subprocess.DEVNULL)
    decoding = running_children(run.pid)
    run.send_signal(signal.SIGKILL)
    run.wait()
    wait_until(lambda: not any(map(is_running, decoding)))
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "killed").glob("*.npy")}
    assert 3 <= len(done) < len(NAMES)

    program = [sys.executable, "-m", "hear_axlstm", *command]
    result = subprocess.run([*program, tmp_path / "killed"], capture_output=True, text=True)
    assert result.returncode == 0
    assert f"{several(len(NAMES) - len(done), 'sound')} embedded, {there_already(len(done))}, 0 failed" in result.stderr
    assert all(path.stat().st_mtime_ns == modified for path, modified in done.items())
    subprocess.run([*program, tmp_path / "whole"], check=True, capture_output=True)
    for name in NAMES:
        killed, whole = (np.load(tmp_path / folder / f"{name}.embedding.npy") for folder in ("killed", "whole"))
        np.testing.assert_allclose(killed, whole, rtol=0, atol=BATCH_MATES)


def test_ctrl_c_ends_a_run_and_its_processes_at_once(tmp_path, command):
    options = {"stderr": subprocess.PIPE, "start_new_session": True}
    run = stopped("*.npy", 3, *command, tmp_path / "out", "--workers", "2", **options)
    decoding = running_children(run.pid)
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does
    run.send_signal(signal.SIGCONT)
    _, told = run.communicate()
    wait_until(lambda: not any(map(is_running, decoding)))
    assert run.returncode == 1
    assert "interrupted: what was finished is kept, and the same command goes on from there" in told
    assert "Traceback" not in told
    assert not list((tmp_path / "out").glob(".*.part"))
    done = sorted((tmp_path / "out").glob("*.npy"))
    assert 3 <= len(done) < len(NAMES)
    assert all(np.load(path).shape == (960,) for path in done)
