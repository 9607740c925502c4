"""Residual addition and layer norm, in one pass."""

import torch
import torch.nn.functional as F
from torch import Tensor

from hear_axlstm.ops import wide
from hear_axlstm.ops.backend import Backend, find_kernel


def add_norm(
    x: Tensor,
    update: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    *,
    eps: float,
    dtype: torch.dtype,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor]:
    """x + update in float32 or better, and its layer norm over the channels in ``dtype``.

    Shape: x and update (..., D), weight and bias (D) -> two of (..., D).
    """
    if kernel := find_kernel("add_norm", backend, x, update, weight, bias):
        return kernel(x, update, weight, bias, eps=eps, dtype=dtype)
    x = wide(x) if update is None else wide(x) + update
    bias = None if bias is None else bias.to(x.dtype)
    return x, F.layer_norm(x, x.shape[-1:], weight.to(x.dtype), bias, eps).to(dtype)
