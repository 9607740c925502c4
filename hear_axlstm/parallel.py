"""Jobs -> results, in processes that live on from job to job; one that dies takes nothing but its job with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from multiprocessing.connection import Connection
from typing import Any, Self, TypeVar

import torch

from hear_axlstm.errors import EvaluationError

Key = TypeVar("Key")
Job = tuple[Callable[..., Any], tuple[Any, ...]]
SPAWN = multiprocessing.get_context("spawn")  # a fork would inherit threads, and perhaps a GPU


class Worker:
    """A process that does one job after the other, with one thread."""

    def __init__(self) -> None:
        self._process: Any = None
        self._jobs: Connection | None = None

    def do(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """What ``function(*arguments)`` returns, or raises. Raises EvaluationError when the process dies over it."""
        if self._jobs is None:
            self._jobs, theirs = SPAWN.Pipe()
            self._process = SPAWN.Process(target=_serve, args=(theirs,), daemon=True)
            self._process.start()
            theirs.close()
        try:
            self._jobs.send((function, arguments))
            done, result = self._jobs.recv()
        except (EOFError, OSError) as error:
            self._process.join()
            code = self._process.exitcode
            self.kill()
            raise EvaluationError(f"the process died (exit code {code}); was there memory enough for it?") from error
        if not done:
            raise result
        return result

    def kill(self) -> None:
        """End the process, whatever it does. A later ``do`` starts another."""
        if self._jobs is not None:
            self._process.kill()
            self._process.join()
            self._jobs.close()
            self._jobs = None


class Here:
    """Does jobs in this process, with one thread."""

    def do(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """What ``function(*arguments)`` returns, or raises."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return function(*arguments)
        finally:
            torch.set_num_threads(threads)

    def kill(self) -> None:
        """Nothing outlives a job."""


class Workers:
    """So many processes; 0: this one. Use it as a context manager: they end with it, and when this process is killed."""

    def __init__(self, count: int) -> None:
        self._workers: list[Worker | Here] = [Worker() for _ in range(count)] or [Here()]
        self._idle = list(self._workers)
        self._threads = ThreadPoolExecutor(len(self._workers), thread_name_prefix="worker")

    def run(self, jobs: Iterable[tuple[Key, Job]]) -> Iterator[tuple[Key, Future[Any]]]:
        """Each job's key and finished future, as they come."""
        pending = {self._threads.submit(self._do, *job): key for key, job in jobs}
        while pending:
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                yield pending.pop(future), future

    def _do(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        worker = self._idle.pop()  # there are as many as threads
        try:
            return worker.do(function, arguments)
        finally:
            self._idle.append(worker)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.kill()
        self._threads.shutdown()


def _serve(jobs: Connection) -> None:
    """In the process: do jobs until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    while True:
        try:
            function, arguments = jobs.recv()
        except EOFError:
            return
        try:
            result = (True, function(*arguments))
        except Exception as error:
            result = (False, error)
        jobs.send(result)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
