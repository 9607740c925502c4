"""The gated scan backward on a CPU: blocks of tokens from the last to the first, each once forward and once backward.

README.md beside this derives the gradients. The order of every sum is the same however many threads there are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hear_axlstm.kernels.cpu_parts import (
    LOG2_E,
    ONE,
    ZERO,
    as_rows,
    exp,
    exp2,
    is_half,
    jit,
    kernel,
    launch,
    plain,
    read,
    share,
    silu,
    softplus,
    tensor,
    write,
)
from hear_axlstm.kernels.scan.cpu import BLOCK, LANES, scan_forward

LN_2 = np.float32(0.6931471805599453)


def gated_scan(*operands: Any, reverse: bool = False) -> Tensor:
    """The operation of ``ops.scan``, in float32, differentiable."""
    y: Tensor = _GatedScan.apply(*operands, reverse)
    return y


class _GatedScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        *operands, reverse = arguments
        x, a = operands[0], operands[3]
        entries = a.new_empty(len(x), -(-x.shape[1] // BLOCK), a.shape[1], x.shape[2], dtype=torch.float32)
        y = scan_forward(*operands, entries=entries, reverse=reverse)
        ctx.save_for_backward(*operands, entries)
        ctx.reverse = reverse
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        *operands, entries = ctx.saved_tensors
        return *scan_backward(grad_y, *operands, entries=entries, reverse=ctx.reverse), None


def scan_backward(
    grad_y: Tensor,
    x: Tensor,
    step: Tensor,
    step_bias: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor,
    z: Tensor | None,
    *,
    entries: Tensor,
    reverse: bool,
) -> tuple[Tensor | None, ...]:
    """Gradients of x, step, step_bias, a, b, c, d and z."""
    (batch, length, inner), states = x.shape, a.shape[1]
    tiles = -(-inner // LANES)
    given = [as_rows(operand) for operand in (grad_y, x, step, x if z is None else z)]
    grad_x, grad_step, grad_z = (row.new_empty(x.shape) for row in given[1:])
    grad_bias, grad_d, grad_a = (entries.new_empty(batch, *shape, inner) for shape in ((), (), (states,)))  # of each clip
    grad_b, grad_c = (entries.new_empty(tiles, batch, length, states) for _ in range(2))  # of each tile of channels
    launch(
        _scan,
        *(batch, length, inner, states, z is not None, reverse),
        *(row.stride(1) for row in given),
        *map(is_half, given),
        *(*given, plain(step_bias), plain(a.T), plain(b), plain(c), plain(d), entries),
        *(grad_x, grad_step, grad_z, grad_bias, grad_d, grad_a, grad_b, grad_c),
    )
    per_token = (partial.sum(0).to(operand.dtype) for partial, operand in ((grad_b, b), (grad_c, c)))
    per_channel = grad_bias.sum(0), grad_a.sum(0).T
    return grad_x, grad_step, *per_channel, *per_token, grad_d.sum(0), None if z is None else grad_z


@jit
def _copy(values, into):  # type: ignore[no-untyped-def]
    """As many channels as both have."""
    count = min(values.shape[1], into.shape[1])
    for n in range(len(values)):
        source, target = values[n], into[n]
        for i in range(count):
            target[i] = source[i]


@jit
def _enter(bias, of_token):  # type: ignore[no-untyped-def]
    """What a token brings to every channel: p, delta and drive."""
    x, p, delta, drive = of_token[0], of_token[1], of_token[3], of_token[4]
    for i in range(len(bias)):
        p[i] += bias[i]
        delta[i] = softplus(p[i])
        drive[i] = delta[i] * x[i]


@jit
def _open(z, of_token, gated):  # type: ignore[no-untyped-def]
    """The gradient of what the gate multiplies, from that of the result, which is put apart."""
    grad = of_token[2]
    for i in range(len(z)):
        gated[i] = grad[i]
        grad[i] *= silu(z[i])


@jit
def _forward(b, c, rate, of_token, of_states, y, grad_c):  # type: ignore[no-untyped-def]
    """The states after a token, in place, and how they came about; y, and the gradient of c from these channels."""
    grad, delta, drive = of_token[2], of_token[3], of_token[4]
    state, decay, kept = of_states
    for i in range(LANES):
        y[i] = ZERO
    for n in range(len(b)):
        b_n, c_n, rate_n, state_n, decay_n, kept_n = b[n], c[n], rate[n], state[n], decay[n], kept[n]
        total = ZERO
        for i in range(LANES):
            decay_n[i] = exp2(delta[i] * rate_n[i])
            kept_n[i] = decay_n[i] * state_n[i]
            state_n[i] = kept_n[i] + drive[i] * b_n
            y[i] += state_n[i] * c_n
            total += state_n[i] * grad[i]
        grad_c[n] = total


@jit
def _gate(z, x, d, y, gated):  # type: ignore[no-untyped-def]
    """The gradient of z, in the place of the result's."""
    for i in range(len(z)):
        gate = ONE / (ONE + exp(-z[i]))
        gated[i] *= (y[i] + d[i] * x[i]) * gate * (ONE + z[i] * (ONE - gate))


@jit
def _backward(b, c, rate, of_token, of_states, sums, grad_b):  # type: ignore[no-untyped-def]
    """The gradient of the states before a token, in place; those of drive and delta, of a, and of b from these channels."""
    grad, delta, drive, grad_drive, grad_delta = of_token[2], of_token[3], of_token[4], sums[0], sums[1]
    grad_state, sum_a, decay, kept = of_states
    sums[:] = ZERO
    for n in range(len(b)):
        b_n, c_n, rate_n, grad_n, sum_n, decay_n, kept_n = b[n], c[n], rate[n], grad_state[n], sum_a[n], decay[n], kept[n]
        total = ZERO
        for i in range(LANES):
            of_state = grad_n[i] + grad[i] * c_n
            exponent = of_state * kept_n[i]
            grad_n[i] = of_state * decay_n[i]
            sum_n[i] += exponent * delta[i]
            grad_drive[i] += of_state * b_n
            grad_delta[i] += exponent * rate_n[i]
            total += of_state * drive[i]
        grad_b[n] = total


@jit
def _leave(channels, of_token, sums):  # type: ignore[no-untyped-def]
    """The gradients of x and step, in the place of the sums, and what a token adds to those of step_bias and d."""
    d, grad_bias, grad_d = channels
    x, p, grad, delta = of_token[0], of_token[1], of_token[2], of_token[3]
    of_x, of_step = sums[0], sums[1]
    for i in range(len(d)):
        of_step[i] = (of_step[i] * LN_2 + of_x[i] * x[i]) / (ONE + exp(-p[i]))
        of_x[i] = of_x[i] * delta[i] + grad[i] * d[i]
        grad_bias[i] += of_step[i]
        grad_d[i] += grad[i] * x[i]


@kernel
def _scan(p: Any) -> None:
    """Tiles of channels of a clip, each from its last block of tokens to the first."""
    batch, length, inner, states, gated, reverse = p[0], p[1], p[2], p[3], p[4], p[5]
    tiles, blocks = (inner + LANES - 1) // LANES, (length + BLOCK - 1) // BLOCK
    bias, a, d = tensor(p[18], (inner,)), tensor(p[19], (states, inner)), tensor(p[22], (inner,))
    b, c = tensor(p[20], (batch, length, states)), tensor(p[21], (batch, length, states))
    entries = tensor(p[23], (batch, blocks, states, inner))
    grad_bias, grad_d = tensor(p[27], (batch, inner)), tensor(p[28], (batch, inner))
    grad_a = tensor(p[29], (batch, states, inner))
    grad_b, grad_c = tensor(p[30], (tiles, batch, length, states)), tensor(p[31], (tiles, batch, length, states))

    # Of a tile, with zeros beyond the last channel: rates, states, their gradients, and those of the rates.
    of_tile = np.zeros((4, states, LANES), np.float32)
    rate, state, grad_state, sum_a = of_tile[0], of_tile[1], of_tile[2], of_tile[3]
    # Of the tokens of a block: x, p, the gradient of y, delta, drive; decays, and what they leave of the states.
    of_tokens, of_states = np.zeros((BLOCK, 5, LANES), np.float32), np.zeros((2, BLOCK, states, LANES), np.float32)
    decay, kept = of_states[0], of_states[1]
    rows, sums = np.zeros((3, LANES), np.float32), np.zeros((2, LANES), np.float32)
    first, last = share(batch * tiles)
    for index in range(first, last):
        clip, tile = index // tiles, index % tiles
        start = tile * LANES
        count = min(LANES, inner - start)
        here = slice(start, start + count)
        y, z, of_z = rows[0], rows[1, :count], rows[2, :count]
        channels = d[here], grad_bias[clip, here], grad_d[clip, here]
        channels[1][:] = ZERO
        channels[2][:] = ZERO
        of_tile[:] = ZERO
        of_tokens[:] = ZERO
        _copy(a[:, here] * LOG2_E, rate)
        for back in range(blocks):
            begin = (blocks - 1 - back) * BLOCK
            tokens = min(BLOCK, length - begin)
            _copy(entries[clip, begin // BLOCK, :, here], state)
            for i in range(tokens):
                t = length - 1 - begin - i if reverse else begin + i
                row, token = clip * length + t, of_tokens[i]
                read(p[14], p[10], row * p[6] + start, token[2, :count])
                read(p[15], p[11], row * p[7] + start, token[0, :count])
                read(p[16], p[12], row * p[8] + start, token[1, :count])
                _enter(bias[here], token)
                if gated:
                    read(p[17], p[13], row * p[9] + start, z)
                    _open(z, token, of_z)
                _forward(b[clip, t], c[clip, t], rate, token, (state, decay[i], kept[i]), y, grad_c[tile, clip, t])
                if gated:
                    _gate(z, token[0], d[here], y, of_z)
                    write(p[26], p[13], row * inner + start, of_z)
            for i in range(tokens - 1, -1, -1):
                t = length - 1 - begin - i if reverse else begin + i
                row, carried = clip * length + t, (grad_state, sum_a, decay[i], kept[i])
                _backward(b[clip, t], c[clip, t], rate, of_tokens[i], carried, sums, grad_b[tile, clip, t])
                _leave(channels, of_tokens[i], sums)
                write(p[24], p[11], row * inner + start, sums[0, :count])
                write(p[25], p[12], row * inner + start, sums[1, :count])
        _copy(sum_a, grad_a[clip, :, here])
