"""Processes that examine files, within bounds of time and memory, and are replaced when they die."""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import subprocess
import sys
import traceback
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import Any

from fuzz.case import Verdict

LOOK_EVERY = 0.05  # seconds


class Child:
    """A process that calls one examiner, a function "module:name" of a path and facts, for one file after the other.

    folder: where it works. seconds, memory: what one file may take, memory in bytes beyond what the process had before.
    poison: what fills memory that was allocated and not written to, 1 to 255.
    """

    def __init__(self, examiner: str, folder: Path, seconds: float, memory: int, poison: int = 1) -> None:
        self.examiner, self.folder = examiner, folder
        self.seconds, self.memory, self.poison = seconds, memory, poison
        self.process: subprocess.Popen[bytes] | None = None

    def examine(self, path: Path, facts: dict[str, Any]) -> Verdict:
        """The examiner's verdict, or the one over its end: "crash", "hang" or "memory"."""
        if self.process is None:
            self._start()
        process = self.process
        assert process is not None
        with suppress(OSError):
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # its peak is the present from here on
        before, deadline = _memory(process.pid, "VmRSS"), monotonic() + self.seconds
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps([str(path), facts]).encode() + b"\n")
            process.stdin.flush()
        while not select.select([process.stdout], [], [], LOOK_EVERY)[0]:
            if monotonic() > deadline:
                return self._ended(Verdict("hang", f"more than {self.seconds:g} s"))
            if (grown := _memory_of_all(process.pid) - before) > self.memory:
                return self._ended(Verdict("memory", f"{grown >> 20} MiB and rising"))
        assert process.stdout is not None
        if not (reply := process.stdout.readline()):
            code = process.wait()
            return self._ended(Verdict("crash", signal.Signals(-code).name if code < 0 else f"exit status {code}"))
        if (grown := _memory(process.pid, "VmHWM") - before) > self.memory:
            return self._ended(Verdict("memory", f"{grown >> 20} MiB"))
        return Verdict(**json.loads(reply))

    def close(self) -> None:
        """End the process and those that it started."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            with suppress(BrokenPipeError), self.process:
                pass
            self.process = None

    def _ended(self, verdict: Verdict) -> Verdict:
        self.close()
        return verdict

    def _start(self) -> None:
        paths = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
        poisoned = {"MALLOC_PERTURB_": str(self.poison), "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
        self.process = subprocess.Popen(  # noqa: S603 - runs this file
            [sys.executable, "-m", "fuzz.children", self.examiner],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
            env=os.environ | poisoned,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        if not self.process.stdout.readline():
            raise OSError(f"no process that runs {self.examiner} could be started; try `python -m fuzz one`")


def _memory(process: int, what: str) -> int:
    """A line of a process's status, in bytes; 0 where it has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith(what):
                return int(line.split()[1]) << 10
    return 0


def _memory_of_all(process: int) -> int:
    """What a process and those that it started hold."""
    total = _memory(process, "VmRSS")
    for started in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):
            total += sum(_memory_of_all(int(child)) for child in started.read_text().split())
    return total


def serve(examiner: str) -> None:
    """Examine the files that come in by name, in the other process, until its input ends."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what is printed is no reply
    module, _, name = examiner.partition(":")
    function = getattr(importlib.import_module(module), name)
    print("ready", file=replies, flush=True)
    for line in sys.stdin:
        path, facts = json.loads(line)
        try:
            verdict = function(Path(path), **facts)
        except Exception:
            verdict = Verdict("unnamed", traceback.format_exc())
        print(json.dumps(asdict(verdict)), file=replies, flush=True)


if __name__ == "__main__":
    serve(sys.argv[1])
