"""A command of hear-eval-kit in a process of its own -> nothing, or an error with the kit's reason."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from itertools import dropwhile
from pathlib import Path

import torch

from hear_axlstm.errors import EvaluationError

TAIL = 1 << 16
REASON_LINES = 10
GRACE_SECONDS = 10


def run_kit(arguments: Sequence[str], *, scratch: Path, device: str, threads: int | None = None) -> None:
    """``python -m hear_axlstm.evaluation.kit ARGUMENTS``; what it prints is dropped.

    scratch: a folder for this run alone, which the process removes when ours is killed. device: "cpu", where it is shown no
    GPU, or "cuda", "cuda:1", ..., where it is shown that one only. threads: of its matrix products; None: its own choice.

    Raises EvaluationError, with the last lines that it wrote to stderr, when it fails.
    """
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": _visible(device)}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    command = [sys.executable, "-m", "hear_axlstm.evaluation.kit", "--owner", str(os.getpid()), "--scratch", str(scratch)]
    log = scratch / "stderr.txt"
    with open(log, "wb") as stderr:
        process = subprocess.Popen(  # noqa: S603 - our own module
            [*command, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr, env=environment
        )
        try:
            code = process.wait()
        finally:
            _end(process)
    if code:
        raise EvaluationError(_reason(log, code))


def _visible(device: str) -> str:
    """CUDA_VISIBLE_DEVICES of a process that is to see this device only."""
    if device == "cpu":
        return ""
    wanted, there = torch.device(device), torch.cuda.device_count()
    index = wanted.index or 0
    if wanted.type != "cuda" or index >= there:
        raise EvaluationError(f"device is {device!r}; hear-eval-kit runs on cpu or cuda, and {there} GPUs are seen here")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",")[index] if visible else str(index)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _reason(log: Path, code: int) -> str:
    """The exception that ended the process and where it was raised, or its last lines where there was none."""
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL))
        lines = file.read().decode(errors="replace").rstrip().splitlines()
    if code < 0:
        return "\n".join([f"ended by {signal.Signals(-code).name}", *lines[-REASON_LINES:]])
    frame = max((index for index, line in enumerate(lines) if line.startswith('  File "')), default=len(lines))
    exception = list(dropwhile(lambda line: line.startswith(" "), lines[frame:]))
    if not exception:
        return "\n".join(lines[-REASON_LINES:]) or f"exit code {code}"
    return "\n".join([*exception[:REASON_LINES], lines[frame].strip()])
