"""The mLSTM on a CPU: matrix products by torch, a clip and a block of queries at a time, and the rest in Numba.

Products are made in the dtype of the operands, float32 or bfloat16, the rest in float32. No gradients.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hear_axlstm.config import InputGate
from hear_axlstm.kernels.conv.cpu import mix_fours
from hear_axlstm.kernels.cpu_parts import (
    ONE,
    ZERO,
    as_rows,
    exp,
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
from hear_axlstm.ops.mlstm import EPS, NORM_EPS

# Queries whose weights are held at once, which see no keys after the last of them. Small blocks waste few products, large
# ones spare calls, which count beside products in bfloat16.
QUERY_BLOCK = {torch.float32: 64, torch.bfloat16: 128}
EPS_32, NORM_EPS_32 = np.float32(EPS), np.float32(NORM_EPS)
GREATEST_EXPONENT = 80.0  # of a normaliser, whose gradient would be infinite times zero beyond float32


def gated_mlstm(*operands: Tensor, input_gate: InputGate = "exp", reverse: bool = False) -> Tensor:
    """The operation of ``ops.mlstm``, in float32 but for its products."""
    c, v, z, gates, mix, norm_weight, skip = operands
    c, z, gates, half = c.contiguous(), as_rows(z.to(c.dtype)), plain(gates), is_half(c)
    batch, length, inner = c.shape
    heads = gates.shape[2] // 2
    width = inner // heads
    a, row_max, least, row_sum = gates.new_empty(4, batch, heads, length)
    launch(stabilise, batch, length, heads, width, input_gate == "sigmoid", reverse, gates, a, row_max, least)
    q, k, v = (x.unflatten(-1, (heads, width)).transpose(1, 2) for x in (mix_fours(c, mix), c, v))  # (B, H, L, K)
    h, block = torch.empty_like(c), QUERY_BLOCK[c.dtype]  # of each block of queries: (H, queries, K)
    for clip, of_clip in enumerate(zip(q, k.mT, v, h.flatten(1), strict=True)):
        for start in range(0, length, block):
            stop = min(start + block, length)
            begin, end = (start, length) if reverse else (0, stop)
            weights = torch.bmm(of_clip[0][:, start:stop], of_clip[1][..., begin:end])
            of_rows = clip, heads, length, start, stop - start, begin, end - begin, reverse, half
            launch(_weigh, *of_rows, a, row_max, weights, row_sum)
            of_block = of_clip[3][start * inner : stop * inner].view(heads, stop - start, width)
            torch.bmm(weights, of_clip[2][:, begin:end], out=of_block)
    out = torch.empty_like(c)
    sizes = batch, heads, length, width, block, z.stride(1), half
    launch(_finish, *sizes, h, row_sum, least, c, z, plain(norm_weight), plain(skip), out)
    return out


def fold(q: Tensor, k: Tensor, v: Tensor, gates: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The operation of ``ops.mlstm``: products of 4 x 4, which are too small for a matrix library."""
    count, inner = len(gates), 4 * len(q)
    mix, gate_c, gate_x = gates.new_empty(len(q), 4, 4), gates.new_empty(count, inner), gates.new_empty(count, inner)
    launch(_fold, len(q), count, plain(q), plain(k), plain(v), plain(gates), mix, gate_c, gate_x)
    return mix, gate_c, gate_x


@kernel
def _fold(p: Any) -> None:
    groups, count = p[0], p[1]
    q, k, v = tensor(p[2], (groups, 4, 4)), tensor(p[3], (groups, 4, 4)), tensor(p[4], (groups, 4, 4))
    gates = tensor(p[5], (count, 3, groups, 4))
    mix = tensor(p[6], (groups, 4, 4))
    gate_c, gate_x = tensor(p[7], (count, groups, 4)), tensor(p[8], (count, groups, 4))
    first, last = share(groups)
    for group in range(first, last):
        q_g, k_g, v_g = q[group], k[group], v[group]
        for i in range(4):
            for j in range(4):
                total = ZERO
                for o in range(4):
                    total += k_g[o, i] * q_g[o, j]
                mix[group, i, j] = total
        for gate in range(count):
            of_q, of_k, of_v = gates[gate, 0, group], gates[gate, 1, group], gates[gate, 2, group]
            for i in range(4):
                from_q, from_k, from_v = ZERO, ZERO, ZERO
                for o in range(4):
                    from_q += of_q[o] * q_g[o, i]
                    from_k += of_k[o] * k_g[o, i]
                    from_v += of_v[o] * v_g[o, i]
                gate_c[gate, group, i] = from_q + from_k
                gate_x[gate, group, i] = from_v


@jit
def log_sigmoid(x):  # type: ignore[no-untyped-def]
    return min(x, 0.0) - np.log1p(np.exp(-abs(x)))


@kernel
def stabilise(p: Any) -> None:
    """The exponents of ``ops.mlstm.parallel_mlstm``, their largest in every row, and the least normaliser.

    Scores are divided by scale = sqrt(K); numerator and normaliser are both multiplied by it instead.
    """
    batch, length, heads, width, sigmoid, reverse = p[0], p[1], p[2], p[3], p[4], p[5]
    gates = tensor(p[6], (batch, length, 2 * heads))
    a = tensor(p[7], (batch, heads, length))
    row_max = tensor(p[8], (batch, heads, length))
    least = tensor(p[9], (batch, heads, length))
    first, last = share(batch * heads)
    for index in range(first, last):
        clip, head = index // heads, index % heads
        cumulative_f, largest = 0.0, -np.inf
        for step in range(length):
            t = length - 1 - step if reverse else step
            log_i = np.float64(gates[clip, t, head])
            if sigmoid:
                log_i = log_sigmoid(log_i)
            cumulative_f += log_sigmoid(np.float64(gates[clip, t, heads + head]))
            largest = max(largest, log_i - cumulative_f)
            a[clip, head, t] = log_i - cumulative_f
            row_max[clip, head, t] = largest
            least[clip, head, t] = np.exp(min(-cumulative_f - largest, GREATEST_EXPONENT)) * np.sqrt(width)


@kernel
def _weigh(p: Any) -> None:
    """Scores times exp(a_s - row_max_t), in place, 0 for the tokens read after t; and the sum of every row."""
    clip, heads, length, start, queries, seen, keys, reverse, half = p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8]
    a = tensor(p[9], (clip + 1, heads, length))[clip]
    row_max = tensor(p[10], (clip + 1, heads, length))[clip]
    weights = p[11]
    row_sum = tensor(p[12], (clip + 1, heads, length))[clip]
    row = np.empty(keys, np.float32)
    first, last = share(heads * queries)
    for index in range(first, last):
        head, t = index // queries, start + index % queries
        begin, end = (t - seen, keys) if reverse else (0, t - seen + 1)
        read(weights, half, index * keys, row)
        row[:begin] = ZERO
        row[end:] = ZERO
        scores, exponents, largest = row[begin:end], a[head, seen + begin : seen + end], row_max[head, t]
        total = ZERO
        for s in range(len(scores)):
            weight = scores[s] * exp(exponents[s] - largest)
            scores[s] = weight
            total += weight
        row_sum[head, t] = total
        write(weights, half, index * keys, row)


@jit(inline="always")
def finish(row, share_of_sum, weight, skip, c, z):  # type: ignore[no-untyped-def]
    """Normaliser, norm, skip and gate of a head's channels, in place."""
    width = len(row)
    mean, variance = ZERO, ZERO
    for i in range(width):
        mean += row[i]
    mean /= np.float32(width)
    for i in range(width):
        variance += (row[i] - mean) ** 2
    variance *= share_of_sum * share_of_sum / np.float32(width)
    to_norm = share_of_sum / np.float32(np.sqrt(variance + NORM_EPS_32))
    for i in range(width):
        row[i] = ((row[i] - mean) * to_norm * weight[i] + skip[i] * c[i]) * silu(z[i])


@kernel
def _finish(p: Any) -> None:
    """Normaliser, norm of each head, skip and gate."""
    batch, heads, length, width, block, z_stride, half = p[0], p[1], p[2], p[3], p[4], p[5], p[6]
    h, c, z, out = p[7], p[10], p[11], p[14]
    row_sum = tensor(p[8], (batch, heads, length))
    least = tensor(p[9], (batch, heads, length))
    norm_weight = tensor(p[12], (heads, width))
    skip = tensor(p[13], (heads, width))
    scale = np.float32(np.sqrt(width))
    row, c_row, z_row = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
    first, last = share(batch * length * heads)
    for index in range(first, last):
        token, head = index // heads, index % heads
        clip, t = token // length, token % length
        start = t // block * block
        place = (clip * length + start) * heads + head * min(block, length - start) + t - start  # its row of h
        read(h, half, place * width, row)
        read(c, half, index * width, c_row)
        read(z, half, token * z_stride + head * width, z_row)
        weight, skipped = norm_weight[head], skip[head]
        share_of_sum = ONE / (max(abs(row_sum[clip, head, t]), least[clip, head, t]) + EPS_32 * scale)
        finish(row, share_of_sum, weight, skipped, c_row, z_row)
        write(out, half, index * width, row)
