"""The time of a call, beside that of the encoder's matrix products alone, on one thread and on all.

    python -m benchmarks.latency [--batch 1 --batch 8] [axlstm-tiny ssam-tiny ssast-tiny]

A call takes 2-s waveforms to scene embeddings, the encoder log-mel to tokens. Both are measured by turns with the products
(``benchmarks.products``), in one process, with default settings and again with one thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import click
import torch

from benchmarks.encoders import active_encoder
from benchmarks.products import Products
from benchmarks.records import RESULTS, add_record, machine, rows_table
from benchmarks.subjects import MOST_CHUNKS, Calls, by_turns, own_subject
from hear_axlstm.config import VARIANTS
from hear_axlstm.parallel import processors

TURNS = 8
WHAT = ("call", "tokens", "products")


def measure(variant: str, batches: Sequence[int], seconds: float) -> list[dict[str, Any]]:
    """A row for one thread and one for default settings, at each batch."""
    rows = []
    for one_thread in (True, False):
        with own_subject(variant, one_thread=one_thread).ready() as subject:
            for batch in batches:
                measurements = [partial(subject.calls, batch, what=what) for what in WHAT]
                by_turns(measurements, 0, 1)  # what takes long once
                flop = Products(active_encoder(variant), batch).flop
                threads = 1 if one_thread else processors()
                rows.append({"variant": variant, "threads": threads, **row(*by_turns(measurements, seconds, TURNS), flop)})
    return rows


def row(call: Calls, encoder: Calls, products: Calls, flop: int) -> dict[str, Any]:
    """What the page shows of one measurement. flop: operations of the products of a call."""
    median = products.seconds(0.5)
    return {
        "batch": call.batch,
        "call p50 ms": round(1e3 * call.seconds(0.5), 1),
        "p99 ms": round(1e3 * call.seconds(0.99), 1),
        "p99 / p50": round(call.seconds(0.99) / call.seconds(0.5), 2),
        "encoder p50 ms": round(1e3 * encoder.seconds(0.5), 1),
        "products p50 ms": round(1e3 * median, 1),
        "GFLOP": round(flop / 1e9, 2),
        "products' GFLOP/s": round(flop / median / 1e9, 1),
        "encoder / products": round(encoder.seconds(0.5) / median, 2),
        "call / products": round(call.seconds(0.5) / median, 2),
        "calls": len(call.wall),
    }


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("variants", nargs=-1, type=click.Choice(list(VARIANTS)), metavar="[VARIANTS]...")
@click.option(
    "--batch", "batches", multiple=True, type=click.IntRange(1, MOST_CHUNKS), default=[1, 8], help="Chunks a call."
)
@click.option("--seconds", type=click.FloatRange(min=0), default=1.0, help="Shortest time of the calls of a measurement.")
@click.option("--all", "every", is_flag=True, help="Measure the nine variants of the papers.")
def main(variants: tuple[str, ...], batches: tuple[int, ...], seconds: float, every: bool) -> None:
    """Measure the latency of VARIANTS and of their matrix products; the three of size tiny by default."""
    nine = tuple(name for name in VARIANTS if not name.endswith("-e2"))
    chosen = variants or (nine if every else tuple(name for name in nine if name.endswith("-tiny")))
    rows = [row for variant in chosen for row in measure(variant, batches, seconds)]
    click.echo(rows_table(rows))
    add_record(RESULTS / "latency.json", {**machine(torch.device("cpu")), "latency": rows})


if __name__ == "__main__":
    main()
