"""The convolution and what an mLSTM reads, on a CPU, compiled by Numba. They compute in float32, without gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from hear_axlstm.kernels.cpu_parts import as_rows, kernel, launch, plain, share, silu, tensor

ZERO = np.float32(0.0)


def causal_conv_silu(x: Tensor, weight: Tensor, bias: Tensor, *, reverse: bool = False) -> Tensor:
    dtype, x = x.dtype, as_rows(x)
    out = x.new_empty(x.shape)
    sizes = (*x.shape, x.stride(1), reverse)
    launch(_conv_silu, *sizes, x, plain(weight[:, 0].T), plain(bias), out)
    return out.to(dtype)


def mix_fours(x: Tensor, mix: Tensor) -> Tensor:
    """Every four channels by a 4 x 4 matrix, as ``ops.conv.mix_fours`` does, in float32."""
    x = as_rows(x)
    out = x.new_empty(x.shape)
    launch(_mix, *x.shape, x.stride(1), x, plain(mix.permute(2, 0, 1)), out)
    return out


def conv_mix_gates(
    x: Tensor, weight: Tensor, bias: Tensor, mix: Tensor, gate_c: Tensor, gate_x: Tensor, *, reverse: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    dtype, x = x.dtype, as_rows(x)
    c = causal_conv_silu(x, weight, bias, reverse=reverse)
    gates = x.new_empty(*x.shape[:2], len(gate_c))
    launch(_gates, *x.shape, x.stride(1), len(gate_c), x, c, plain(gate_x), plain(gate_c), gates)
    return c.to(dtype), mix_fours(x, mix).to(dtype), gates


@kernel
def _conv_silu(p: Any) -> None:
    batch, length, inner, stride, reverse = p[0], p[1], p[2], p[3], p[4]
    x = tensor(p[5], (batch * length, stride))
    weight = tensor(p[6], (4, inner))
    bias = tensor(p[7], (inner,))
    out = tensor(p[8], (batch * length, inner))
    nothing = np.zeros(stride, np.float32)
    w0, w1, w2, w3 = weight[0], weight[1], weight[2], weight[3]
    onward = -1 if reverse else 1
    first, last = share(batch * length)
    for row in range(first, last):
        reading = length - 1 - row % length if reverse else row % length
        # The present token and the three that are read before it.
        x3 = x[row]
        x2 = x[row - onward] if reading >= 1 else nothing
        x1 = x[row - 2 * onward] if reading >= 2 else nothing
        x0 = x[row - 3 * onward] if reading >= 3 else nothing
        c = out[row]
        for i in range(inner):
            c[i] = silu(bias[i] + w0[i] * x0[i] + w1[i] * x1[i] + w2[i] * x2[i] + w3[i] * x3[i])


@kernel
def _mix(p: Any) -> None:
    batch, length, inner, stride = p[0], p[1], p[2], p[3]
    x = tensor(p[4], (batch * length, stride))
    mix = tensor(p[5], (4, inner))  # by the input within a group
    out = tensor(p[6], (batch * length, inner))
    m0, m1, m2, m3 = mix[0], mix[1], mix[2], mix[3]
    first, last = share(batch * length)
    for row in range(first, last):
        token, mixed = x[row], out[row]
        for group in range(inner // 4):
            x0, x1, x2, x3 = token[4 * group], token[4 * group + 1], token[4 * group + 2], token[4 * group + 3]
            for o in range(4 * group, 4 * group + 4):
                mixed[o] = m0[o] * x0 + m1[o] * x1 + m2[o] * x2 + m3[o] * x3


@kernel
def _gates(p: Any) -> None:
    batch, length, inner, stride, count = p[0], p[1], p[2], p[3], p[4]
    x = tensor(p[5], (batch * length, stride))
    c = tensor(p[6], (batch * length, inner))
    from_x = tensor(p[7], (count, inner))
    from_c = tensor(p[8], (count, inner))
    gates = tensor(p[9], (batch * length, count))
    first, last = share(batch * length)
    for row in range(first, last):
        x_row, c_row = x[row], c[row]
        for gate in range(count):
            of_x, of_c = from_x[gate], from_c[gate]
            total = ZERO
            for i in range(inner):
                total += of_x[i] * x_row[i] + of_c[i] * c_row[i]
            gates[row, gate] = total
