"""What the kit's process is shown of the machine, and what is told of its end."""

import re

import pytest
import torch

from hear_axlstm.errors import EvaluationError
from hear_axlstm.evaluation.kit import process

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
    assert process._reason(log, code).startswith(reason)


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
    assert process._visible(device) == expected


@pytest.mark.parametrize("device", ["cuda:2", "mps"])
def test_devices_that_are_not_there_are_refused(monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(
        EvaluationError, match=re.escape(f"device is '{device}'; hear-eval-kit runs on cpu or cuda, and 2 GPUs")
    ):
        process._visible(device)
