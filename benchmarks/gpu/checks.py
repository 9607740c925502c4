"""What a part writes while it runs: each check is on disk before it begins, and again when it has ended.

So a process that crashes, hangs or loses its device loses one check; the runner starts it again, and it goes on after that.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

FILE, REHEARSAL = "HEAR_AXLSTM_GPU_PART", "HEAR_AXLSTM_GPU_REHEARSAL"  # environment variables
RUNNING, PASSED, FAILED = "running", "passed", "failed"
UNUSABLE = 75  # exit status of a process whose device answers no more
SECONDS = 60.0  # that a check may take


def rehearsing() -> bool:
    """Whether this is a rehearsal on a CPU, whose numbers say nothing about a GPU."""
    return os.environ.get(REHEARSAL) == "1"


class Checks:
    """The checks of a part, by name, with state, seconds, values and error of each."""

    def __init__(self) -> None:
        self.path = Path(os.environ[FILE])
        self.found: dict[str, dict[str, Any]] = json.loads(self.path.read_text()) if self.path.exists() else {}

    def run(self, name: str, action: Callable[[], dict[str, Any] | None], seconds: float = SECONDS) -> None:
        """Run a check, which raises or returns values, unless an earlier process did. One that hangs ends the process."""
        if name in self.found:
            return
        self._write(name, {"state": RUNNING})
        faulthandler.dump_traceback_later(seconds, exit=True)
        start = time.perf_counter()
        try:
            entry: dict[str, Any] = {"state": PASSED, "values": action() or {}}
        except Exception as error:
            traceback.print_exc()
            entry = {"state": FAILED, "error": f"{type(error).__name__}: {_short(str(error))}"}
        entry["seconds"] = round(time.perf_counter() - start, 2)
        usable = _usable()
        faulthandler.cancel_dump_traceback_later()
        self._write(name, entry)
        tell(f"{name}: {entry['state']}")
        if not usable:
            os._exit(UNUSABLE)

    def end(self) -> None:
        """End the process, with status 1 where a check failed."""
        self._write("", {"state": PASSED})  # the part came to its end
        sys.exit(int(any(entry["state"] != PASSED for entry in self.found.values())))

    def _write(self, name: str, entry: dict[str, Any]) -> None:
        self.found[name] = entry
        whole = self.path.with_suffix(".part")
        whole.write_text(json.dumps(self.found))
        whole.replace(self.path)


def _usable() -> bool:
    """Whether the device still answers: after some errors, no call of the process succeeds."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return True
    try:
        torch.cuda.synchronize()
    except Exception:
        return False
    return True


def _short(text: str) -> str:
    """The first line of a message and the last, where compilers say what is wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [""]
    return " ... ".join(dict.fromkeys((lines[0][:300], lines[-1][:300])))


def tell(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def require(true: object, message: str) -> None:
    """Raise AssertionError with a message unless something is true."""
    if not true:
        raise AssertionError(message)
