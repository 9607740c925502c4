"""The limits and the places of the Numba kernels, which compute on a CPU, in float32."""

from __future__ import annotations

import ctypes
import functools
import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from hear_axlstm.kernels import import_obstacle

MODULES = {
    "add_norm": "hear_axlstm.kernels.norm.cpu",
    "causal_conv_silu": "hear_axlstm.kernels.conv.cpu",
    "conv_mix_gates": "hear_axlstm.kernels.conv.cpu",
    "fold": "hear_axlstm.kernels.mlstm.cpu",
    "gated_mlstm": "hear_axlstm.kernels.mlstm.cpu",
    "gated_scan": "hear_axlstm.kernels.scan.cpu",
    "recurrent_mlstm": "hear_axlstm.kernels.mlstm.cpu_recurrent",
    "recurrent_scan": "hear_axlstm.kernels.scan.cpu",
}
STATES = {"recurrent_mlstm": 3, "recurrent_scan": 1}  # how many of the operands, the last ones, are changed in place
GRADIENTS = {  # what is imported, and so compiled, where somebody trains
    "causal_conv_silu": "hear_axlstm.kernels.conv.cpu_backward",
    "conv_mix_gates": "hear_axlstm.kernels.conv.cpu_backward",
    "fold": "hear_axlstm.kernels.mlstm.cpu_training",
    "gated_mlstm": "hear_axlstm.kernels.mlstm.cpu_training",
    "gated_scan": "hear_axlstm.kernels.scan.cpu_backward",
}
TAPS = 4  # tokens of the convolution that is compiled


def obstacle(operation: str, operands: Sequence[Tensor]) -> str | None:
    """Why the kernels cannot run an operation on these operands, or None when they can."""
    x = operands[0]
    if x.device.type != "cpu":
        return f"the tensors are on the device {x.device.type}; it runs on a CPU"
    if others := {operand.dtype for operand in operands} - {torch.float32, torch.bfloat16}:
        return f"the tensors are {str(others.pop()).removeprefix('torch.')}; it computes in float32 and takes bfloat16"
    training = _gradients_are_wanted(operands)
    if training and operation not in GRADIENTS:
        return "it has no gradients"
    if not _threads_are_shared():
        return "torch brought no OpenMP runtime whose threads it could share"
    if operation in ("causal_conv_silu", "conv_mix_gates") and (taps := operands[1].shape[2]) != TAPS:
        return f"the convolution is {taps} tokens wide; it is compiled for {TAPS}"
    states = operands[len(operands) - STATES.get(operation, 0) :]
    if any(state.dtype != torch.float32 or not state.is_contiguous() for state in states):
        return "the states are not float32 without gaps, which it changes in place"
    module = (GRADIENTS if training else MODULES).get(operation, "hear_axlstm.kernels.cpu_parts")
    return import_obstacle(module, "numba", ": pip install 'hear-axlstm[cpu]'")


@functools.cache
def find(operation: str) -> Callable[..., Any] | None:
    """The kernel of an operation, or None where plain torch is as fast."""
    if operation not in MODULES:
        return None
    values: Callable[..., Any] = getattr(importlib.import_module(MODULES[operation]), operation)
    if operation not in GRADIENTS:
        return values

    def either(*operands: Tensor | None, **options: Any) -> Any:
        if not _gradients_are_wanted(operands):
            return values(*operands, **options)
        return getattr(importlib.import_module(GRADIENTS[operation]), operation)(*operands, **options)

    return either


def _gradients_are_wanted(operands: Sequence[Tensor | None]) -> bool:
    return torch.is_grad_enabled() and any(operand is not None and operand.requires_grad for operand in operands)


@functools.cache
def _threads_are_shared() -> bool:
    return sys.platform == "linux" and hasattr(ctypes.CDLL(None), "GOMP_parallel")
