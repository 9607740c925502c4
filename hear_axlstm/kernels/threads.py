"""The threads of a call on a CPU: how many there are, and chunks encoded side by side.

Operations of torch and ours are cut among OpenMP's threads, which wait for each other after each one, spinning. That is the
fastest way through one chunk on a machine that is idle, and a bad one beside other programs: whoever waits for a thread that
the system has stopped burns a processor. Chunks side by side, a thread each, wait for nothing.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hear_axlstm.kernels import process
from hear_axlstm.kernels.neighbours import Neighbours
from hear_axlstm.parallel import processors

neighbours = Neighbours()


class _Call(threading.local):
    """How many threads the call may use that this thread is in; None outside calls."""

    threads: int | None = None


_call = _Call()


def allowed() -> int:
    """How many threads a call may use: as many as torch, but no more than ``processors()``.

    One in a forked process: OpenMP's threads were not copied to it.
    """
    return 1 if process.is_fork else min(torch.get_num_threads(), processors())


@contextmanager
def of_a_call() -> Iterator[None]:
    """Operations of this thread keep to ``allowed()`` threads, and to one while other programs want the processors."""
    if _call.threads is not None:
        yield
        return
    _call.threads = allowed()
    try:
        with openmp_threads(1 if _call.threads == 1 or neighbours.are_busy() else _call.threads):
            yield
    finally:
        _call.threads = None


def side_by_side(encode: Callable[[Tensor], Tensor], chunks: Tensor) -> Tensor:
    """``encode(chunks)``, a thread for each part of them; the few that are left over by all threads, if these are free.

    Free threads get equal parts. Beside other programs, who take their processors away at times, parts are single chunks.

    Shape: (C, N, F) -> (..., C, L, D).
    """
    at_once, together = _call.threads or allowed(), torch.get_num_threads() > 1
    if at_once == 1:
        return encode(chunks)
    left = len(chunks) % at_once
    if not (together and 2 * left <= at_once):
        left = 0
    alone, rest = chunks[: len(chunks) - left], chunks[len(chunks) - left :]
    equal = together and len(alone) % at_once == 0
    done = _part_by_part(encode, alone.split(len(alone) // at_once if equal else 1), at_once - 1) if len(alone) else []
    if left:
        done.append(encode(rest))
    return done[0] if len(done) == 1 else torch.cat(done, dim=-3)


def _part_by_part(encode: Callable[[Tensor], Tensor], parts: Sequence[Tensor], helpers: int) -> list[Tensor]:
    """``encode`` of each part, by this thread and by helpers that join it; whoever is free takes the next."""
    results = list(parts)
    places, stopped, inference = iter(range(len(parts))), False, torch.is_inference_mode_enabled()

    def work() -> None:
        with torch.inference_mode(inference), torch.no_grad(), openmp_threads(1):
            while not stopped and (place := next(places, None)) is not None:  # a step of this iterator is one of Python's
                results[place] = encode(parts[place])

    helping: list[Future[None]] = []
    try:
        _start(helping, work, helpers, min(helpers, len(parts) - 1))
        work()
    finally:
        stopped = True
        begun = [future for future in helping if not future.cancel()]
        wait(begun)
    for future in begun:
        future.result()
    return results


def _start(futures: list[Future[None]], work: Callable[[], None], helpers: int, wanted: int) -> None:
    """Have ``wanted`` of the helpers begin, and note their futures; none does while the program ends."""
    try:
        while len(futures) < wanted:
            futures.append(_pool(helpers).submit(work))
    except RuntimeError as error:
        if "shutdown" not in str(error):
            raise


@contextmanager
def openmp_threads(count: int) -> Iterator[None]:
    """Give the calling thread, and no other, ``count`` threads for operations; what torch.set_num_threads does for all."""
    before = torch.get_num_threads()
    if before == count:
        yield
        return
    set_openmp, set_mkl = _setters()
    set_openmp(count)
    mkl_before = set_mkl(count)
    try:
        yield
    finally:
        set_openmp(before)
        set_mkl(mkl_before)


@functools.cache
def _setters() -> tuple[Callable[[int], Any], Callable[[int], Any]]:
    """What sets the threads of OpenMP and of MKL for the calling thread; the latter returns what was set before."""

    def nothing(count: int) -> int:
        return 0

    openmp = getattr(ctypes.CDLL(None), "omp_set_num_threads", nothing) if sys.platform == "linux" else nothing
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    mkl = getattr(ctypes.CDLL(str(library)), "MKL_Set_Num_Threads_Local", nothing) if library.exists() else nothing
    return openmp, mkl


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="encode")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of its threads
