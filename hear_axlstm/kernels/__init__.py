"""The operations of ``ops`` written for a GPU (Triton) and for a CPU (Numba).

``ops.backend`` finds them by name: cuda.py and cpu.py say what can run, a folder for each operation holds its kernels, and
graphs.py replays a whole encoder on CUDA. exported.py has the forms that torch.export records.
"""

from __future__ import annotations

import functools
import importlib
import os

import torch


class _Process:
    """What this process did with OpenMP, whose threads, torch's own too, are not copied into a forked child."""

    used_kernels = forked = is_fork = False

    def after_fork(self) -> None:
        torch.set_num_threads(1)  # with more, torch's first parallel operation waits forever
        self.is_fork, self.forked = True, self.used_kernels


process = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=process.after_fork)


@functools.cache
def import_obstacle(module: str, package: str, how_to_install: str = "") -> str | None:
    """Why a module that needs a package cannot be imported, or None when it can."""
    try:
        importlib.import_module(module)
    except (Exception, SystemExit) as error:  # whatever a broken one raises, or one too old for the NumPy beside it
        if isinstance(error, ModuleNotFoundError) and error.name in (package, "llvmlite"):  # Numba's compiler
            return f"the package {package} is not installed{how_to_install}"
        return f"{module} cannot be imported ({str(error).partition(chr(10))[0] or type(error).__name__})"
    return None
