"""Which implementation of an operation runs: plain torch, or a kernel of ours in Triton (CUDA) or Numba (CPU)."""

import functools
import importlib
import logging
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.overrides import _get_current_function_mode_stack as function_modes
from torch.utils._device import DeviceContext

from hear_axlstm.config import check_choice
from hear_axlstm.errors import BackendError, ConfigError

Backend = Literal["auto", "torch", "triton", "numba"]
KERNELS = {"torch": "scan.saving", "triton": "cuda", "numba": "cpu"}  # modules of hear_axlstm.kernels

logger = logging.getLogger(__name__)
process = importlib.import_module("hear_axlstm.kernels").process  # now, so that any process forked from here on is told


def find_kernel(operation: str, backend: Backend, *operands: Tensor | None) -> Callable[..., Any] | None:
    """Our kernel for an operation on these operands, or None where its plain torch body is to run.

    backend: "torch", "triton" or "numba", which runs or is refused; "auto" is what HEAR_AXLSTM_BACKEND says, else
    Triton on CUDA and Numba on a CPU where they can, else torch, with one line in the log for each reason. The first
    operand's device and dtype decide. Whatever the backend, the plain body runs where a kernel would be wrong: while
    something traces, transforms or watches torch operations, and in a process that was forked after kernels ran.

    Raises BackendError when a backend that was named cannot run here, ConfigError when there is none of that name.
    """
    if torch.compiler.is_compiling():
        return None
    if backend == "auto":
        backend = os.environ.get("HEAR_AXLSTM_BACKEND", "auto")  # type: ignore[assignment]
    check_choice("backend", backend, Backend)
    given = [operand for operand in operands if operand is not None]
    if process.forked or is_watched(*given):
        return None
    name = backend if backend != "auto" else "numba" if given[0].device.type == "cpu" else "triton"
    kernels = importlib.import_module(f"hear_axlstm.kernels.{KERNELS[name]}")
    if obstacle := kernels.obstacle(operation, given):
        if backend != "auto":
            raise BackendError(f"backend {backend!r} cannot run: {obstacle}; choose 'auto' or 'torch'")
        _log_once(name, obstacle)
        return None
    process.used_kernels |= name != "torch"
    return kernels.find(operation)


def find_device(name: str | torch.device) -> torch.device:
    """The device of a name, CUDA or else the CPU for "auto". Raises ConfigError where it cannot be used."""
    try:
        device = torch.device(name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        cause = "there is no such kind" if "device type at start" in str(error) else str(error).splitlines()[0]
        raise ConfigError(f"device {str(name)!r} cannot be used ({cause}); expected cpu, cuda, cuda:1 or auto") from error
    return device


def threads_of_a_call(device: torch.device) -> AbstractContextManager[None]:
    """On a CPU, a context in which operations use no more threads than this process may, and are quick beside others."""
    elsewhere = device.type != "cpu" or torch.compiler.is_compiling()
    return nullcontext() if elsewhere else importlib.import_module("hear_axlstm.kernels.threads").of_a_call()


def is_watched(*operands: Tensor) -> bool:
    """Whether a tracer, transform or mode would miss what a kernel does."""
    return (
        torch.compiler.is_compiling()
        or is_recorded()
        or forward_ad._current_level >= 0  # dual numbers
        or any(type(operand) not in (Tensor, nn.Parameter) for operand in operands)
        or (torch._C._len_torch_function_stack() > 0 and any(type(m) is not DeviceContext for m in function_modes()))
    )


def is_recorded() -> bool:
    """Whether a tracer, transform or dispatch mode (make_fx, fake tensors) is told: no value may be read or kept then."""
    if torch.compiler.is_compiling():
        return torch.compiler.is_exporting()
    transformed = torch._C._functorch.peek_interpreter_stack() is not None  # vmap, grad, jvp
    return transformed or torch._C._len_torch_dispatch_stack() > 0 or torch.jit.is_tracing()  # type: ignore[attr-defined]


@functools.cache
def _log_once(name: str, obstacle: str) -> None:
    logger.info("going on with torch operations, without %s kernels: %s", name, obstacle)
