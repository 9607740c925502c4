"""The machine: is there a device, which versions, what is missing, does a first kernel run, and where are the ceilings."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.checks import Checks, rehearsing, require

VERSIONS = "numpy triton safetensors click tqdm pytest pytest-xdist numba".split()
OPTIONAL = "soundfile soxr click tqdm pytest xdist safetensors triton matplotlib numba".split()


def device() -> dict[str, Any]:
    """Raise unless there is a device that computes."""
    if rehearsing():
        return {}
    require(torch.cuda.is_available(), f"torch {torch.__version__} (CUDA {torch.version.cuda}) sees none")
    require(torch.ones(3, device="cuda").sum().item() == 3, "it computes 1 + 1 + 1 wrongly")
    return {}


def versions() -> dict[str, Any]:
    """Everything that a measurement cannot be read without."""
    found: dict[str, Any] = {"device": "none: a rehearsal on a CPU"}
    if not rehearsing():
        card = torch.cuda.get_device_properties(0)
        found = {
            "device": card.name,
            "capability": f"{card.major}.{card.minor}",
            "multiprocessors": card.multi_processor_count,
            "GiB": round(card.total_memory / 2**30, 1),
            "driver": _query("driver_version"),
            "compute mode": _query("compute_mode") or "Default",
            "CUDA": torch.version.cuda,
        }
    found |= {"python": platform.python_version(), "torch": torch.__version__}
    for name in VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    missing = [name for name in OPTIONAL if importlib.util.find_spec(name) is None]
    return {
        **found,
        "not installed": ", ".join(missing) or "nothing that is looked for",
        "processors": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
    }


def _query(what: str) -> str | None:
    try:
        command = ["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.splitlines()[0].strip()  # noqa: S603
    except (OSError, subprocess.SubprocessError, IndexError):
        return None


def compiler() -> dict[str, Any]:
    """What Triton builds its launchers with: a C compiler, and Python's header files."""
    found = os.environ.get("CC") or next(filter(None, map(shutil.which, ("gcc", "clang", "cc"))), None)
    header = Path(sysconfig.get_path("include"), "Python.h")
    require(found, "there is no gcc, clang or cc: Triton cannot launch a kernel")
    require(header.is_file(), f"{header} is missing: Triton cannot launch a kernel")
    return {}


def first_kernel() -> dict[str, Any]:
    """Compile and run the smallest kernel of the package."""
    from hear_axlstm.ops.norm import add_norm

    on = "cpu" if rehearsing() else "cuda"
    x, weight = torch.randn(4, 32, device=on), torch.ones(32, device=on)
    options: dict[str, Any] = {"eps": 1e-5, "dtype": torch.float32}
    ours = add_norm(x, None, weight, None, **options, backend="triton")[1]
    plain = add_norm(x, None, weight, None, **options, backend="torch")[1]
    deviation = float((ours - plain).abs().max())
    require(deviation < 1e-5, f"it is wrong by {deviation:.1e}")
    return {}


def main() -> None:
    """Look at the machine."""
    checks = Checks()
    checks.run("device", device)
    if checks.found["device"]["state"] == "passed":
        checks.run("versions", versions)
        checks.run("compiler", compiler)
        checks.run("first kernel", first_kernel)
    checks.end()


if __name__ == "__main__":
    sys.exit(main())
