"""Whether the kit is there, the folder and the process it runs in, and the reason given of the process's end."""

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import pytest
import torch

from hear_axlstm.errors import EvaluationError
from hear_axlstm.evaluation.kit import launch
from hear_axlstm.evaluation.kit.launch import require_kit, scratch_folder

OURS = "pip install 'hear-axlstm[kit]'"
THEIRS = "pip install --no-deps --ignore-requires-python heareval==2021.1.3"


def not_installed(name):
    raise PackageNotFoundError(name)


def test_the_version_is_told():
    assert require_kit() == "2021.1.3"


def test_without_the_kit_both_commands_are_told(monkeypatch):
    monkeypatch.setattr(launch, "version", not_installed)
    with pytest.raises(EvaluationError) as error:
        require_kit()
    assert OURS in str(error.value)
    assert THEIRS in str(error.value)


def test_another_kit_is_refused(monkeypatch):
    monkeypatch.setattr(launch, "version", lambda name: "2021.0.1")
    with pytest.raises(EvaluationError, match=r"is 2021\.0\.1; expected 2021\.1\.3") as error:
        require_kit()
    assert THEIRS in str(error.value)


def test_what_the_kit_imports_is_asked_for_by_name(monkeypatch):
    find_spec = launch.find_spec
    missing = {"sed_eval", "pytorch_lightning"}
    monkeypatch.setattr(launch, "find_spec", lambda name: None if name in missing else find_spec(name))
    with pytest.raises(EvaluationError, match="imports pytorch_lightning, sed_eval, which") as error:
        require_kit()
    assert OURS in str(error.value)
    assert THEIRS not in str(error.value)


TRACEBACK = """predict - task - Grid point 1 of 8
Traceback (most recent call last):
  File "one.py", line 1, in one
KeyError: 'first'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "two.py", line 2, in two
    read()
  File "three.py", line 3, in read
    raise TaskError(
    ~~~~~~~~~^^^^^^
hear_axlstm.errors.TaskError: it is damaged;
  repeat it
"""


@pytest.mark.parametrize(
    ("code", "written", "reason"),
    [
        (1, TRACEBACK, 'hear_axlstm.errors.TaskError: it is damaged;\n  repeat it\nFile "three.py", line 3, in read'),
        (2, "Usage: runner\n\nError: No such option: --gpu\n", "Usage: runner\n\nError: No such option: --gpu"),
        (3, "", "exit code 3"),
        (-9, "", "ended by SIGKILL"),
        (-6, "terminate called\n", "ended by SIGABRT\nterminate called"),
        (1, "x" * 100_000 + "\n" + TRACEBACK, "hear_axlstm.errors.TaskError"),
        (1, "Traceback (most recent call last):\n", "Traceback (most recent call last):"),
    ],
)
def test_the_reason_is_the_last_exception_and_its_place(tmp_path, code, written, reason):
    log = tmp_path / "stderr.txt"
    log.write_text(written)
    assert launch._reason_of_end(log, code).startswith(reason)


@pytest.mark.parametrize(
    ("device", "visible", "expected"),
    [
        ("cpu", "0,1", ""),
        ("cuda", None, "0"),
        ("cuda:1", None, "1"),
        ("cuda:1", "4,7", "7"),
        ("cuda", "GPU-4a,GPU-7b", "GPU-4a"),
    ],
)
def test_the_process_sees_its_own_device_only(monkeypatch, device, visible, expected):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert launch._visible(device) == expected


@pytest.mark.parametrize("device", ["cuda:2", "mps"])
def test_devices_that_are_not_there_are_refused(monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(
        EvaluationError, match=re.escape(f"device is '{device}'; hear-eval-kit runs on cpu or cuda, and 2 GPUs")
    ):
        launch._visible(device)


KILLED = """
import os, signal
from hear_axlstm.evaluation.kit.launch import scratch_folder

with scratch_folder() as folder:
    (folder / "checkpoints").mkdir()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
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
