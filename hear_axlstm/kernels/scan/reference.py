"""The equations, one token after the other: what the other implementations are tested against. Slow."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def reference_scan(x: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """state_t = exp(delta_t A) state_{t-1} + delta_t B_t x_t; y_t = C_t . state_t + D x_t."""
    state = x.new_zeros(x.shape[0], x.shape[2], a.shape[1])
    outputs = []
    for t in range(x.shape[1]):
        step = delta[:, t, :, None]
        state = (step * a).exp() * state + step * b[:, t, None, :] * x[:, t, :, None]
        outputs.append((state * c[:, t, None, :]).sum(-1) + d * x[:, t])
    return torch.stack(outputs, dim=1)


def reference_gated_scan(
    x: Tensor,
    step: Tensor,
    step_bias: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor,
    z: Tensor | None,
    *,
    reverse: bool = False,
) -> Tensor:
    """The scan with delta = softplus(step + step_bias), times SiLU(z)."""
    if reverse:
        flipped = (None if t is None else t.flip(1) for t in (x, step, b, c, z))
        x, step, b, c, z = flipped  # type: ignore[assignment]
        return reference_gated_scan(x, step, step_bias, a, b, c, d, z).flip(1)
    y = reference_scan(x, F.softplus(step + step_bias), a, b, c, d)
    return y if z is None else y * z * torch.sigmoid(z)
