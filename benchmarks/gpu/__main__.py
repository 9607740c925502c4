"""The command `make gpu`: runs the parts and writes gpu.json, gpu.md and gpu.log into a folder.

Exit status: 0 when every part passed, 1 when one did not, 2 when there is no device to run on, 130 when it was stopped.
"""

from __future__ import annotations

import argparse
import datetime
import os
import signal
import sys
import time
from pathlib import Path

from benchmarks.gpu.checks import tell
from benchmarks.gpu.parts import MACHINE, PARTS, Part
from benchmarks.gpu.runner import Run

SECONDS = 460.0  # below eight minutes, with what it takes to end
MOST_JOBS = 8
NO_DEVICE, INTERRUPTED = 2, 130


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--rehearse", action="store_true", help="run every part on the CPU, with tiny sizes")
    parser.add_argument("--out", type=Path, default=Path("build/gpu"), help="folder for gpu.json, gpu.md and gpu.log")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="time of the whole run")
    parser.add_argument("--only", help="names of parts, with commas between them")
    parser.add_argument("--jobs", type=int, help="parts that run at once, where none measures times")
    return parser.parse_args()


def chosen(names: str | None) -> list[Part]:
    """The parts of these names. Exits where there is none of a name."""
    wanted = PARTS if names is None else [part for part in PARTS if part.name in names.split(",")]
    if names is not None and len(wanted) < len(names.split(",")):
        sys.exit(f"--only is {names!r}; expected some of {', '.join(part.name for part in PARTS)}")
    return wanted


def stop(*_: object) -> None:
    """What a signal does."""
    raise KeyboardInterrupt


def main() -> int:
    """Run the parts that were chosen."""
    options = arguments()
    parts = chosen(options.only)
    signal.signal(signal.SIGTERM, stop)
    notes = {"date": datetime.date.today().isoformat()}
    run = Run(options.out, rehearsal=options.rehearse, until=time.monotonic() + options.seconds, notes=notes)
    try:
        if not run.run([MACHINE], 1) and MACHINE.lacks:
            return refused(f"{sys.executable} has no torch: name a Python that has it (make gpu GPU_PYTHON=...)")
        found = run.record["parts"][0].get("checks", {})
        run.record["machine"] = found.get("versions", {}).get("values", {})
        if found.get("device", {}).get("state") != "passed":
            why = found.get("device", {}).get("error", "the part `machine` did not come so far")
            return refused(f"no CUDA device: {why}")
        run.kept = True
        exclusive = run.record["machine"].get("compute mode", "Default") != "Default"
        jobs = options.jobs or (1 if exclusive else max(1, min(MOST_JOBS, len(os.sched_getaffinity(0)) // 2)))
        run.run(parts, jobs)
    except KeyboardInterrupt:
        tell(f"stopped: what was done is in {options.out}" if run.kept else "stopped before anything was done")
        return INTERRUPTED
    label = "REHEARSAL, which says nothing about a GPU. " if options.rehearse else ""
    tell(f"\n{label}Written: {run.name}.md, .json and .log in {options.out}")
    return int(any(part["state"] != "passed" for part in run.record["parts"]))


def refused(why: str) -> int:
    """Say why nothing was run."""
    tell(f"{why}\nNothing was written. To try the command itself on the CPU: make gpu REHEARSE=1")
    return NO_DEVICE


if __name__ == "__main__":
    sys.exit(main())
