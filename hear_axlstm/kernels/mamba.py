"""The selective scan of Mamba (Gu and Dao, 2023, algorithm 2)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

BLOCK = 16  # tokens whose decays are computed together: few large operations, (BLOCK, B, n, N) floats of memory


def selective_scan(x: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """state_t = exp(delta_t A) state_{t-1} + delta_t B_t x_t; y_t = C_t . state_t + D x_t.

    Where gradients are wanted, the states, N times as large as x, are not kept: backward computes them again, a block at a
    time.

    Shape: x and delta (B, L, n), a (n, N) negative, b and c (B, L, N), d (n) -> (B, L, n). All in one dtype, which should
    be float32 or better.
    """
    state = x.new_zeros(x.shape[0], x.shape[2], a.shape[1])
    outputs = []
    for start in range(0, x.shape[1], BLOCK):
        block = [operand[:, start : start + BLOCK] for operand in (x, delta, b, c)]
        if torch.is_grad_enabled():
            y, state = checkpoint(_scan_block, state, a, *block, use_reentrant=False, preserve_rng_state=False)
        else:
            y, state = _scan_block(state, a, *block)
        outputs.append(y)
    return torch.cat(outputs, dim=1) + d * x


def _scan_block(state: Tensor, a: Tensor, x: Tensor, delta: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """C . state of the block's tokens, and the state after the last."""
    decay = (delta.unsqueeze(-1) * a).exp()
    inflow = (delta * x).unsqueeze(-1) * b.unsqueeze(2)
    states = []
    for t in range(x.shape[1]):
        state = torch.addcmul(inflow[:, t], decay[:, t], state)
        states.append(state)
    return torch.einsum("tbns,bts->btn", torch.stack(states), c), state


def reference_scan(x: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """The two equations, one token after the other: what ``selective_scan`` is tested against."""
    state = x.new_zeros(x.shape[0], x.shape[2], a.shape[1])
    outputs = []
    for t in range(x.shape[1]):
        step = delta[:, t, :, None]
        state = (step * a).exp() * state + step * b[:, t, None, :] * x[:, t, :, None]
        outputs.append((state * c[:, t, None, :]).sum(-1) + d * x[:, t])
    return torch.stack(outputs, dim=1)
