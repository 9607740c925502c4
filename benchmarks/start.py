"""How long programs take to start, each in a process of its own, with warm caches: ``python -m benchmarks.start``.

Seconds of wall clock from the start of the process, medians, and what the import of torch takes of them.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.records import RESULTS, add_record, machine, table

TORCH = "import torch"
FIRST = """
import torch, hear_axlstm
model = hear_axlstm.load_model()
with torch.no_grad():
    model(torch.zeros(1, 32_000))
"""
# A process tells when it is done: the interpreter with torch takes a while to end.
PROGRAMS = {
    "import torch": TORCH,
    "import torch, hear_axlstm": "import torch, hear_axlstm",
    "import torch, hear_axlstm; hear_axlstm.load_model": "import torch, hear_axlstm; hear_axlstm.load_model",
    "hear-axlstm --help": "from hear_axlstm.cli import main; main(['--help'], standalone_mode=False)",
    "hear-axlstm embed --help": "from hear_axlstm.cli import main; main(['embed', '--help'], standalone_mode=False)",
    "the first embedding": FIRST,
}
COLUMNS = ["program", "seconds", "after torch", "runs"]


def seconds(program: str) -> float:
    """From the start of a process to the end of its program."""
    code = f"{program}\nimport os\nos.write(2, b'done')\n"
    start = time.perf_counter()
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:  # noqa: S603 - our own text
        assert process.stderr is not None
        said = process.stderr.read(4)
        taken = time.perf_counter() - start
        assert said == b"done", said + process.stderr.read()
    return taken


def measure(runs: int) -> list[dict[str, str]]:
    """A row for each program; the programs take turns."""
    taken: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for run in range(runs + 1):  # the first warms the caches
        for name, program in PROGRAMS.items():
            once = seconds(program)
            if run:
                taken[name].append(once)
    medians = {name: statistics.median(times) for name, times in taken.items()}
    return [
        {
            "program": name,
            "seconds": f"{median:.2f}",
            "after torch": f"{median - medians[TORCH]:+.2f}" if "torch" in PROGRAMS[name] and name != TORCH else "",
            "runs": str(runs),
        }
        for name, median in medians.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, default=RESULTS / "start.json", help="append the record to this file")
    parser.add_argument("--runs", type=int, default=7, help="processes of each kind")
    options = parser.parse_args()
    rows = measure(options.runs)
    sys.stdout.write(table(COLUMNS, [[row[column] for column in COLUMNS] for row in rows]))
    add_record(options.out, {**machine(torch.device("cpu")), "start": rows})


if __name__ == "__main__":
    main()
