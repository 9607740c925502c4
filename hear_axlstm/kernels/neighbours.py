"""Whether other programs want the processors, as the system's accounts of this process's threads tell."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

TASKS = Path("/proc/self/task")
BUSY = 0.15  # share of their time that our threads wait for a processor, beyond which others are said to want it
LEAST_NS = 5_000_000  # of running and waiting, which a verdict needs
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0  # seconds that they are believed to be busy


class Neighbours:
    """Other programs, which are believed to be busy for a while after threads of this process had to wait for a processor.

    The while doubles each time that they prove busy again: one thread alone may find a free processor where two do not.
    """

    def __init__(self) -> None:
        self._ran = self._waited = 0
        self._pause, self._until = FIRST_PAUSE, 0.0

    def are_busy(self) -> bool:
        """Whether they are, by what happened since the last call, or since the process began."""
        ran, waited = _ran_and_waited()
        new_ran, new_waited = ran - self._ran, waited - self._waited
        if new_ran + new_waited >= LEAST_NS:
            now = time.monotonic()
            self._ran, self._waited = ran, waited
            if new_waited > BUSY * (new_ran + new_waited):
                self._until, self._pause = now + self._pause, min(2 * self._pause, LONGEST_PAUSE)
            elif now >= self._until:
                self._pause = max(FIRST_PAUSE, self._pause / 2)
        return time.monotonic() < self._until


def _ran_and_waited() -> tuple[int, int]:
    """Nanoseconds that the threads of this process have run, and waited to run; 0 where the system does not count them."""
    ran = waited = 0
    with suppress(OSError):
        for task in TASKS.iterdir():
            with suppress(OSError, ValueError):  # a thread that has just ended
                of_task = (task / "schedstat").read_text().split()
                ran, waited = ran + int(of_task[0]), waited + int(of_task[1])
    return ran, waited
