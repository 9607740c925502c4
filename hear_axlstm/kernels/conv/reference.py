"""The equations, one token after the other: what the other implementations are tested against. Slow."""

from __future__ import annotations

import torch
from torch import Tensor


def reference_conv_silu(x: Tensor, weight: Tensor, bias: Tensor, *, reverse: bool = False) -> Tensor:
    """c_t = SiLU(bias + sum_j weight_j x_{t - (W - 1) + j}), tokens before the first being zero."""
    if reverse:
        return reference_conv_silu(x.flip(1), weight, bias).flip(1)
    taps = weight.shape[2]
    outputs = []
    for t in range(x.shape[1]):
        total = bias.expand(x.shape[0], -1)
        for j in range(taps):
            source = t - (taps - 1) + j
            if source >= 0:
                total = total + weight[:, 0, j] * x[:, source]
        outputs.append(total * torch.sigmoid(total))
    return torch.stack(outputs, dim=1)


def reference_mix(x: Tensor, mix: Tensor) -> Tensor:
    """Every four channels by a 4 x 4 matrix of their own. Shape: x (B, L, n), mix (n / 4, 4 out, 4 in) -> (B, L, n)."""
    return torch.einsum("blgi,goi->blgo", x.unflatten(-1, (-1, 4)), mix).flatten(-2)


def reference_conv_mix_gates(
    x: Tensor, weight: Tensor, bias: Tensor, mix: Tensor, gate_c: Tensor, gate_x: Tensor, *, reverse: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """c = SiLU(conv(x)); v = mix x; gates = c gate_c^T + x gate_x^T."""
    c = reference_conv_silu(x, weight, bias, reverse=reverse)
    return c, reference_mix(x, mix), c @ gate_c.T + x @ gate_x.T
