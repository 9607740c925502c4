"""The gradients of cpu.py. One pass over the tokens, from the last that was read to the first.

A thread adds up the parameters' gradients over its tokens, and keeps those of SiLU's arguments of the last four.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hear_axlstm.kernels.conv import cpu
from hear_axlstm.kernels.cpu_parts import (
    ONE,
    ZERO,
    as_rows,
    is_half,
    jit,
    kernel,
    launch,
    plain,
    share,
    tensor,
    thread_number,
)
from hear_axlstm.kernels.cpu_rows import (
    HALF,
    SINGLE,
    add_outer,
    gradients_in_torch,
    mix_of,
    mix_row,
    narrow,
    planes_of,
    sigmoid,
    view,
    wide,
    zeros_per_thread,
)
from hear_axlstm.ops import conv as ops


def causal_conv_silu(x: Tensor, weight: Tensor, bias: Tensor, *, reverse: bool = False) -> Tensor:
    c: Tensor = _ConvSilu.apply(x, weight, bias, reverse)
    return c


def conv_mix_gates(*operands: Tensor, reverse: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    results: tuple[Tensor, Tensor, Tensor] = _ConvMixGates.apply(*operands, reverse)
    return results


class _ConvSilu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, reverse: bool) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        ctx.reverse = reverse
        return cpu.causal_conv_silu(x, weight, bias, reverse=reverse)

    @staticmethod
    def backward(ctx: Any, grad_c: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = operands = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody wants gradients of gradients
            plain_torch = partial(ops.causal_conv_silu, reverse=ctx.reverse, backend="torch")
            return *gradients_in_torch(plain_torch, operands, [grad_c]), None
        nothing = weight.new_empty(0)
        none = nothing.view(0, 4, 4), nothing.view(0, len(bias)), nothing.view(0, len(bias))
        return *_gradients(grad_c, nothing, nothing, x, weight, bias, *none, reverse=ctx.reverse)[:3], None


class _ConvMixGates(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        *operands, ctx.reverse = arguments
        ctx.save_for_backward(*operands)
        return cpu.conv_mix_gates(*operands, reverse=ctx.reverse)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            plain_torch = partial(ops.conv_mix_gates, reverse=ctx.reverse, backend="torch")
            return *gradients_in_torch(plain_torch, ctx.saved_tensors, grads), None
        return *_gradients(*grads, *ctx.saved_tensors, reverse=ctx.reverse), None


def _gradients(
    grad_c: Tensor,
    grad_v: Tensor,
    grad_gates: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    mix: Tensor,
    gate_c: Tensor,
    gate_x: Tensor,
    *,
    reverse: bool,
) -> tuple[Tensor, ...]:
    """The gradients of the six operands. Without gates there is no v either: ``mix`` and what belongs to it are empty."""
    x, inner, count = as_rows(x), x.shape[2], len(gate_c)
    grad_x = x.new_empty(x.shape)
    of_conv, of_mix, of_gates = (zeros_per_thread(*shape) for shape in ((5, inner), (16, len(mix)), (2 * count, inner)))
    sizes = (is_half(x), *x.shape, x.stride(1), count, reverse)
    grads = x, grad_c.contiguous(), grad_v.contiguous(), plain(grad_gates)
    parameters = plain(weight[:, 0].T), plain(bias), planes_of(mix.mT), plain(torch.cat([gate_c, gate_x]))
    launch(_conv_backward, *sizes, *grads, *parameters, grad_x, of_conv, of_mix, of_gates)
    of_conv, of_gates = of_conv.sum(0), of_gates.sum(0)
    of_weight, of_bias = of_conv[:4].T.unsqueeze(1), of_conv[4]
    return grad_x, of_weight, of_bias, mix_of(of_mix.sum(0)), of_gates[:count], of_gates[count:]


@jit
def _through_silu(bias, weight, x0, x1, x2, x3, grad_c, grad, c):  # type: ignore[no-untyped-def]
    """To ``grad``, which has the gates' part, add that of c, and take it through SiLU; c once more."""
    w0, w1, w2, w3 = weight[0], weight[1], weight[2], weight[3]
    for i in range(len(bias)):
        total = bias[i] + w0[i] * wide(x0[i]) + w1[i] * wide(x1[i]) + w2[i] * wide(x2[i]) + w3[i] * wide(x3[i])
        gate = sigmoid(total)
        c[i] = total * gate
        grad[i] = (grad[i] + wide(grad_c[i])) * gate * (ONE + total * (ONE - gate))


@jit
def _add_conv(grad, x0, x1, x2, x3, sums):  # type: ignore[no-untyped-def]
    s0, s1, s2, s3, s4 = sums[0], sums[1], sums[2], sums[3], sums[4]
    for i in range(len(grad)):
        s0[i] += grad[i] * wide(x0[i])
        s1[i] += grad[i] * wide(x1[i])
        s2[i] += grad[i] * wide(x2[i])
        s3[i] += grad[i] * wide(x3[i])
        s4[i] += grad[i]


@jit
def _add_gates(grad_gates, c, x, sums):  # type: ignore[no-untyped-def]
    count = len(grad_gates)
    for gate in range(count):
        of_c, of_x, grad = sums[gate], sums[count + gate], grad_gates[gate]
        for i in range(len(c)):
            of_c[i] += grad * c[i]
            of_x[i] += grad * wide(x[i])


@jit
def _from_gates(grad_gates, weights, out):  # type: ignore[no-untyped-def]
    """Add the gates' gradients times their weights."""
    for gate in range(len(grad_gates)):
        weight, grad = weights[gate], grad_gates[gate]
        for i in range(len(out)):
            out[i] += grad * weight[i]


@jit
def _through_conv(weight, g0, g1, g2, g3, others, out):  # type: ignore[no-untyped-def]
    """The gradient of x from those of four arguments of SiLU, its own and those of the tokens read next, and ``others``."""
    w0, w1, w2, w3 = weight[0], weight[1], weight[2], weight[3]
    for i in range(len(others)):
        out[i] = narrow(others[i] + w3[i] * g0[i] + w2[i] * g1[i] + w1[i] * g2[i] + w0[i] * g3[i], out)


@jit
def _of_tokens(entry, p):  # type: ignore[no-untyped-def]
    batch, length, inner, stride, count, reverse = p[1], p[2], p[3], p[4], p[5], p[6]
    groups = inner // 4 if count > 0 else 0
    x = view(entry, p[7], (batch * length, stride))
    grad_c, grad_v = view(entry, p[8], (batch * length, inner)), view(entry, p[9], (batch * length, inner))
    grad_gates = tensor(p[10], (batch * length, count))
    weight, bias = tensor(p[11], (4, inner)), tensor(p[12], (inner,))
    mix = tensor(p[13], (16, groups))
    gates = tensor(p[14], (2 * count, inner))
    grad_x = view(entry, p[15], (batch * length, inner))
    me = np.int64(thread_number())
    of_conv = tensor(p[16] + me * 5 * inner * 4, (5, inner))
    of_mix = tensor(p[17] + me * 16 * groups * 4, (16, groups))
    of_gates = tensor(p[18] + me * 2 * count * inner * 4, (2 * count, inner))
    grad, c, others = np.zeros((4, inner), np.float32), np.empty(inner, np.float32), np.zeros(inner, np.float32)
    nothing, no_grad = np.zeros(stride, x.dtype), np.zeros(inner, np.float32)
    onward = -1 if reverse else 1
    first, last = share(batch * length)
    begin = min(last + 2, batch * length - 1)  # the next thread's first three come before one's own
    for index in range(begin, first - 1, -1):
        if index >= last and index // length != (last - 1) // length:
            continue
        reading = index % length
        row = index - reading + (length - 1 - reading if reverse else reading)
        x3 = x[row]
        x2 = x[row - onward] if reading >= 1 else nothing
        x1 = x[row - 2 * onward] if reading >= 2 else nothing
        x0 = x[row - 3 * onward] if reading >= 3 else nothing
        own = grad[index % 4]
        own[:] = ZERO
        _from_gates(grad_gates[row], gates, own)
        _through_silu(bias, weight, x0, x1, x2, x3, grad_c[row], own, c)
        if index >= last:
            continue
        _add_conv(own, x0, x1, x2, x3, of_conv)
        if count > 0:
            _add_gates(grad_gates[row], c, x3, of_gates)
            add_outer(grad_v[row], x3, of_mix)
            mix_row(grad_v[row], mix, others)
            _from_gates(grad_gates[row], gates[count:], others)
        next1 = grad[(index + 1) % 4] if reading + 1 < length else no_grad
        next2 = grad[(index + 2) % 4] if reading + 2 < length else no_grad
        next3 = grad[(index + 3) % 4] if reading + 3 < length else no_grad
        _through_conv(weight, own, next1, next2, next3, others, grad_x[row])


@kernel
def _conv_backward(p: Any) -> None:
    if p[0]:
        _of_tokens(HALF, p)
    else:
        _of_tokens(SINGLE, p)
