"""The residual stream and the norm that opens the next layer, in one pass."""

from __future__ import annotations

import torch
from torch import Tensor

from hear_axlstm.kernels.norm.eager import eager_add_norm
from hear_axlstm.ops.backend import Backend, select

TRITON_WIDTH = 4096


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
    """x + update, in float32 or better, and its layer norm over the channels, in ``dtype``.

    Shape: x and update (..., D), weight and bias (D) -> both (..., D).
    """
    others = [other for other in (update, weight, bias) if other is not None]
    width = x.shape[-1]
    too_wide = None if width <= TRITON_WIDTH else f"there are {width} channels; it takes {TRITON_WIDTH} or fewer"
    if select(backend, x, *others, triton=too_wide) == "triton":
        from hear_axlstm.kernels.norm.cuda import fused_add_norm

        return fused_add_norm(x, update, weight, bias, eps=eps, dtype=dtype)
    return eager_add_norm(x, update, weight, bias, eps=eps, dtype=dtype)
