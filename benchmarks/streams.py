"""How long 40 ms of a stream take, and how many streams this machine carries in real time.

    python -m benchmarks.streams [--all] [--streams axlstm-tiny --streams ssam-tiny]

A push is 40 ms of one sound, 640 samples; its time is measured over all of many chunks, whose borders are among them. A tick
is a push of 40 ms to each of n sounds in one batch. It is late when it takes longer than 40 ms. The greatest n is looked
for, by doubling and bisection, at which 99 of 100 ticks are in time, and that at which they are in time on average, which
is enough for who may be late by a tick or two.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import cache
from typing import Any

import click
import torch

from benchmarks.microphones import BLOCKS, TICK_MS
from benchmarks.records import RESULTS, add_record, machine, rows_table
from benchmarks.subjects import ONE_THREAD, Calls, Subject, own_subject
from hear_axlstm.config import VARIANTS
from hear_axlstm.parallel import processors

TINY = ("axlstm-tiny", "ssam-tiny", "ssast-tiny")
OTHERS = ("axlstm-small", "ssam-small", "axlstm-base", "ssam-base")
MOST = 4096  # streams that are tried
PRECISION = 20  # the greatest number is known within a 20th of it


def microphones(variant: str, *, one_thread: bool = False) -> Subject:
    """Streams of a model of ours, in a process with default settings or in one that computes on a single thread."""
    return Subject("benchmarks.microphones", variant, environment=ONE_THREAD if one_thread else None)


def measure_pushes(variant: str, seconds: float) -> list[dict[str, Any]]:
    """A row for one thread and one for default settings."""
    rows = []
    for one_thread in (True, False):
        with microphones(variant, one_thread=one_thread).ready() as subject:
            subject.calls(1, 0)
            pushes = subject.calls(1, seconds)
            while len(pushes.wall) < BLOCKS:  # a chunk's border is among them
                pushes += subject.calls(1, seconds)
            threads = 1 if one_thread else processors()
            rows.append({"variant": variant, "threads": threads, **push_row(pushes, subject.about)})
    return rows


def push_row(pushes: Calls, about: dict[str, Any]) -> dict[str, Any]:
    """What the page shows of the pushes of one stream."""
    return {
        "push p50 ms": round(1e3 * pushes.seconds(0.5), 2),
        "p99 ms": round(1e3 * pushes.seconds(0.99), 2),
        "longest ms": round(1e3 * pushes.seconds(1), 2),
        "mean ms": round(1e3 * statistics.mean(pushes.wall), 2),
        "sound first ms": about["latency_ms"],
        "state kB": round(about["state_bytes"] / 1e3),
        "pushes": len(pushes.wall),
    }


def measure_streams(variant: str, seconds: float) -> dict[str, Any]:
    """The row of a variant: how many streams this machine carries, and how much faster than real time it embeds clips."""
    with own_subject(variant).ready() as subject:
        subject.calls(8, 0)
        offline = 2 * subject.calls(8, seconds / 2).chunks_per_second
    with microphones(variant).ready() as subject:

        @cache
        def ticks(count: int) -> Calls:
            subject.calls(count, 0)  # what takes long once
            return subject.calls(count, seconds)

        always = greatest(lambda count: 1e3 * ticks(count).seconds(0.99) <= TICK_MS)
        on_average = greatest(lambda count: 1e3 * statistics.mean(ticks(count).wall) <= TICK_MS)
        return streams_row(variant, always, ticks(max(always, 1)), on_average, offline)


def streams_row(variant: str, always: int, ticks: Calls, on_average: int, offline: float) -> dict[str, Any]:
    """What the page shows of so many streams, and of their ticks."""
    return {
        "variant": variant,
        "threads": processors(),
        "streams, p99 in time": always,
        "their tick p50 ms": round(1e3 * ticks.seconds(0.5), 1),
        "mean ms": round(1e3 * statistics.mean(ticks.wall), 1),
        "p99 ms": round(1e3 * ticks.seconds(0.99), 1),
        "streams, mean in time": on_average,
        "clips offline, x real time": round(offline),
    }


def greatest(fits: Callable[[int], bool]) -> int:
    """The greatest number that fits, within a 20th of it, where those below one that fits do; 0 when 1 does not.

    >>> greatest(lambda number: number <= 13)
    13
    """
    low, high = 0, 1
    while high <= MOST and fits(high):
        low, high = high, 2 * high
    while high - low > max(1, low // PRECISION):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--all", "every", is_flag=True, help="Measure pushes to small and base encoders, too.")
@click.option(
    "--streams",
    "carried",
    multiple=True,
    type=click.Choice(list(VARIANTS)),
    default=TINY[:2],
    help="How many streams of this variant the machine carries.",
)
@click.option("--seconds", type=click.FloatRange(min=0), default=5.0, help="Shortest time of each measurement.")
def main(every: bool, carried: tuple[str, ...], seconds: float) -> None:
    """Measure the latency of a push of 40 ms, and how many streams this machine carries in real time."""
    pushes = [row for variant in TINY + OTHERS * every for row in measure_pushes(variant, seconds)]
    click.echo(rows_table(pushes))
    streams = [measure_streams(variant, seconds) for variant in carried]
    click.echo(rows_table(streams))
    add_record(RESULTS / "streams.json", {**machine(torch.device("cpu")), "pushes": pushes, "streams": streams})


if __name__ == "__main__":
    main()
