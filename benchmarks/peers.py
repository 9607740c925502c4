"""Our encoders beside others: chunks a processor second, memory and start-up, each in a process of its own.

    python -m benchmarks.peers [--threads 1] [--batch 8] [--released a-clone-of-axlstm-official]

All take 2-s chunks of log-mel with random weights, by turns. The released AxLSTM, ONNX Runtime, OpenVINO (both run an
export of ours) and ViT-T read 251 tokens as ours do, CED-tiny 48, EfficientAT is convolutional. A peer whose package is
missing, or that does not run, is said and left out. SSAM is not exported: its scan would be a loop of 251 steps a block.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from functools import partial
from typing import Any

import click
import torch

from benchmarks.records import RESULTS, add_record, machine, rows_table
from benchmarks.subjects import MOST_CHUNKS, Calls, Subject, by_turns

TURNS = 3
EXPORTED = ("onnx_runtime", "open_vino")
PEERS: dict[str, tuple[str, str, int | None]] = {  # what it is called: its model, of what, tokens
    **{f"ours, {name}": ("ours", name, 251) for name in ("axlstm-tiny", "ssam-tiny", "ssast-tiny")},
    **{f"ONNX Runtime, {name}": ("onnx_runtime", name, 251) for name in ("axlstm-tiny", "ssast-tiny")},
    **{f"OpenVINO, {name}": ("open_vino", name, 251) for name in ("axlstm-tiny", "ssast-tiny")},
    "ViT-T": ("transformer", "vit-t", 251),
    "CED-tiny": ("transformer", "ced-tiny", 48),
    "EfficientAT mn04": ("efficient_at", "0.4", None),
    "EfficientAT mn10": ("efficient_at", "1.0", None),
}


def measure(peers: dict[str, tuple[str, str, int | None]], threads: int, batch: int, seconds: float) -> list[dict[str, Any]]:
    """A row for each of the peers that run."""
    environment = {"OMP_NUM_THREADS": str(threads), "HEAR_AXLSTM_THREADS": str(threads)}
    rows = []
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        running: dict[str, Subject] = {}
        for name, (model, of, _) in peers.items():
            of = export(of, folder) if model in EXPORTED else of
            subject = Subject("benchmarks.peer_models", model, str(threads), of, environment=environment)
            try:
                running[name] = stack.enter_context(subject).ready()
                running[name].calls(batch, 0)
            except RuntimeError as error:
                running.pop(name, None)
                click.echo(f"{name} is left out: {error}; what it wrote stands above", err=True)
        measurements = [partial(subject.calls, batch) for subject in running.values()]
        for (name, subject), calls in zip(running.items(), by_turns(measurements, seconds, TURNS), strict=True):
            rows.append({"model": name, "tokens": peers[name][2], "threads": threads, **row(calls, subject)})
    return rows


def export(variant: str, folder: str) -> str:
    """The path of the encoder as an ONNX file, written once by a process of its own; nothing is there when that fails."""
    path = os.path.join(folder, f"{variant}.onnx")
    if not os.path.exists(path):
        command = [sys.executable, "-m", "benchmarks.peer_models", "export", path, variant]
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL)  # noqa: S603 - our own
    return path


def row(calls: Calls, subject: Subject) -> dict[str, Any]:
    """What the page shows of one peer."""
    return {
        "batch": calls.batch,
        "chunks / processor s": round(1 / calls.processor_seconds, 1),
        "chunks/s": round(calls.chunks_per_second, 1),
        "peak MiB": round(subject.peak_mib()),
        "start-up s": round(subject.started, 1),
    }


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--threads", type=click.IntRange(1), default=1)
@click.option("--batch", type=click.IntRange(1, MOST_CHUNKS), default=8, help="Chunks a call.")
@click.option("--seconds", type=click.FloatRange(min=0), default=2.0, help="Shortest time of ours.")
@click.option("--released", type=click.Path(exists=True, file_okay=False), help="A clone of the authors' code.")
def main(threads: int, batch: int, seconds: float, released: str | None) -> None:
    """Measure our encoders of size tiny beside their peers."""
    theirs: dict[str, tuple[str, str, int | None]] = {"released AxLSTM-T": ("released", released, 251)} if released else {}
    rows = measure(PEERS | theirs, threads, batch, seconds)
    click.echo(rows_table(rows))
    add_record(RESULTS / "peers.json", {**machine(torch.device("cpu")), "peers": rows})


if __name__ == "__main__":
    main()
