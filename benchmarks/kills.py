"""A collection of small files embedded into parquet, and what a kill in the middle costs: ``python -m benchmarks.kills``.

A run is a process of its own, which is killed when half of the rows are there, or one of its workers is; where it was killed
itself, the same is run again. Every clip that is encoded is counted, in whichever process that is.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow.dataset
import pyarrow.parquet
import soundfile
import torch

from benchmarks.records import RESULTS, add_record, installed_version, machine, rows_table
from hear_axlstm import VARIANTS, Encoder, embed
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.embedder import Embedder
from hear_axlstm.parallel import processors

BROKEN = 100  # one file in so many is none
LOOK = 0.1  # seconds
RUNS = {  # what runs -> what is killed
    "one machine": (False, ""),
    "one machine, killed": (False, "driver"),
    "Ray": (True, ""),
    "Ray, a worker killed": (True, "worker"),
    "Ray, the driver killed": (True, "driver"),
}


class Counting(Embedder):
    """Notes in a file how many clips it has encoded."""

    counted: str

    def forward(self, audio: Any, lengths: Any = None, layers: Any = None) -> torch.Tensor:
        scenes = super().forward(audio, lengths, layers)
        with open(self.counted, "a") as file:
            file.write(f"{len(audio)}\n")
        return scenes


def synthesise(folder: Path, count: int) -> None:
    """Sounds of 0.1 to 0.4 s in folders of a thousand, one of a hundred broken."""
    random = np.random.default_rng(0)
    for index in range(count):
        path = folder / f"{index // 1_000:03}" / f"{index:06}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        if index % BROKEN == 1:
            path.write_bytes(b"RIFF and no more")
            continue
        samples = 0.2 * random.standard_normal(round(SAMPLE_RATE * random.uniform(0.1, 0.4)))
        soundfile.write(path, samples.astype(np.float32), SAMPLE_RATE)


def work(sounds: str, out: str, counted: str, ray: bool) -> None:
    """What is killed: embed a folder, by an encoder of two blocks, so that most of the time goes to what is around it."""
    torch.manual_seed(0)
    model = Counting(Encoder(replace(VARIANTS["axlstm-tiny"], depth=2)), layout="time")
    model.counted = counted
    embed(sounds, model, out=out, format="parquet", ray=ray, progress=False)


def run(sounds: Path, folder: Path, count: int, ray: bool, killed: str) -> dict[str, Any]:
    """A row of the table."""
    out, counted = folder / "out", folder / "counted"
    command = [sys.executable, "-m", "benchmarks.kills", "--work", str(sounds), str(out), str(counted), *["--ray"] * ray]
    begun, peak, kills, is_over = time.monotonic(), 0, 0, False
    while not is_over:
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # noqa: S603 - our own
        while process.poll() is None:
            peak = max(peak, _peak(process.pid))
            if killed and not kills and _rows(out) >= count / 2:
                workers = [process.pid] if killed == "driver" else list(_workers(process.pid))
                os.kill(workers[0], signal.SIGKILL)
                kills += 1
            time.sleep(LOOK)
        is_over = process.returncode != -signal.SIGKILL
        assert not is_over or process.returncode == 0, f"{' '.join(command)} failed"
    seconds = time.monotonic() - begun
    table = pyarrow.dataset.dataset(out).to_table(columns=["name", "error"])
    names, encoded = table["name"].to_pylist(), sum(map(int, counted.read_text().split()))
    failed = len(names) - table["error"].null_count
    return {
        "seconds": round(seconds, 1),
        "kills": kills,
        "rows": len(names),
        "of them errors": failed,
        "doubled": len(names) - len(set(names)),
        "missing": count - len(set(names)),
        "clips encoded twice": encoded - (len(names) - failed),
        "peak of the driver, MB": round(peak / 1e6),
    }


def _rows(folder: Path) -> int:
    """How many rows there are by now."""
    total = 0
    for part in folder.glob("*.parquet"):
        try:
            total += pyarrow.parquet.read_metadata(part).num_rows
        except FileNotFoundError:
            continue
    return total


def _peak(process: int) -> int:
    """The most memory that a process has held, in bytes."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1_024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def _workers(process: int) -> Iterator[int]:
    """The processes of Ray's below this one that encode."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            before, _, after = status.read_text().rpartition(")")
        except OSError:
            continue
        parents[int(status.parent.name)] = int(after.split()[1]), before
    for one, (parent, name) in parents.items():
        while parent in parents and parent != process:
            parent = parents[parent][0]
        if parent == process and "ray::MapWorker" in name:
            yield one


@click.command()
@click.option("--count", default=10_000, help="How many files.")
@click.option("--only", multiple=True, type=click.Choice(list(RUNS)), help="Run these alone.")
@click.option("-o", "--out", type=click.Path(path_type=Path), default=RESULTS / "kills.json", help="Where it is added.")
@click.option("--work", "given", nargs=3, hidden=True)
@click.option("--ray", is_flag=True, hidden=True)
def main(count: int, only: tuple[str, ...], out: Path, given: tuple[str, str, str] | None, ray: bool) -> None:
    """Embed COUNT small files on one machine and with Ray, without a kill and with one."""
    if given:
        work(*given, ray)
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        sounds = Path(folder, "sounds")
        synthesise(sounds, count)
        for number, name in enumerate(only or RUNS):
            place = Path(folder, str(number))
            place.mkdir()
            rows.append({"run": name, **run(sounds, place, count, *RUNS[name])})
            click.echo(rows[-1], err=True)
    click.echo(rows_table(rows))
    facts = {**machine(torch.device("cpu")), "processors": processors(), "ray": installed_version("ray"), "files": count}
    add_record(out, {**facts, "kills": rows})


if __name__ == "__main__":
    main()
