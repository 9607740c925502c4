"""What grows with the number of files: time to list, to plan and to go on, memory, files. And how fast each stage is.

    python -m benchmarks.scale [--names 10000 --names 100000 --names 1000000]

The files are there: in folders of a thousand, hard links to a sound of 0.3 s in each. They are embedded by an encoder that
does nothing, so that what is measured is what the process does that finds, plans, decodes and writes. Each step is a process
of its own.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pyarrow.parquet  # noqa: F401 - so that its memory is not counted as a folder's
import torch

from benchmarks import stages
from benchmarks.records import RESULTS, add_record, installed_version, machine
from hear_axlstm import embed
from hear_axlstm.files.items import as_sounds
from hear_axlstm.files.parquet import ParquetFolder
from hear_axlstm.files.planning import BATCH_SECONDS, Plan
from hear_axlstm.files.run import windows
from hear_axlstm.files.settings import read_settings

FOLDER = 1_000  # files in a folder
SECONDS = 0.3  # of each sound


def make(root: Path, names: int) -> None:
    """So many files in folders, and a list of them beside."""
    with open(list_of(root), "w") as listed:
        for start in range(0, names, FOLDER):
            folder = root / f"{start // FOLDER:06}"
            folder.mkdir(parents=True)
            paths = [folder / f"recording-{number:09}.wav" for number in range(start, min(start + FOLDER, names))]
            rate, channels, how = stages.KINDS["wav, 16 kHz"]
            stages.synthesise(paths[0], SECONDS, rate, channels, **how)
            for path in paths[1:]:
                os.link(paths[0], path)
            listed.writelines(f"{path}\n" for path in paths)


def list_of(root: Path) -> Path:
    return root.with_suffix(".txt")


def list_folder(root: Path, out: Path, names: int) -> dict[str, float]:
    """The files below a folder, as ``embed`` finds them."""
    return _listed(root, names)


def list_file(root: Path, out: Path, names: int) -> dict[str, float]:
    """The same files by a list in a text file."""
    return _listed(list_of(root), names)


def _listed(path: Path, names: int) -> dict[str, float]:
    began, spent = time.perf_counter(), time.process_time()
    sounds = as_sounds(path, expand=True)
    next(sounds)
    first = time.perf_counter() - began
    assert 1 + sum(1 for _ in sounds) == names
    return {
        "first_seconds": round(first, 4),
        "seconds": round(time.perf_counter() - began, 2),
        "processor_seconds": round(time.process_time() - spent, 2),
    }


def plan(root: Path, out: Path, names: int) -> dict[str, float]:
    """Listing and planning: every header is read, and the names are kept."""
    planned = Plan()
    before, began, spent = _resident(), time.perf_counter(), time.process_time()
    batches = planned.batch(as_sounds(root, expand=True), BATCH_SECONDS, lambda name, source: False, windows=windows())
    assert sum(map(len, batches)) == names
    return {
        "seconds": round(time.perf_counter() - began, 2),
        "processor_seconds": round(time.process_time() - spent, 2),
        "bytes_a_name": round((_resident() - before) / names),
    }


def run(root: Path, out: Path, names: int) -> dict[str, float]:
    """The first run, or one that has nothing left to do."""
    first: list[float] = []

    class Timed(stages.Nothing):
        def forward(self, *arguments: Any) -> torch.Tensor:
            first.append(time.perf_counter()) if not first else None
            return super().forward(*arguments)

    model = Timed(stages.nothing().encoder)
    before, began, spent = _resident(), time.perf_counter(), time.process_time()
    result = embed(root, model, out=out, format="parquet", progress=False)
    seconds, spent = time.perf_counter() - began, time.process_time() - spent
    assert result.ok.sum() == len(result) == names
    assert len(result.skipped) in (0, names)
    found: dict[str, float] = {"first_batch_seconds": round(first[0] - began, 2)} if first else {}
    return found | {
        "seconds": round(seconds, 1),
        "processor_seconds": round(spent, 1),
        "peak_mib": _peak() >> 20,
        "base_mib": before >> 20,
        "bytes_a_name": round((_resident() - before) / names),
    }


def open_folder(root: Path, out: Path, names: int) -> dict[str, float]:
    """What the folder that was written takes on disk and to be opened, and to be looked at as before each writing."""
    settings = read_settings(out)
    assert settings is not None
    before, began = _resident(), time.perf_counter()
    folder = ParquetFolder(out, settings)
    seconds, held = time.perf_counter() - began, _resident() - before
    began = time.perf_counter()
    folder._catch_up()
    folder._known.stale()
    look = time.perf_counter() - began
    paths = list(out.iterdir())
    return {
        "seconds": round(seconds, 2),
        "look_seconds": round(look, 4),
        "bytes_a_row": round(held / names),
        "table_bytes_a_row": folder._known.nbytes // names,
        "files": len(paths),
        "rows_a_file": names // len(paths),
        "bytes_a_row_on_disk": round(sum(path.stat().st_size for path in paths) / names),
    }


STEPS: dict[str, Callable[[Path, Path, int], dict[str, float]]] = {
    "list_folder": list_folder,
    "list_file": list_file,
    "plan": plan,
    "first_run": run,
    "open_folder": open_folder,
    "second_run": run,
}


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _peak() -> int:
    """The most memory that was resident; what getrusage says begins with that of the process that started this one."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) << 10


def measure(names: int, scratch: Path) -> dict[str, Any]:
    """Every step with so many files, each in a process of its own."""
    make(scratch / str(names), names)
    found: dict[str, Any] = {"names": names}
    for step in STEPS:
        command = [
            sys.executable,
            "-m",
            "benchmarks.scale",
            "--step",
            step,
            "--names",
            str(names),
            "--scratch",
            str(scratch),
        ]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)  # noqa: S603 - our own
        found[step] = json.loads(done.stdout)
        click.echo(f"{names:,} names, {step}: {found[step]}", err=True)
    return found


def tables(record: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The tables of a record, each under what it shows."""
    found = {}
    for step in STEPS:
        title = step.replace("_", " ").capitalize()
        found[title] = [
            {"names": f"{row['names']:,}"} | {name.replace("_", " "): value for name, value in row[step].items()}
            for row in record["names"]
        ]
    found["Files, by one processor"] = record["stages"]["files"]
    found["Clips from processes that decode, by one processor"] = record["stages"]["processes"]
    found["The sink"] = [record["stages"]["sink"]]
    return found | ({"Through Ray": record["stages"]["ray"]} if record["stages"]["ray"] else {})


@click.command()
@click.option("--names", type=int, multiple=True, default=[10_000, 100_000, 1_000_000], help="How many files.")
@click.option("--seconds", default=2.0, help="How long each rate is measured.")
@click.option("--rows", default=40_000, help="That go through the sink.")
@click.option("--note", default="", help="What else the machine does, for the record.")
@click.option("--scratch", type=click.Path(path_type=Path), help="Where the files are made; a temporary folder if left out.")
@click.option("--step", type=click.Choice(list(STEPS)), help="Do this alone, with what is in the scratch folder.")
@click.option("-o", "--out", type=click.Path(path_type=Path), default=RESULTS / "scale.json", help="Where the result goes.")
def main(
    names: tuple[int, ...], seconds: float, rows: int, note: str, scratch: Path | None, step: str | None, out: Path
) -> None:
    """Measure what grows with the number of files, and how fast each stage is."""
    if step and scratch:
        root = scratch / str(names[0])
        click.echo(json.dumps(STEPS[step](root, scratch / f"{names[0]}.out", names[0])))
        return
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        here = Path(folder)
        found = {
            "files": stages.of_files(here, seconds),
            "processes": stages.of_processes(here, seconds),
            "sink": stages.of_sink(here / "sink", rows),
            "ray": stages.of_ray(here, seconds),
        }
        for stage, rates in found.items():
            click.echo(f"{stage}: {rates}", err=True)
        sizes = [measure(count, here) for count in names]
    record = {**machine(torch.device("cpu")), "ray": installed_version("ray"), "note": note}
    add_record(out, {**record, "names": sizes, "stages": found})


if __name__ == "__main__":
    main()
