"""The scan in plain torch: any device and dtype, differentiable, with few states kept for backward."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from hear_axlstm.ops import wide

BLOCK = 16  # tokens whose decays are computed together: few large operations, two (BLOCK, B, n, N) buffers


def eager_gated_scan(
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
    if reverse:
        x, step, b, c = (t.flip(1) for t in (x, step, b, c))
    delta = F.softplus(wide(step) + step_bias)
    y = selective_scan(wide(x), delta, a, wide(b), wide(c), d)
    if reverse:
        y = y.flip(1)
    return (y if z is None else y * F.silu(z)).to(x.dtype)


def selective_scan(x: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """state_t = exp(delta_t A) state_{t-1} + delta_t B_t x_t; y_t = C_t . state_t + D x_t.

    Of the states, N times as large as x, one in BLOCK is kept for backward, which computes the others again.

    Shape: x and delta (B, L, n), a (n, N) negative, b and c (B, L, N), d (n) -> (B, L, n). All in one dtype, which should
    be float32 or better.
    """
    with torch.autocast(x.device.type, enabled=False):
        y: Tensor = _Scan.apply((delta * x).transpose(0, 1), *(operand.transpose(0, 1) for operand in (delta, b, c)), a)
        return y.transpose(0, 1) + d * x


class _Scan(torch.autograd.Function):
    """y_t = C_t . state_t, state_t = exp(delta_t A) state_{t-1} + drive_t B_t, tokens first.

    Shape: drive and delta (L, B, n), b and c (L, B, N), a (n, N) -> (L, B, n).
    """

    @staticmethod
    def forward(ctx: Any, drive: Tensor, delta: Tensor, b: Tensor, c: Tensor, a: Tensor) -> Tensor:
        blocks = _Blocks(drive, delta, b, a)
        y = torch.empty_like(drive, memory_format=torch.contiguous_format)
        entries = drive.new_zeros(blocks.count + 1, *blocks.state_shape)  # the state before each block
        for index, now in enumerate(blocks.spans):
            _, states = blocks.run(now, entries[index])
            y[now] = (states @ c[now].unsqueeze(-1)).squeeze(-1)
            entries[index + 1] = states[-1]
        ctx.save_for_backward(drive, delta, b, c, a, entries)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, ...]:
        drive, delta, b, c, a, entries = ctx.saved_tensors
        blocks = _Blocks(drive, delta, b, a)
        grad_drive, grad_delta, grad_b, grad_c = (torch.empty_like(x) for x in (drive, delta, b, c))
        grad_a = torch.zeros_like(a)
        carried = torch.zeros_like(entries[0])  # gradient of the state, from the tokens after the block
        for index, now in reversed(list(enumerate(blocks.spans))):
            decay, states = blocks.run(now, entries[index])
            grad_c[now] = (grad_y[now].unsqueeze(-2) @ states).squeeze(-2)
            grad_states = grad_y[now].unsqueeze(-1) * c[now].unsqueeze(-2)
            for t in reversed(range(len(states))):
                grad_states[t] += carried
                carried = decay[t] * grad_states[t]
            grad_drive[now] = (grad_states @ b[now].unsqueeze(-1)).squeeze(-1)
            grad_b[now] = (drive[now].unsqueeze(-2) @ grad_states).squeeze(-2)
            # d exp(delta a) = exp(delta a) d(delta a), and exp(delta_t a) multiplies the state before token t.
            before = torch.cat([entries[index : index + 1], states[:-1]])
            grad_exponent = grad_states.mul_(before).mul_(decay)
            grad_delta[now] = (grad_exponent * a).sum(-1)
            grad_a += torch.einsum("tbns,tbn->ns", grad_exponent, delta[now])
        return grad_drive, grad_delta, grad_b, grad_c, grad_a


class _Blocks:
    """Runs the recurrence over BLOCK tokens at a time, in two buffers that it reuses."""

    def __init__(self, drive: Tensor, delta: Tensor, b: Tensor, a: Tensor) -> None:
        self.drive, self.delta, self.b, self.a = drive, delta, b, a
        length = drive.shape[0]
        self.spans = [slice(start, min(start + BLOCK, length)) for start in range(0, length, BLOCK)]
        self.count = len(self.spans)
        self.state_shape = (*drive.shape[1:], a.shape[1])
        self.decay, self.states = (drive.new_empty(min(BLOCK, length), *self.state_shape) for _ in range(2))

    def run(self, now: slice, state: Tensor) -> tuple[Tensor, Tensor]:
        """exp(delta A) and the states of the tokens ``now``, (T, B, n, N) each, valid until the next call."""
        count = now.stop - now.start
        decay, states = self.decay[:count], self.states[:count]
        torch.mul(self.delta[now].unsqueeze(-1), self.a, out=decay).exp_()
        torch.mul(self.drive[now].unsqueeze(-1), self.b[now].unsqueeze(-2), out=states)
        for t in range(count):
            state = torch.addcmul(states[t], decay[t], state, out=states[t])
        return decay, states
