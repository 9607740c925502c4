"""A recording of many hours is embedded under a memory limit: ``python -m benchmarks.long``."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import soundfile
import torch

from benchmarks.records import RESULTS, add_record, machine

RATE = 44_100
MINUTE = 60 * RATE


def synthesise(path, hours):
    """A FLAC file of mono sound at 44.1 kHz: a chord that moves, and noise, which changes from minute to minute."""
    random = np.random.default_rng(0)
    seconds = np.arange(MINUTE) / RATE
    hiss = random.standard_normal(MINUTE).astype(np.float32)
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16", format="FLAC") as file:
        for _ in range(round(60 * hours)):
            chord = sum(np.sin(2 * np.pi * hertz * seconds) for hertz in random.uniform(100, 2_000, 3))
            file.write(0.1 * chord.astype(np.float32) + random.uniform(0.001, 0.02) * np.roll(hiss, random.integers(MINUTE)))


def limit_memory(gigabytes):
    """Keep what the process allocates, its heap and all that it maps privately, under the limit from here on."""
    resource.setrlimit(resource.RLIMIT_DATA, (int(gigabytes * 1e9),) * 2)


@click.command()
@click.option("--hours", default=10.0, help="How long the recording is that is synthesised.")
@click.option("--gigabytes", default=2.0, help="The limit.")
@click.option("--file", type=click.Path(exists=True, path_type=Path), help="A recording to take instead.")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), default=RESULTS / "long.json", help="Where the result is added."
)
def main(hours, gigabytes, file, out):
    """Embed a recording of many hours in a process that may not allocate more than the limit."""
    with tempfile.TemporaryDirectory() as folder:
        path = file or Path(folder, "long.flac")
        if file is None:
            synthesise(path, hours)
        command = [sys.executable, "-m", "hear_axlstm", "embed", str(path), "-o", str(Path(folder, "out"))]
        begun = time.monotonic()
        process = subprocess.Popen(command, preexec_fn=lambda: limit_memory(gigabytes))  # noqa: S603 - our own
        _, status, usage = os.wait4(process.pid, 0)
        result = {
            "hours": round(soundfile.info(path).duration / 3600, 3),
            "file_GB": round(path.stat().st_size / 1e9, 3),
            "limit_GB": gigabytes,
            "exit_code": os.waitstatus_to_exitcode(status),
            "peak_GB": round(usage.ru_maxrss * 1024 / 1e9, 3),
            "seconds": round(time.monotonic() - begun, 1),
            "processor_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        }
    click.echo(json.dumps(result, indent=1))
    add_record(out, {**machine(torch.device("cpu")), "long": result})
    sys.exit(result["exit_code"])


if __name__ == "__main__":
    main()
