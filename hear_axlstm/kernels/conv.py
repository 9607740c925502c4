"""Causal depthwise convolution and SiLU, which open the mLSTM and the Mamba mixers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hear_axlstm.kernels import wide


def causal_conv_silu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """SiLU(bias + sum_j weight[:, j] * x[t - (W - 1) + j]): each channel sees itself and the W - 1 tokens before.

    Shape: x (B, L, n), weight (n, 1, W), bias (n) -> (B, L, n), in x's dtype; the sum is made in float32 or better.
    """
    length, taps = x.shape[1], weight.shape[2]
    padded = F.pad(wide(x), (0, 0, taps - 1, 0))
    weight = wide(weight)
    out = wide(bias).expand(x.shape)
    for tap in range(taps):
        out = torch.addcmul(out, padded[:, tap : tap + length], weight[:, 0, tap])
    return F.silu(out).to(x.dtype)
