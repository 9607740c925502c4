"""The operations in plain torch: any device and dtype, differentiable."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from hear_axlstm.ops import wide


def eager_conv_silu(x: Tensor, weight: Tensor, bias: Tensor, *, reverse: bool = False) -> Tensor:
    length, taps = x.shape[1], weight.shape[2]
    padded = F.pad(wide(x), (0, 0, 0, taps - 1) if reverse else (0, 0, taps - 1, 0))
    weight = wide(weight)
    out = wide(bias).expand(x.shape)
    for tap in range(taps):
        start = taps - 1 - tap if reverse else tap
        out = torch.addcmul(out, padded[:, start : start + length], weight[:, 0, tap])
    return F.silu(out).to(x.dtype)


def eager_mix(x: Tensor, mix: Tensor) -> Tensor:
    """Every four channels by a 4 x 4 matrix of their own. Shape: x (B, L, n), mix (n / 4, 4 out, 4 in) -> (B, L, n).

    Products of 4 x 4 are too small to be fast, so up to four matrices are multiplied as one, with zeros between them.
    """
    group = math.gcd(4, len(mix))
    diagonal = torch.eye(group, device=mix.device, dtype=mix.dtype)
    weight = torch.einsum("ngoi,gh->ngohi", mix.unflatten(0, (-1, group)), diagonal).reshape(-1, 4 * group, 4 * group)
    return torch.einsum("blni,noi->blno", x.unflatten(-1, (-1, 4 * group)), weight.to(x.dtype)).flatten(-2)


def eager_conv_mix_gates(
    x: Tensor, weight: Tensor, bias: Tensor, mix: Tensor, gate_c: Tensor, gate_x: Tensor, *, reverse: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    c = eager_conv_silu(x, weight, bias, reverse=reverse)
    gates = F.linear(c, gate_c.to(c.dtype)) + F.linear(x, gate_x.to(x.dtype))
    return c, eager_mix(x, mix), wide(gates)
