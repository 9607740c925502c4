"""The selective scan in plain torch with gradients by hand: one state in BLOCK is kept for backward, not all.

Autograd through ``ops.scan.selective_scan`` keeps every state, N times as large as x.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 16  # tokens whose decays are computed together


class SavingScan(torch.autograd.Function):
    """y_t = C_t . state_t, state_t = exp(delta_t A) state_{t-1} + drive_t B_t, tokens first.

    Shape: drive and delta (L, B, n), b and c (L, B, N), a (n, N) -> (L, B, n).
    """

    @staticmethod
    def forward(ctx: Any, drive: Tensor, delta: Tensor, b: Tensor, c: Tensor, a: Tensor) -> Tensor:
        blocks = range(0, len(drive), BLOCK)
        y = torch.empty_like(drive, memory_format=torch.contiguous_format)
        entries = drive.new_zeros(len(blocks) + 1, *drive.shape[1:], a.shape[1])  # the state before each block
        for index, start in enumerate(blocks):
            now = slice(start, start + BLOCK)
            _, states = states_of(drive[now], delta[now], b[now], a, entries[index])
            y[now] = (states @ c[now].unsqueeze(-1)).squeeze(-1)
            entries[index + 1] = states[-1]
        ctx.save_for_backward(drive, delta, b, c, a, entries)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, ...]:
        drive, delta, b, c, a, entries = ctx.saved_tensors
        grad_drive, grad_delta, grad_b, grad_c = (torch.empty_like(x) for x in (drive, delta, b, c))
        grad_a = torch.zeros_like(a)
        carried = torch.zeros_like(entries[0])  # gradient of the state, from the tokens after the block
        for index in reversed(range(len(entries) - 1)):
            now = slice(index * BLOCK, (index + 1) * BLOCK)
            decay, states = states_of(drive[now], delta[now], b[now], a, entries[index])
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


def states_of(drive: Tensor, delta: Tensor, b: Tensor, a: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """exp(delta A) and the states of a block of T tokens that follow ``state``, (T, B, n, N) each."""
    decay = (delta.unsqueeze(-1) * a).exp_()
    states = drive.unsqueeze(-1) * b.unsqueeze(-2)
    for t in range(len(states)):
        state = torch.addcmul(states[t], decay[t], state, out=states[t])
    return decay, states


def obstacle(operation: str, operands: Sequence[Tensor]) -> str | None:
    """Why this cannot run: never, it runs wherever torch does."""
    return None


def find(operation: str) -> Callable[..., Any] | None:
    """The scan, or None for the operations whose gradients autograd computes as well."""
    return selective_scan if operation == "selective_scan" else None


def selective_scan(drive: Tensor, delta: Tensor, b: Tensor, c: Tensor, a: Tensor) -> Tensor:
    """The operation of ``ops.scan``, with or without gradients."""
    y: Tensor = SavingScan.apply(drive, delta, b, c, a)
    return y
