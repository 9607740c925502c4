"""Processes that are measured: each holds one model, makes calls when it is told to and says how long each call took.

A process of its own has the settings that a user's has, whatever the measuring one has imported or set before.
"""

from __future__ import annotations

import functools
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

SETTINGS = ("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "NUMEXPR_", "HEAR_AXLSTM_THREADS", "HEAR_AXLSTM_BACKEND")
MOST_CHUNKS = 16  # a call
ONE_THREAD = {"HEAR_AXLSTM_THREADS": "1", "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Calls:
    """Calls of ``batch`` chunks each: seconds by the wall's clock, and of all processors together."""

    batch: int
    wall: tuple[float, ...]
    processor: tuple[float, ...]

    @property
    def chunks_per_second(self) -> float:
        return self.batch * len(self.wall) / sum(self.wall)

    @property
    def processor_seconds(self) -> float:
        """Of a chunk."""
        return sum(self.processor) / (self.batch * len(self.processor))

    def seconds(self, share: float) -> float:
        """The time of a call that ``share`` of the calls did not exceed: 0.5 is the median, 0.99 nearly the longest."""
        return sorted(self.wall)[max(0, math.ceil(share * len(self.wall)) - 1)]

    def __add__(self, other: Calls) -> Calls:
        return Calls(self.batch, self.wall + other.wall, self.processor + other.processor)


def user_environment(changes: dict[str, str]) -> dict[str, str]:
    """The environment of this process without SETTINGS of threads, and with ``changes``."""
    return {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)} | changes


def own_subject(variant: str, *, one_thread: bool = False) -> Subject:
    """A model of ours in a process with default settings, or in one that computes on a single thread."""
    return Subject(__spec__.name, variant, *["1"] * one_thread, environment=ONE_THREAD if one_thread else None)


class Subject:
    """A process that runs ``python -m module arguments``, which ends in ``serve``. Use it as a context manager.

    environment: as in ``user_environment``.
    started: seconds from the start of the process to its first output, which a call with one chunk made.
    """

    def __init__(self, module: str, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self.begun = time.monotonic()
        self.process = subprocess.Popen(  # noqa: S603 - our own
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=user_environment(environment or {}),
        )

    def ready(self) -> Self:
        """Wait for its first output. Raises RuntimeError with what it says when it can do none."""
        self.about = self._reply()
        self.started = time.monotonic() - self.begun
        return self

    def calls(self, batch: int, seconds: float, what: str = "call") -> Calls:
        """Calls one after the other, for ``seconds``; one at least."""
        reply = self._ask(what, batch, seconds)
        return Calls(batch, tuple(reply["wall"]), tuple(reply["processor"]))

    def peak_mib(self) -> float:
        """The most memory that the process has held."""
        return self._ask("", 0, 0)["peak_mib"]

    def _ask(self, *question: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        print(json.dumps(question), file=self.process.stdin, flush=True)
        return self._reply()

    def _reply(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        reply = json.loads(line) if line else {"error": f"it ended with exit status {self.process.wait()}"}
        if "error" in reply:
            raise RuntimeError(reply["error"])
        return reply

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.communicate()


def by_turns(measurements: Sequence[Callable[[float], Calls]], seconds: float, turns: int) -> list[Calls]:
    """The calls of each of ``measurements(seconds)``, made by turns until the first has had its time.

    A machine whose speed changes from second to second changes it for all of them.
    """
    totals = [measure(seconds / turns) for measure in measurements]
    while totals and sum(totals[0].wall) < seconds:
        totals = [total + measure(seconds / turns) for total, measure in zip(totals, measurements, strict=True)]
    return totals


def serve(calls: dict[str, Callable[[int], object]], about: dict[str, Any] | None = None) -> None:
    """Answer the questions that come in, the ``calls(batch)`` being what is measured, until the input ends."""
    import resource  # not on Windows

    def answer(reply: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()

    calls["call"](1)
    answer(about or {})
    for line in sys.stdin:
        what, batch, seconds = json.loads(line)
        reply: dict[str, Any] = {"peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
        if what:
            reply |= timed(calls[what], batch, seconds)
        answer(reply)


def timed(call: Callable[[int], object], batch: int, seconds: float) -> dict[str, list[float]]:
    """Seconds of the wall's clock and of the processors for each of the calls made in ``seconds``."""
    wall: list[float] = []
    processor: list[float] = []
    while not wall or sum(wall) < seconds:
        begun, spent = time.perf_counter(), time.process_time()
        call(batch)
        wall.append(time.perf_counter() - begun)
        processor.append(time.process_time() - spent)
    return {"wall": wall, "processor": processor}


def own_calls(variant: str, threads: int | None) -> dict[str, Callable[[int], object]]:
    """A model of ours, with random weights: what a user calls, and parts of it.

    call: waveforms of 2 s to scene embeddings by the public functions. tokens: chunks of log-mel to tokens, the encoder.
    products: the matrix products of the encoder alone, on as many threads as torch took at first.
    """
    import torch

    import hear_axlstm
    from benchmarks.encoders import _tokens, active_encoder
    from benchmarks.products import Products
    from hear_axlstm.config import CHUNK_FRAMES, HOP, N_MELS

    if threads is not None:
        torch.set_num_threads(threads)
    at_first = torch.get_num_threads()
    model = hear_axlstm.Embedder(active_encoder(variant))
    audio = torch.rand(MOST_CHUNKS, (CHUNK_FRAMES - 1) * HOP) - 0.5
    spectrograms = torch.randn(MOST_CHUNKS, CHUNK_FRAMES, N_MELS)
    of_batch = functools.cache(functools.partial(Products, model.encoder))

    def products(batch: int) -> None:
        now = torch.get_num_threads()
        torch.set_num_threads(at_first)
        of_batch(batch)()
        torch.set_num_threads(now)

    return {
        "call": torch.no_grad()(lambda batch: hear_axlstm.get_scene_embeddings(audio[:batch], model)),
        "tokens": torch.no_grad()(lambda batch: _tokens(model, spectrograms[:batch])),
        "products": products,
    }


def main(arguments: Sequence[str]) -> None:
    """``variant [threads]``: serve a model of ours."""
    serve(own_calls(arguments[0], int(arguments[1]) if len(arguments) > 1 else None))


if __name__ == "__main__":
    main(sys.argv[1:])
