"""kill -9 or Ctrl-C in the middle of a run: the next run does the rest, and the whole equals an uninterrupted run."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hear_axlstm.config import SAMPLE_RATE
from tests.conftest import noise
from tests.tolerances import BATCH_MATES

NAMES = [f"{index:02}.wav" for index in range(24)]


@pytest.fixture
def command(tmp_path, random_weights):
    """Embeds 24 sounds; the folder for the embeddings is yet to be named."""
    (tmp_path / "sounds").mkdir()
    for index, name in enumerate(NAMES):
        soundfile.write(tmp_path / "sounds" / name, noise(4 * SAMPLE_RATE + 99 * index, seed=index).numpy(), SAMPLE_RATE)
    command = [sys.executable, "-m", "hear_axlstm", "embed", tmp_path / "sounds", "--model", random_weights("ssam-tiny")]
    return [*command, "--batch-seconds", "5", "-o"]


def wait_for_embeddings(run, folder):
    while len(list(folder.glob("*.npy"))) < 3:
        assert run.poll() is None, "the run ended before it could be stopped"
        time.sleep(0.02)


def status(process):
    try:
        return Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return ""


def children(process):
    """The processes that it started, where the system tells."""
    others = [path.name for path in Path("/proc").glob("[0-9]*")]
    return [other for other in others if f"PPid:\t{process}\n" in status(other)]


def is_running(process):
    return status(process) != "" and "State:\tZ" not in status(process)


def assert_end(processes):
    assert len(processes) == (2 if sys.platform == "linux" else 0)
    start = time.monotonic()
    while any(map(is_running, processes)):
        assert time.monotonic() - start < 5, "processes have outlived the run"
        time.sleep(0.02)


def test_a_killed_run_is_taken_up_again(tmp_path, command):
    run = subprocess.Popen([*command, tmp_path / "killed", "--workers", "2"], stderr=subprocess.DEVNULL)
    wait_for_embeddings(run, tmp_path / "killed")
    decoding = children(run.pid)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert_end(decoding)
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "killed").glob("*.npy")}
    assert 3 <= len(done) < len(NAMES)

    result = subprocess.run([*command, tmp_path / "killed"], capture_output=True, text=True)
    assert result.returncode == 0
    assert f"{len(NAMES) - len(done)} embedded, {len(done)} there already, 0 failed" in result.stderr
    assert all(path.stat().st_mtime_ns == modified for path, modified in done.items())
    subprocess.run([*command, tmp_path / "whole"], check=True, capture_output=True)
    for name in NAMES:
        killed, whole = (np.load(tmp_path / folder / f"{name}.embedding.npy") for folder in ("killed", "whole"))
        np.testing.assert_allclose(killed, whole, rtol=0, atol=BATCH_MATES)


def test_ctrl_c_ends_a_run_and_its_processes_at_once(tmp_path, command):
    command += [tmp_path / "out", "--workers", "2"]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_for_embeddings(run, tmp_path / "out")
    decoding = children(run.pid)
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does
    _, told = run.communicate(timeout=20)
    assert_end(decoding)
    assert run.returncode == 1
    assert "Aborted!" in told
    assert "Traceback" not in told
    assert not list((tmp_path / "out").glob(".*.part"))
    done = sorted((tmp_path / "out").glob("*.npy"))
    assert 3 <= len(done) < len(NAMES)
    assert all(np.load(path).shape == (960,) for path in done)
