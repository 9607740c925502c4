"""Runs parts, each in processes of its own: one that fails, hangs, crashes or loses its device costs nothing of the others.

What is known is on disk at any moment, as gpu.json and gpu.md; gpu.log has what the parts printed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gpu.checks import FAILED, FILE, PASSED, REHEARSAL, RUNNING, UNUSABLE, tell
from benchmarks.gpu.parts import Part
from benchmarks.gpu.report import page

TREE = Path(__file__).parents[2]
NOT_RUN, LEFT_OUT, STOPPED = "not run", "left out", "stopped"
LEAST = 10.0  # seconds that must be left for a part to begin
RESTARTS = 12  # of a part whose process ended within a check
TAIL = 12  # lines of a failed part's output that are kept
LOOKED_AT = 200  # lines in which the cause of an end is looked for
LOOK = 0.1  # seconds between two looks at the processes


@dataclass
class Process:
    """A part that runs. starts: how many processes it has had."""

    part: Part
    folder: Path
    until: float
    environment: Mapping[str, str]
    began: float = field(default_factory=time.monotonic)
    starts: int = 0
    popen: subprocess.Popen[bytes] | None = None

    @property
    def file(self) -> Path:
        return self.folder / f"{self.part.name}.json"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.part.name}.log"

    def start(self) -> None:
        self.starts += 1
        with open(self.log, "ab") as log:
            self.popen = subprocess.Popen(  # noqa: S603 - our own
                [sys.executable, *self.part.command],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=TREE, process_group=0,
                env={**self.environment, FILE: str(self.file)},
            )  # fmt: skip

    def kill(self) -> None:
        if self.popen is not None:
            with suppress(OSError):
                os.killpg(self.popen.pid, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):  # one that waits for a device that hangs cannot be ended
                self.popen.wait(5)

    def checks(self) -> dict[str, dict[str, Any]]:
        return json.loads(self.file.read_text()) if self.file.exists() else {}

    def tail(self, lines: int = TAIL) -> list[str]:
        return self.log.read_text(errors="replace").splitlines()[-lines:] if self.log.exists() else []

    def close_check(self, why: str) -> bool:
        """Note that the check that was running failed; False where none was."""
        found = self.checks()
        open_checks = [entry for entry in found.values() if entry["state"] == RUNNING]
        for entry in open_checks:
            entry.update(state=FAILED, error=why)
        if open_checks:
            self.file.write_text(json.dumps(found))
        return bool(open_checks)


class Run:
    """A run of parts. record: what gpu.json holds."""

    def __init__(self, out: Path, *, rehearsal: bool, until: float, notes: Mapping[str, Any] | None = None) -> None:
        self.out, self.rehearsal, self.until = out, rehearsal, until
        self.record: dict[str, Any] = {"rehearsal": rehearsal, **(notes or {}), "machine": {}, "seconds": 0.0, "parts": []}
        self.began, self.changed, self.log = time.monotonic(), True, b""
        self.kept = False  # whether files are written

    @property
    def name(self) -> str:
        return "gpu-rehearsal" if self.rehearsal else "gpu"

    def run(self, parts: Sequence[Part], jobs: int) -> bool:
        """Run parts, ``jobs`` at once but for those that are to be alone; whether all of them passed."""
        entries = {part.name: {"name": part.name, "question": part.question, "state": NOT_RUN} for part in parts}
        self.record["parts"] += entries.values()
        waiting, running = list(parts), list[Process]()
        with tempfile.TemporaryDirectory() as folder:
            try:
                while waiting or running:
                    while waiting and self._may_start(waiting[0], running, jobs):
                        self._start(waiting.pop(0), entries, running, Path(folder))
                    for process in list(running):
                        if self._look(process, entries[process.part.name]):
                            running.remove(process)
                    self._keep()
                    time.sleep(LOOK)
            finally:  # stopped from outside, perhaps
                for process in running:
                    process.kill()
                    process.close_check("stopped from outside")
                    self._end(process, entries[process.part.name], STOPPED, "stopped from outside")
                self._keep(now=True)
        return all(entry["state"] == PASSED for entry in entries.values())

    def _may_start(self, part: Part, running: Sequence[Process], jobs: int) -> bool:
        return not running or (not part.alone and len(running) < jobs and not any(other.part.alone for other in running))

    def _start(self, part: Part, entries: dict[str, dict[str, Any]], running: list[Process], folder: Path) -> None:
        entry, left = entries[part.name], self.until - time.monotonic()
        self.changed = True
        if part.lacks:
            entry.update(state=LEFT_OUT, why=f"not installed: {', '.join(part.lacks)}")
        elif left < LEAST:
            entry.update(why="no time was left")
        else:
            environment = {**os.environ, "PYTHONPATH": str(TREE), "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
            if self.rehearsal:
                environment |= {REHEARSAL: "1", "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
                environment["HEAR_AXLSTM_BACKEND"] = part.backend
            process = Process(part, folder, time.monotonic() + min(part.limit, left), environment)
            entry["state"] = RUNNING
            process.start()
            running.append(process)
        if entry["state"] != RUNNING:
            self._told(entry)

    def _look(self, process: Process, entry: dict[str, Any]) -> bool:
        """Take note of what a process did; True when its part has ended."""
        assert process.popen is not None
        status, checks = process.popen.poll(), process.checks()
        entry["seconds"] = round(time.monotonic() - process.began, 1)
        at_end = checks.pop("", None) is not None
        if checks != entry.get("checks"):
            entry["checks"], self.changed = checks, True
        if status is None and time.monotonic() < process.until:
            return False
        if status is None:
            process.kill()
            process.close_check("still running when the time of the part was over")
            return self._end(process, entry, FAILED, "its time was over")
        if at_end:
            failed = any(found["state"] == FAILED for found in checks.values())
            return self._end(process, entry, FAILED if failed or status else PASSED, "")
        why = _ending(status, process.tail(LOOKED_AT))
        if (process.close_check(why) or status == UNUSABLE) and process.starts < RESTARTS:
            process.start()  # which goes on with the next check
            return False
        return self._end(process, entry, FAILED, why)

    def _end(self, process: Process, entry: dict[str, Any], state: str, why: str) -> bool:
        checks = process.checks()
        checks.pop("", None)
        entry.update(state=state, checks=checks, seconds=round(time.monotonic() - process.began, 1))
        if why:
            entry["why"] = why
        if state != PASSED:
            entry["tail"] = process.tail()
        self.log += f"===== {process.part.name}\n".encode() + (process.log.read_bytes() if process.log.exists() else b"")
        self.changed = True
        self._told(entry)
        return True

    def _told(self, entry: Mapping[str, Any]) -> None:
        label = "REHEARSAL " if self.rehearsal else ""
        failed = [name for name, check in entry.get("checks", {}).items() if check["state"] == FAILED]
        why = entry.get("why") or (
            f"{len(failed)} of {len(entry['checks'])} checks: {', '.join(failed[:3])}" if failed else ""
        )
        tell(f"{label}{entry['name']}: {entry['state']}, {entry.get('seconds', 0):.0f} s{why and f' ({why})'}")

    def _keep(self, *, now: bool = False) -> None:
        """Write what is known, once a second where something has changed."""
        spent = time.monotonic() - self.began
        if self.kept and (now or (self.changed and spent - self.record["seconds"] > 1)):
            self.record["seconds"], self.changed = round(spent, 1), False
            _write(self.out / f"{self.name}.json", (json.dumps(self.record, indent=1) + "\n").encode())
            _write(self.out / f"{self.name}.md", page(self.record).encode())
            _write(self.out / f"{self.name}.log", self.log)


def _ending(status: int, tail: Sequence[str]) -> str:
    """Why a process ended within its work, in words."""
    if status == 1 and any(line.startswith("Timeout (") for line in tail):  # as faulthandler says
        return "it ran longer than a check may"
    if status == UNUSABLE:
        return "the device answered no more"
    if status < 0:
        return f"the process was ended by {signal.Signals(-status).name}"
    last = next((line for line in reversed(tail) if line.strip()), "it printed nothing")
    return f"the process ended with status {status}: {last[:200]}"


def _write(target: Path, content: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    part.write_bytes(content)
    part.replace(target)
