"""Whether other programs want the processors, as the system's accounts of this process's threads tell."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

TASKS = Path("/proc/self/task")
BUSY = 0.15  # share of their time that our threads wait for a processor, beyond which others are said to want it
LEAST_NS = 5_000_000  # of running and waiting, which a verdict needs
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0  # seconds that they are believed to be busy


class Account(NamedTuple):
    """Nanoseconds that a thread has run, and waited to run."""

    ran: int
    waited: int


class Neighbours:
    """Other programs, which are believed to be busy for a while after threads of this process had to wait for a processor.

    The while doubles each time that they prove busy again: one thread alone may find a free processor where two do not.
    """

    def __init__(self) -> None:
        self._before: dict[str, Account] = {}
        self._pause, self._until = FIRST_PAUSE, 0.0

    def are_busy(self) -> bool:
        """Whether they are, by what happened since the last call, or since the process began."""
        accounts = _accounts()
        new = [_since(self._before.get(thread), account) for thread, account in accounts.items()]
        new_ran, new_waited = sum(account.ran for account in new), sum(account.waited for account in new)
        if new_ran + new_waited >= LEAST_NS:
            now = time.monotonic()
            self._before = accounts
            if new_waited > BUSY * (new_ran + new_waited):
                self._until, self._pause = now + self._pause, min(2 * self._pause, LONGEST_PAUSE)
            elif now >= self._until:
                self._pause = max(FIRST_PAUSE, self._pause / 2)
        return time.monotonic() < self._until


def _since(before: Account | None, now: Account) -> Account:
    """What is new in a thread's account. A thread with less than before is another one, of the same number."""
    if before is None or now.ran < before.ran:
        return now
    return Account(now.ran - before.ran, now.waited - before.waited)


def _accounts() -> dict[str, Account]:
    """The accounts of the threads that this process has now; none where the system keeps none."""
    accounts = {}
    with suppress(OSError):
        for task in TASKS.iterdir():
            with suppress(OSError, ValueError):  # a thread that has just ended
                ran, waited, _ = map(int, (task / "schedstat").read_text().split())
                accounts[task.name] = Account(ran, waited)
    return accounts
