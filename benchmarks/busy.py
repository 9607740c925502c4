"""The encoders beside busy processes, as on a machine that others use, too.

    python -m benchmarks.busy [--busy 0 --busy 2] [axlstm-tiny ssam-tiny ssast-tiny]

Each variant runs in a process with default settings and in one of a single thread, which are measured by turns while as
many processes as asked for do nothing but count. All of them are started and ended here.

The free share: a fair scheduler gives each thread that wants to run as much as any other. T threads of ours beside B busy
ones on P processors get min(P, T P / (T + B)) of them, T of P when idle, so that they do min(1, P / (T + B)) of what they do
on the idle machine, with T = P as many threads as processors. Two threads beside two busy ones on two processors: 1/2.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain
from typing import Any

import click
import torch

from benchmarks.records import RESULTS, add_record, machine, rows_table
from benchmarks.subjects import Calls, by_turns, own_subject
from hear_axlstm.config import VARIANTS
from hear_axlstm.parallel import processors

# It ends with the process that holds the other end of its input, even a killed one.
SPIN = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
while True:
    pass
"""
BATCHES = (8, 1)  # chunks a call
TURNS = 2  # in which the time of a measurement is spent


def free_share(busy: int, threads: int, processors: int) -> float:
    """What is left of an idle machine's speed beside ``busy`` threads of others, when all threads are treated alike.

    >>> free_share(2, threads=2, processors=2)
    0.5
    """
    return min(1.0, processors / (threads + busy))


@contextmanager
def busy_processes(count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that count as fast as they can, and end in any case."""
    spinning = [subprocess.Popen([sys.executable, "-c", SPIN], stdin=subprocess.PIPE) for _ in range(count)]  # noqa: S603
    try:
        yield spinning
    finally:
        for process in spinning:
            process.kill()
            process.communicate()


def measure(variants: Sequence[str], loads: Sequence[int], seconds: float) -> list[dict[str, Any]]:
    """A row for each load, variant and batch. The idle machine is measured first, whether it is asked for or not."""
    rows = []
    with ExitStack() as stack:
        pairs = {
            variant: [
                stack.enter_context(own_subject(variant, one_thread=one_thread)).ready() for one_thread in (False, True)
            ]
            for variant in variants
        }
        for subject in chain(*pairs.values()):  # what takes long once
            subject.calls(max(BATCHES), 0)
        idle: dict[tuple[str, int], float] = {}
        for load in dict.fromkeys([0, *loads]):
            with busy_processes(load):
                for variant, pair in pairs.items():
                    for batch in BATCHES:
                        ours, one_thread = by_turns([partial(subject.calls, batch) for subject in pair], seconds, TURNS)
                        speed = idle.setdefault((variant, batch), ours.chunks_per_second)
                        free = speed * free_share(load, processors(), processors())
                        rows.append({"busy": load, "variant": variant, **row(ours, one_thread, free)})
    return rows


def row(ours: Calls, one_thread: Calls, free: float) -> dict[str, Any]:
    """What the page shows of one measurement. free: the chunks a second that the free share gives."""
    return {
        "batch": ours.batch,
        "chunks/s": round(ours.chunks_per_second, 2),
        "% of the free share": round(100 * ours.chunks_per_second / free),
        "processor s a chunk": round(ours.processor_seconds, 4),
        "p50 ms": round(1e3 * ours.seconds(0.5), 1),
        "p99 ms": round(1e3 * ours.seconds(0.99), 1),
        "one thread's chunks/s": round(one_thread.chunks_per_second, 2),
        "its processor s": round(one_thread.processor_seconds, 4),
        "its p50 ms": round(1e3 * one_thread.seconds(0.5), 1),
        "time / one thread's": round(one_thread.chunks_per_second / ours.chunks_per_second, 2),
        "calls": len(ours.wall),
    }


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("variants", nargs=-1, type=click.Choice(list(VARIANTS)), metavar="[VARIANTS]...")
@click.option("--busy", "loads", multiple=True, type=click.IntRange(min=0), default=[0, 2, 8], help="Busy processes.")
@click.option("--seconds", type=click.FloatRange(min=0), default=1.0, help="Shortest time of each measurement.")
def main(variants: tuple[str, ...], loads: tuple[int, ...], seconds: float) -> None:
    """Measure VARIANTS beside busy processes; the three of size tiny by default."""
    rows = measure(variants or ("axlstm-tiny", "ssam-tiny", "ssast-tiny"), loads, seconds)
    click.echo(rows_table(rows))
    add_record(RESULTS / "busy.json", {**machine(torch.device("cpu")), "processors": processors(), "busy": rows})


if __name__ == "__main__":
    main()
