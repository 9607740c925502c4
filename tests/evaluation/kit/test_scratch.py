"""Temporary folders of runs: side by side, and after a process that was killed."""

import subprocess
import sys

import pytest

from hear_axlstm.evaluation.kit.scratch import scratch_folder

KILLED = """
import os, signal
from hear_axlstm.evaluation.kit.scratch import scratch_folder

with scratch_folder() as folder:
    (folder / "checkpoints").mkdir()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_folders_of_runs_side_by_side_are_left_alone(temporary):
    (temporary / "of somebody else").mkdir()
    with scratch_folder() as one:
        (one / "work").touch()
        with scratch_folder() as two:
            assert one != two
            assert (one / "work").exists()
        assert one.exists()
        assert not two.exists()
    assert [path.name for path in temporary.iterdir()] == ["of somebody else"]


def test_what_a_killed_process_left_goes_with_the_next_run(temporary):
    assert subprocess.run([sys.executable, "-c", KILLED]).returncode < 0
    (left,) = temporary.glob("hear-axlstm-kit-*")
    assert (left / "checkpoints").is_dir()
    with scratch_folder():
        assert not left.exists()
