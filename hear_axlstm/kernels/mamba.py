"""The selective scan of Mamba (Gu and Dao, 2023, algorithm 2)."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 16  # tokens whose decays are computed together: few large operations, (BLOCK, B, n, N) floats of memory


def selective_scan(x: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """state_t = exp(delta_t A) state_{t-1} + delta_t B_t x_t; y_t = C_t . state_t + D x_t.

    Shape: x and delta (B, L, n), a (n, N) negative, b and c (B, L, N), d (n) -> (B, L, n). All in one dtype, which should
    be float32 or better.
    """
    drive = delta * x
    state = x.new_zeros(x.shape[0], x.shape[2], a.shape[1])
    outputs = []
    for start in range(0, x.shape[1], BLOCK):
        now = slice(start, start + BLOCK)
        decay = (delta[:, now, :, None] * a).exp()
        inflow = drive[:, now, :, None] * b[:, now, None, :]
        states = []
        for t in range(decay.shape[1]):
            state = torch.addcmul(inflow[:, t], decay[:, t], state)
            states.append(state)
        outputs.append(torch.einsum("tbns,bts->btn", torch.stack(states), c[:, now]))
    return torch.cat(outputs, dim=1) + d * x


def reference_scan(x: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """The two equations, one token after the other: what ``selective_scan`` is tested against."""
    state = x.new_zeros(x.shape[0], x.shape[2], a.shape[1])
    outputs = []
    for t in range(x.shape[1]):
        step = delta[:, t, :, None]
        state = (step * a).exp() * state + step * b[:, t, None, :] * x[:, t, :, None]
        outputs.append((state * c[:, t, None, :]).sum(-1) + d * x[:, t])
    return torch.stack(outputs, dim=1)
