"""The operations on a CPU, compiled by Numba. Float32, no gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from hear_axlstm.kernels.compiled import as_rows, kernel, launch, plain, share, silu, tensor

ZERO = np.float32(0.0)


def compiled_conv_silu(x: Tensor, weight: Tensor, bias: Tensor, *, reverse: bool = False) -> Tensor:
    x = as_rows(x)
    out = x.new_empty(x.shape)
    sizes = (*x.shape, x.stride(1), weight.shape[2], reverse)
    launch(_conv_silu, *sizes, x, plain(weight[:, 0].T), plain(bias), out)
    return out


def compiled_mix(x: Tensor, mix: Tensor) -> Tensor:
    """Every four channels by a 4 x 4 matrix of their own. Shape: x (B, L, n), mix (n / 4, 4 out, 4 in) -> (B, L, n)."""
    x = as_rows(x)
    out = x.new_empty(x.shape)
    launch(_mix, *x.shape, x.stride(1), x, plain(mix.mT), out)
    return out


def compiled_conv_mix_gates(
    x: Tensor, weight: Tensor, bias: Tensor, mix: Tensor, gate_c: Tensor, gate_x: Tensor, *, reverse: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    x = as_rows(x)
    c = compiled_conv_silu(x, weight, bias, reverse=reverse)
    gates = x.new_empty(*x.shape[:2], len(gate_c))
    launch(_gates, *x.shape, x.stride(1), len(gate_c), x, c, plain(gate_x), plain(gate_c), gates)
    return c, compiled_mix(x, mix), gates


@kernel
def _conv_silu(p: Any) -> None:
    batch, length, inner, stride, taps, reverse = p[0], p[1], p[2], p[3], p[4], p[5]
    x = tensor(p[6], (batch * length, stride))
    weight = tensor(p[7], (taps, inner))
    bias = tensor(p[8], (inner,))
    out = tensor(p[9], (batch * length, inner))
    first, last = share(batch * length)
    for row in range(first, last):
        t = row % length
        total = out[row]
        for i in range(inner):
            total[i] = bias[i]
        for tap in range(taps):
            back = taps - 1 - tap  # tokens between the one that is read and the present one
            here = weight[tap]
            if reverse and t + back < length:
                token = x[row + back]
                for i in range(inner):
                    total[i] += here[i] * token[i]
            elif not reverse and t >= back:
                token = x[row - back]
                for i in range(inner):
                    total[i] += here[i] * token[i]
        for i in range(inner):
            total[i] = silu(total[i])


@kernel
def _mix(p: Any) -> None:
    batch, length, inner, stride = p[0], p[1], p[2], p[3]
    x = tensor(p[4], (batch * length, stride))
    mix = tensor(p[5], (inner // 4, 4, 4))  # in, out
    out = tensor(p[6], (batch * length, inner))
    first, last = share(batch * length)
    for row in range(first, last):
        token, mixed = x[row], out[row]
        for group in range(inner // 4):
            m = mix[group]
            x0, x1, x2, x3 = token[4 * group], token[4 * group + 1], token[4 * group + 2], token[4 * group + 3]
            for o in range(4):
                mixed[4 * group + o] = m[0, o] * x0 + m[1, o] * x1 + m[2, o] * x2 + m[3, o] * x3


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
