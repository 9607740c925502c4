"""kill -9 in the middle of a run: the next run does the rest, and the whole equals an uninterrupted run."""

import signal
import subprocess
import sys
import time

import numpy as np
import soundfile

from hear_axlstm.config import SAMPLE_RATE
from tests.conftest import noise
from tests.tolerances import BATCH_MATES


def test_a_killed_run_is_taken_up_again(tmp_path, random_weights):
    (tmp_path / "sounds").mkdir()
    names = [f"{index:02}.wav" for index in range(24)]
    for index, name in enumerate(names):
        soundfile.write(tmp_path / "sounds" / name, noise(4 * SAMPLE_RATE + 99 * index, seed=index).numpy(), SAMPLE_RATE)
    command = [sys.executable, "-m", "hear_axlstm", "embed", tmp_path / "sounds", "--model", random_weights("ssam-tiny")]
    command += ["--batch-seconds", "5", "-o"]

    run = subprocess.Popen([*command, tmp_path / "killed"], stderr=subprocess.DEVNULL)
    while len(list((tmp_path / "killed").glob("*.npy"))) < 3:
        assert run.poll() is None, "the run ended before it could be killed"
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.wait()
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "killed").glob("*.npy")}
    assert 3 <= len(done) < len(names)

    result = subprocess.run([*command, tmp_path / "killed"], capture_output=True, text=True)
    assert result.returncode == 0
    assert f"{len(names) - len(done)} embedded, {len(done)} there already, 0 failed" in result.stderr
    assert all(path.stat().st_mtime_ns == modified for path, modified in done.items())
    subprocess.run([*command, tmp_path / "whole"], check=True, capture_output=True)
    for name in names:
        killed, whole = (np.load(tmp_path / folder / f"{name}.embedding.npy") for folder in ("killed", "whole"))
        np.testing.assert_allclose(killed, whole, rtol=0, atol=BATCH_MATES)
