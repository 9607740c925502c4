"""The convolution and what an mLSTM reads, on a CPU, compiled by Numba. They compute in float32, on float32 or bfloat16."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hear_axlstm.kernels.cpu_parts import (
    ZERO,
    as_rows,
    is_half,
    jit,
    kernel,
    launch,
    plain,
    read,
    share,
    silu,
    tensor,
    write,
)
from hear_axlstm.kernels.cpu_source import intrinsic, ir, types

LANES = 16  # channels that are mixed at once


def causal_conv_silu(x: Tensor, weight: Tensor, bias: Tensor, *, reverse: bool = False) -> Tensor:
    """The operation of ``ops.conv``."""
    x = as_rows(x)
    out = x.new_empty(x.shape)
    launch(_conv_silu, *x.shape, x.stride(1), reverse, is_half(x), x, plain(weight[:, 0].T), plain(bias), out)
    return out


def mix_fours(x: Tensor, mix: Tensor) -> Tensor:
    """Every four channels by a 4 x 4 matrix, as ``ops.conv.mix_fours`` does."""
    x = as_rows(x)
    out = x.new_empty(x.shape)
    launch(_mix, *x.shape, x.stride(1), is_half(x), x, plain(mix.permute(2, 0, 1)), out)
    return out


def conv_mix_gates(
    x: Tensor, weight: Tensor, bias: Tensor, mix: Tensor, gate_c: Tensor, gate_x: Tensor, *, reverse: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """The operation of ``ops.conv``."""
    x = as_rows(x)
    c, v, gates = x.new_empty(x.shape), x.new_empty(x.shape), bias.new_empty(*x.shape[:2], len(gate_c), dtype=torch.float32)
    sizes = (*x.shape, x.stride(1), reverse, is_half(x), len(gate_c))
    parameters = plain(weight[:, 0].T), plain(bias), plain(mix.permute(2, 0, 1)), plain(gate_c), plain(gate_x)
    launch(_conv_mix_gates, *sizes, x, *parameters, c, v, gates)
    return c, v, gates


@jit(inline="always")
def recent(index, first, length, reverse, window, x, half, stride):  # type: ignore[no-untyped-def]
    """Read a token into ``window``, whose four rows take turns; where a clip or a share begins the three before it, too.

    Returns the token's row of ``x``.
    """
    reading, clip = index % length, index // length
    begins = index == first or reading == 0
    for back in range(3 if begins else 0, -1, -1):
        slot = window[(index - back) & 3]
        if back > reading:
            slot[:] = ZERO
        else:
            token = length - 1 - (reading - back) if reverse else reading - back
            read(x, half, (clip * length + token) * stride, slot)
    return clip * length + (length - 1 - reading if reverse else reading)


@jit(inline="always")
def convolve(window, index, weight, bias, out):  # type: ignore[no-untyped-def]
    """SiLU of the convolution that ends with token ``index``."""
    x0, x1, x2, x3 = window[(index - 3) & 3], window[(index - 2) & 3], window[(index - 1) & 3], window[index & 3]
    w0, w1, w2, w3 = weight[0], weight[1], weight[2], weight[3]
    for i in range(len(out)):
        out[i] = silu(bias[i] + w0[i] * x0[i] + w1[i] * x1[i] + w2[i] * x2[i] + w3[i] * x3[i])


@intrinsic
def mix_lanes(typing_context: Any, x: Any, mix: Any, stride: Any, out: Any) -> Any:
    """``mix_row`` of LANES channels, at addresses; a row of ``mix`` begins every ``stride`` bytes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, mix, stride, out = arguments
        lanes, places = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(ir.IntType(32), LANES)

        def load(address: Any) -> Any:
            return builder.load(builder.inttoptr(address, lanes.as_pointer()), align=4)

        given, total = load(x), None
        for i in range(4):
            chosen = ir.Constant(places, [lane // 4 * 4 + i for lane in range(LANES)])
            every = builder.shuffle_vector(given, ir.Constant(lanes, ir.Undefined), chosen)
            term = builder.fmul(every, load(mix), flags=("fast",))
            total = term if total is None else builder.fadd(total, term, flags=("fast",))
            mix = builder.add(mix, stride)
        builder.store(total, builder.inttoptr(out, lanes.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), generate


@jit(inline="always")
def mix_row(x, mix, out):  # type: ignore[no-untyped-def]
    """Every four numbers by a matrix. ``mix`` (4, n): the factors of the first to fourth of the four, for each result."""
    whole = len(x) // LANES * LANES
    for start in range(0, whole, LANES):
        mix_lanes(x[start:].ctypes.data, mix[0, start:].ctypes.data, 4 * mix.shape[1], out[start:].ctypes.data)
    for o in range(whole, len(x)):
        four = o // 4 * 4
        out[o] = mix[0, o] * x[four] + mix[1, o] * x[four + 1] + mix[2, o] * x[four + 2] + mix[3, o] * x[four + 3]


@kernel
def _conv_silu(p: Any) -> None:
    batch, length, inner, stride, reverse, half, x, out = p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[9]
    weight = tensor(p[7], (4, inner))
    bias = tensor(p[8], (inner,))
    window, c = np.empty((4, inner), np.float32), np.empty(inner, np.float32)
    first, last = share(batch * length)
    for index in range(first, last):
        row = recent(index, first, length, reverse, window, x, half, stride)
        convolve(window, index, weight, bias, c)
        write(out, half, row * inner, c)


@kernel
def _mix(p: Any) -> None:
    batch, length, inner, stride, half, x, out = p[0], p[1], p[2], p[3], p[4], p[5], p[7]
    mix = tensor(p[6], (4, inner))
    token, mixed = np.empty(inner, np.float32), np.empty(inner, np.float32)
    first, last = share(batch * length)
    for row in range(first, last):
        read(x, half, row * stride, token)
        mix_row(token, mix, mixed)
        write(out, half, row * inner, mixed)


@kernel
def _conv_mix_gates(p: Any) -> None:
    batch, length, inner, stride, reverse, half, count = p[0], p[1], p[2], p[3], p[4], p[5], p[6]
    x, c_out, v_out = p[7], p[13], p[14]
    weight = tensor(p[8], (4, inner))
    bias = tensor(p[9], (inner,))
    mix = tensor(p[10], (4, inner))
    from_c = tensor(p[11], (count, inner))
    from_x = tensor(p[12], (count, inner))
    gates = tensor(p[15], (batch * length, count))
    window = np.empty((4, inner), np.float32)
    c, v = np.empty(inner, np.float32), np.empty(inner, np.float32)
    first, last = share(batch * length)
    for index in range(first, last):
        row = recent(index, first, length, reverse, window, x, half, stride)
        convolve(window, index, weight, bias, c)
        token = window[index & 3]
        mix_row(token, mix, v)
        write(c_out, half, row * inner, c)
        write(v_out, half, row * inner, v)
        for gate in range(count):
            of_x, of_c = from_x[gate], from_c[gate]
            total = ZERO
            for i in range(inner):
                total += of_x[i] * token[i] + of_c[i] * c[i]
            gates[row, gate] = total
