"""Which implementation of an operation runs: plain torch, our Triton kernels (CUDA), or our Numba kernels (CPU)."""

from __future__ import annotations

import ctypes
import functools
import importlib
import logging
import os
import sys
from typing import Literal

import torch
from torch import Tensor

from hear_axlstm.config import check_choice
from hear_axlstm.errors import BackendError

Backend = Literal["auto", "torch", "triton", "numba"]
Chosen = Literal["torch", "triton", "numba"]
VARIABLE = "HEAR_AXLSTM_BACKEND"
HOW_TO_INSTALL = {"numba": ": pip install 'hear-axlstm[cpu]'"}

logger = logging.getLogger(__name__)


def select(backend: Backend, *operands: Tensor, triton: str | None = None, numba: str | None = None) -> Chosen:
    """The backend that runs an operation; the first operand's device and dtype decide.

    backend: "torch", "triton" and "numba" are taken or refused. "auto" is what the variable HEAR_AXLSTM_BACKEND says, else
    Triton on CUDA and Numba on a CPU where they can, else torch, with one line in the log for each reason; and torch inside
    torch.compile, which makes kernels of its own.
    triton, numba: why the operation cannot run there with operands of these shapes; None when it can.

    Raises BackendError when a backend that was named cannot run here, ConfigError when there is none of that name.
    """
    if backend == "auto" and torch.compiler.is_compiling():
        return "torch"
    if backend == "auto":
        backend = os.environ.get(VARIABLE, "auto")  # type: ignore[assignment]
    check_choice("backend", backend, Backend)
    if backend == "torch":
        return "torch"
    if backend == "auto":
        wanted: Chosen = "numba" if operands[0].device.type == "cpu" else "triton"
    else:
        wanted = backend
    obstacle = _triton_obstacle(operands[0]) or triton if wanted == "triton" else _numba_obstacle(operands) or numba
    if obstacle is None:
        return wanted
    if backend == "auto":
        _log_once(wanted, obstacle)
        return "torch"
    raise BackendError(f"backend {wanted!r} cannot run: {obstacle}; choose 'auto' or 'torch'")


def _triton_obstacle(x: Tensor) -> str | None:
    if x.device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return f"the tensors are on the device {x.device.type}; it runs on CUDA"
    if x.dtype not in (torch.float16, torch.bfloat16, torch.float32):
        return f"the tensors are {str(x.dtype).removeprefix('torch.')}; it computes in float16, bfloat16 and float32"
    if x.device.type == "cuda" and torch.cuda.get_device_capability(x.device) < (7, 5):
        return f"{torch.cuda.get_device_name(x.device)} has no tensor cores that Triton programs"
    if "tensorflow" in sys.modules and "triton" not in sys.modules:  # both bring LLVM; seen with Triton 3.7 and newer
        return "TensorFlow was imported first, and Triton, imported after it, can end the process; import triton before it"
    return _import_obstacle("triton")


def _numba_obstacle(operands: tuple[Tensor, ...]) -> str | None:
    x = operands[0]
    if x.device.type != "cpu":
        return f"the tensors are on the device {x.device.type}; it runs on a CPU"
    if x.dtype not in (torch.float32, torch.bfloat16):
        return f"the tensors are {str(x.dtype).removeprefix('torch.')}; it computes in float32 and takes bfloat16"
    if torch.is_grad_enabled() and any(operand.requires_grad for operand in operands):
        return "it has no gradients"
    if not _threads_are_shared():
        return "torch brought no OpenMP runtime whose threads it could share"
    return _import_obstacle("numba")


@functools.cache
def _import_obstacle(package: str) -> str | None:
    try:
        importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name == package:
            return f"the package {package} is not installed" + HOW_TO_INSTALL.get(package, "")
        return f"the package {package} cannot be imported ({error})"
    except (ImportError, OSError) as error:  # such as a Numba that is too old for the NumPy beside it
        return f"the package {package} cannot be imported ({error})"
    return None


@functools.cache
def _threads_are_shared() -> bool:
    return sys.platform == "linux" and hasattr(ctypes.CDLL(None), "GOMP_parallel")


@functools.cache
def _log_once(wanted: str, obstacle: str) -> None:
    logger.info("going on with torch operations, without %s kernels: %s", wanted, obstacle)
