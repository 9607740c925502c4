"""The limits and the places of the Triton kernels, which compute on CUDA, forward and backward."""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from hear_axlstm.kernels import import_obstacle

MODULES = {
    "add_norm": "hear_axlstm.kernels.norm.cuda",
    "causal_conv_silu": "hear_axlstm.kernels.conv.cuda",
    "conv_mix_gates": "hear_axlstm.kernels.conv.cuda",
    "gated_mlstm": "hear_axlstm.kernels.mlstm.cuda",
    "gated_scan": "hear_axlstm.kernels.scan.cuda",
}
NORM_WIDTH, HEAD_WIDTH = 4096, 768  # the most channels of a norm, and of an mLSTM's head


def obstacle(operation: str, operands: Sequence[Tensor]) -> str | None:
    """Why the kernels cannot run an operation on these operands, or None when they can."""
    x = operands[0]
    if x.device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return f"the tensors are on the device {x.device.type}; it runs on CUDA"
    if x.dtype not in (torch.float16, torch.bfloat16, torch.float32):
        return f"the tensors are {str(x.dtype).removeprefix('torch.')}; it computes in float16, bfloat16 and float32"
    if x.device.type == "cuda" and torch.cuda.get_device_capability(x.device) < (7, 5):
        return f"{torch.cuda.get_device_name(x.device)} has no tensor cores that Triton programs"
    if "tensorflow" in sys.modules and "triton" not in sys.modules:  # both bring LLVM; seen with Triton 3.7 and newer
        return "TensorFlow was imported first, and Triton, imported after it, can end the process; import triton before it"
    if operation == "add_norm" and (width := x.shape[-1]) > NORM_WIDTH:
        return f"there are {width} channels; it takes {NORM_WIDTH} or fewer"
    if operation == "gated_mlstm" and (width := x.shape[2] // (operands[3].shape[2] // 2)) > HEAD_WIDTH:
        return f"heads have {width} channels; it takes {HEAD_WIDTH} or fewer"
    return import_obstacle("triton", "triton") or import_obstacle(MODULES.get(operation, "triton"), "triton")


@functools.cache
def find(operation: str) -> Callable[..., Any] | None:
    """The kernel of an operation, or None where plain torch does."""
    if operation not in MODULES:
        return None
    return getattr(importlib.import_module(MODULES[operation]), operation)
