"""Work done side by side: how many processors there are, an ordered map over threads, and processes that outlive a crash."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from queue import LifoQueue, SimpleQueue
from typing import Any, Self, TypeVar

from hear_axlstm.errors import ConfigError, HearAxlstmError
from hear_axlstm.quota import quota

Item = TypeVar("Item")
Result = TypeVar("Result")

THREADS = "HEAR_AXLSTM_THREADS"
quota_at_start = cache(quota)
WAITING = 1_024  # results of ``ordered_map`` that may wait for those before them

# multiprocessing would run the user's script again in each process unless the script is guarded, and a fork would inherit
# threads and perhaps a GPU. This process has no torch, starts in 0.1 s and 30 MB, and imports what its functions need.
PROGRAM = "from hear_axlstm.parallel import serve; serve()"


def processors() -> int:
    """How many processors this process may use: as many threads or processes are worth starting side by side.

    The environment variable HEAR_AXLSTM_THREADS decides where it is set. Otherwise it is the processors of the process's
    affinity, or what the quotas of its control groups come to where that is less, rounded up: 1 with half a processor, 2
    with one and a half. Quotas are read once in a process.

    Raises ConfigError when HEAR_AXLSTM_THREADS is not a whole number, 1 or more.
    """
    if wanted := os.environ.get(THREADS):
        if not wanted.isascii() or not wanted.isdecimal() or int(wanted) < 1:
            raise ConfigError(f"{THREADS} is {wanted!r}; expected a whole number, 1 or more, or no such variable")
        return int(wanted)
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, quota_at_start() or allowed)


def ordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int | None = None,
    *,
    size: Callable[[Item], int] = lambda item: 1,
    ahead: int | None = None,
    limit: int = WAITING,
    cancel: bool = True,
) -> Generator[Result, None, None]:
    """Results of ``function`` over ``items`` in the order of the items, computed by threads.

    Items are drawn in the caller's thread, one whenever there is room for it.

    threads: as many as ``processors()`` when left out. size: what an item counts for, 1 or its bytes, say.
    ahead: total size that is under way before a result is given, which keeps the threads busy while the caller works on it;
    ``threads`` when left out. limit: total size beyond which no item is drawn before the oldest result is taken; nor are
    more than ``WAITING`` items. One item is always under way, however large.
    cancel: whether items that have not begun are dropped when the caller closes the map, an item raises or ``items`` does.
    Those that have begun are waited for in any case.

    Raises what ``function`` and ``items`` raise. A caller that may stop early uses ``contextlib.closing``.
    """
    threads = processors() if threads is None else threads
    ahead = threads if ahead is None else ahead
    waiting: deque[tuple[Future[Result], int]] = deque()
    remaining = iter(items)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="ordered-map")

    def has_room() -> bool:
        """Finished results go first, so that an error is seen soon, unless too little is under way."""
        total = sum(weight for _, weight in waiting)
        if not waiting or total < ahead:
            return True
        return total < limit and len(waiting) < WAITING and not waiting[0][0].done()

    def draw() -> bool:
        for item in remaining:
            waiting.append((pool.submit(function, item), size(item)))
            return True
        return False

    more = True
    try:
        while more or waiting:
            while more and has_room():
                more = draw()
            if waiting:
                yield waiting.popleft()[0].result()  # not held here while the caller works on it
    finally:
        pool.shutdown(cancel_futures=cancel)


class WorkerDiedError(HearAxlstmError):
    """A process that died over the function it was running. status: "SIGKILL", "exit status 3" and so on."""

    def __init__(self, status: str) -> None:
        super().__init__(f"the process ended with {status}; was there enough memory for it?")
        self.status = status


class Worker:
    """A process that runs functions for this one, one after the other. It starts with the first, and again when it died.

    It ends with this process, even a killed one, and Ctrl-C does not reach it. What it prints goes to stderr.
    """

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self._killed = False

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return or raise what ``function(*arguments)`` does over there.

        The function is one of a module (not of ``__main__``); arguments, result and error can be pickled.

        Raises WorkerDiedError when the process dies, as it does of a result that cannot be pickled, and OSError when it does
        not start.
        """
        if self.process is None:
            self.process = _start()
        if self._killed:
            self.kill()
        process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            pickle.dump(pickle.dumps((function, arguments)), process.stdin)  # bytes: what cannot be read is one job's error
            process.stdin.flush()
            succeeded, outcome = pickle.load(process.stdout)  # noqa: S301 - what ``serve`` wrote
        except (EOFError, BrokenPipeError, pickle.UnpicklingError) as error:
            status = _status(process)
            self.close()
            raise WorkerDiedError(status) from error
        except BaseException:
            self.close()  # the rest of a reply may still be in the pipe
            raise
        if not succeeded:
            raise outcome
        return outcome

    def kill(self) -> None:
        """End the process for good; a ``call`` that another thread waits for raises WorkerDiedError at once."""
        self._killed = True
        if (process := self.process) is not None:
            process.kill()

    def close(self) -> None:
        """End the process and wait for that. The next ``call`` starts another, unless ``kill`` has been called."""
        process, self.process = self.process, None
        if process is not None:
            with suppress(BrokenPipeError), process:  # closes the pipes, and waits
                process.kill()


class Workers:
    """A pool of processes, or of threads of this process where ``processes`` is 0. Use it as a context manager.

    No more processes are started than are needed at once. Leaving drops functions that have not begun, and ends processes
    in the middle of what they do.
    """

    def __init__(self, processes: int, threads: int = 1) -> None:
        self.processes = processes
        self._workers = [Worker() for _ in range(processes)]
        self._idle: LifoQueue[Worker] = LifoQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(processes or threads, thread_name_prefix="workers")

    def submit(self, function: Callable[..., Result], *arguments: Any) -> Future[Result]:
        """Have ``function(*arguments)`` run by the next one free; see ``Worker.call`` for what it may be and raise."""
        if not self._workers:
            return self.submit_here(function, *arguments)
        return self._threads.submit(self._call, function, *arguments)

    def submit_here(self, function: Callable[..., Result], *arguments: Any) -> Future[Result]:
        """Have ``function(*arguments)`` run by a thread of this process, also what cannot be pickled."""
        return self._threads.submit(function, *arguments)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        worker = self._idle.get()  # there are as many as threads
        try:
            return worker.call(function, *arguments)
        finally:
            self._idle.put(worker)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.kill()
        self._threads.shutdown()
        for worker in self._workers:
            worker.close()


def _start() -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(folder or os.getcwd() for folder in sys.path),
        "OPENBLAS_NUM_THREADS": "1",  # NumPy starts them when it is imported, and a worker is one of several
    }
    process = subprocess.Popen(  # noqa: S603 - runs this file
        [sys.executable, "-P", "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        start_new_session=True,  # Ctrl-C is for this process, which then ends that one
    )
    assert process.stdout is not None
    if not process.stdout.read(1):
        with process:
            process.kill()
        raise OSError(f"a worker process ended with {_status(process)} as it started; workers=0 does without")
    return process


def _status(process: subprocess.Popen[bytes]) -> str:
    code = process.wait()
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"


def serve() -> None:
    """Run the functions that come in, in the other process, until its input ends."""
    jobs: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_receive, args=(jobs,), daemon=True).start()
    replies_to = os.dup(1)
    os.dup2(2, 1)  # what a function prints is no reply
    with suppress(BrokenPipeError), open(replies_to, "wb") as replies:  # raised when nobody listens any more
        replies.write(b"!")
        replies.flush()
        while True:
            job = jobs.get()
            outcome: tuple[bool, Any]
            try:
                function, arguments = pickle.loads(job)  # noqa: S301 - what ``Worker`` wrote
                outcome = (True, function(*arguments))
            except Exception as error:
                outcome = (False, error)
            pickle.dump(outcome, replies, protocol=5)  # 5: arrays are neither copied here nor there
            replies.flush()
            del outcome


def _receive(jobs: SimpleQueue[bytes]) -> None:
    """Pass jobs on; end the process as soon as its parent has gone, whatever it is doing, since its input ends then."""
    with suppress(EOFError, OSError), open(os.dup(0), "rb") as jobs_from:  # sys.stdin is locked while it is read
        while True:
            jobs.put(pickle.load(jobs_from))  # noqa: S301 - what ``Worker`` wrote
    os._exit(1)
