"""Shared by the measurements: a description of the machine, tables, and the JSON files under results/."""

from __future__ import annotations

import datetime
import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

RESULTS = Path(__file__).parent / "results"


def machine(device: torch.device) -> dict[str, Any]:
    """The device, the versions and the date, without which a measurement cannot be read."""
    import torch

    from hear_axlstm.version import __version__

    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else f"{torch.get_num_threads()} threads of {cpu_name()}",
        "driver": _driver() if cuda else None,
        "torch": torch.__version__,
        "triton": installed_version("triton"),
        "numba": installed_version("numba"),
        "hear_axlstm": __version__,
        "date": datetime.date.today().isoformat(),
    }


def cpu_name() -> str:
    """The processor's model, as precisely as the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _driver() -> str | None:
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]  # noqa: S603
    except (OSError, subprocess.CalledProcessError, IndexError):
        return None


def installed_version(package: str) -> str | None:
    """The version of an installed package, None when it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with columns of even width, which reads well in a terminal, too."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * width for width in widths], *rows]
    return "".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |\n" for line in lines
    )


def rows_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table of rows that have the same columns; a cell that is None is empty."""
    return table(list(rows[0]), [["" if cell is None else str(cell) for cell in row.values()] for row in rows])


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of a results file, oldest first; none when there is no such file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def add_record(path: Path, record: dict[str, Any]) -> None:
    """Append one record to a results file, which is whole at any moment."""
    from hear_axlstm.storage import write_text

    write_text(path, json.dumps([*read_records(path), record], indent=1) + "\n")
