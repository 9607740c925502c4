"""Processes under test: stopped where the test wants them, watched, and waited for. No clock decides anything."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

STOPPING = """
import os, signal, sys, threading
from fnmatch import fnmatch
from hear_axlstm.cli import main

pattern, count, *sys.argv[1:] = sys.argv[1:]
appeared = []

def stop(event, arguments):
    if event in ("os.rename", "os.link") and fnmatch(os.fsdecode(arguments[1]), pattern):
        if len(appeared) == int(count):
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # before this thread goes on
        appeared.append(arguments[1])

sys.addaudithook(stop)
main()
"""


def stopped(pattern: str, count: int, *arguments: Any, **options: Any) -> subprocess.Popen[str]:
    """The command as a process that stands still: ``count`` files of that pattern have appeared, the next was about to.

    SIGKILL ends it there. Other signals reach it when SIGCONT lets it go on.
    """
    command = [sys.executable, "-c", STOPPING, pattern, str(count), *map(str, arguments)]
    process = subprocess.Popen(command, text=True, **options)
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), "the run ended before it could be stopped"
    return process


def wait_until(true: Callable[[], Any], process: subprocess.Popen[Any] | None = None) -> None:
    """Wait until it is true; what never becomes true ends with the time limit of the test, or with the process."""
    while not true():
        assert process is None or process.poll() is None, "the process ended before"
        time.sleep(0.02)


def children(process: int) -> set[int]:
    """The processes that it started, where the system tells."""
    others = {int(path.name) for path in Path("/proc").glob("[0-9]*")}
    return {other for other in others if f"PPid:\t{process}\n" in _status(other)}


def is_running(process: int) -> bool:
    status = _status(process)
    return status != "" and "State:\tZ" not in status


def _status(process: int) -> str:
    try:
        return Path(f"/proc/{process}/status").read_text(errors="replace")
    except OSError:
        return ""


def read_or_wait_for_ever(path: Path, *rest: Any) -> Any:
    """``read_unless_longer``, but for a file called "endless": its reader notes in it which process it is, and stays."""
    if path.name == "endless":
        path.write_text(str(os.getpid()))
        threading.Event().wait()
    from hear_axlstm.audio import read_unless_longer

    return read_unless_longer(path, *rest)
