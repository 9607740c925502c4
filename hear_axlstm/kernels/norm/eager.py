"""The operation in plain torch: any device and dtype, differentiable."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hear_axlstm.ops import wide


def eager_add_norm(
    x: Tensor, update: Tensor | None, weight: Tensor, bias: Tensor | None, *, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    total = wide(x) if update is None else wide(x) + update
    weight, bias = weight.to(total.dtype), None if bias is None else bias.to(total.dtype)
    return total, F.layer_norm(total, total.shape[-1:], weight, bias, eps).to(dtype)
