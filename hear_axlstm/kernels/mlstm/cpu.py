"""The mLSTM on a CPU: matrix products by torch, a clip and a block of queries at a time, and the rest in Numba.

Products are made in the dtype of the operands, the rest in float32. No gradients.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hear_axlstm.config import InputGate
from hear_axlstm.kernels.conv.cpu import mix_fours
from hear_axlstm.kernels.cpu_parts import as_rows, exp, kernel, launch, plain, share, silu, tensor
from hear_axlstm.ops.mlstm import EPS, NORM_EPS

QUERY_BLOCK = 64
ZERO, ONE = np.float32(0.0), np.float32(1.0)
EPS_32, NORM_EPS_32 = np.float32(EPS), np.float32(NORM_EPS)


def gated_mlstm(*operands: Tensor, input_gate: InputGate = "exp", reverse: bool = False) -> Tensor:
    """The operation of ``ops.mlstm``, in float32 but for its products."""
    c, v, z, gates, mix, norm_weight, skip = operands
    dtype, k, c, z = c.dtype, c, plain(c), as_rows(z)
    batch, length, inner = c.shape
    heads = gates.shape[2] // 2
    width = inner // heads
    a, row_max, least, row_sum = (c.new_empty(batch, heads, length) for _ in range(4))
    launch(_stabilise, batch, length, heads, input_gate == "sigmoid", reverse, plain(gates), a, row_max, least)
    # Scores are divided by scale = sqrt(K); numerator and normaliser are both multiplied by it instead.
    least *= math.sqrt(width)
    epilogue = plain(norm_weight), plain(skip)
    out = torch.empty_like(c)
    q = mix_fours(c, mix).to(dtype)
    q_heads, k_heads, v_heads = (x.unflatten(-1, (heads, width)).transpose(1, 2) for x in (q, k, v))  # (B, H, L, K)
    for clip in range(batch):
        for start in range(0, length, QUERY_BLOCK):
            stop = min(start + QUERY_BLOCK, length)
            seen = slice(start, length) if reverse else slice(0, stop)
            weights = torch.bmm(q_heads[clip, :, start:stop], k_heads[clip, :, seen].mT).float()
            of_rows = heads, length, start, stop - start, seen.start, seen.stop - seen.start, reverse
            launch(_weigh, *of_rows, a[clip], row_max[clip], weights, row_sum[clip])
            h = torch.bmm(weights.to(dtype), v_heads[clip, :, seen]).float()
            of_heads = heads, length, width, start, stop - start, z.stride(1)
            operands = h, row_sum[clip], least[clip], c[clip], z[clip], *epilogue
            launch(_finish, *of_heads, *operands, out[clip])
    return out.to(dtype)


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


@kernel
def _stabilise(p: Any) -> None:
    """The exponents of ``ops.mlstm.parallel_mlstm``, and their largest in every row."""
    batch, length, heads, sigmoid, reverse = p[0], p[1], p[2], p[3], p[4]
    gates = tensor(p[5], (batch, length, 2 * heads))
    a = tensor(p[6], (batch, heads, length))
    row_max = tensor(p[7], (batch, heads, length))
    least = tensor(p[8], (batch, heads, length))
    first, last = share(batch * heads)
    for index in range(first, last):
        clip, head = index // heads, index % heads
        cumulative_f, largest = 0.0, -np.inf
        for step in range(length):
            t = length - 1 - step if reverse else step
            log_i, f = np.float64(gates[clip, t, head]), np.float64(gates[clip, t, heads + head])
            if sigmoid:
                log_i = min(log_i, 0.0) - np.log1p(np.exp(-abs(log_i)))
            cumulative_f += min(f, 0.0) - np.log1p(np.exp(-abs(f)))
            largest = max(largest, log_i - cumulative_f)
            a[clip, head, t] = log_i - cumulative_f
            row_max[clip, head, t] = largest
            least[clip, head, t] = np.exp(-cumulative_f - largest)


@kernel
def _weigh(p: Any) -> None:
    """Scores times exp(a_s - row_max_t), in place, 0 for the tokens read after t; and the sum of every row."""
    heads, length, start, queries, seen, keys, reverse = p[0], p[1], p[2], p[3], p[4], p[5], p[6]
    a = tensor(p[7], (heads, length))
    row_max = tensor(p[8], (heads, length))
    weights = tensor(p[9], (heads, queries, keys))
    row_sum = tensor(p[10], (heads, length))
    first, last = share(heads * queries)
    for index in range(first, last):
        head, query = index // queries, index % queries
        t = start + query
        begin, end = (t - seen, keys) if reverse else (0, t - seen + 1)
        scores, exponents, largest = weights[head, query, begin:end], a[head, seen + begin : seen + end], row_max[head, t]
        total = ZERO
        for s in range(len(scores)):
            weight = scores[s] * exp(exponents[s] - largest)
            scores[s] = weight
            total += weight
        row_sum[head, t] = total
        before, after = weights[head, query, :begin], weights[head, query, end:]
        for s in range(len(before)):
            before[s] = ZERO
        for s in range(len(after)):
            after[s] = ZERO


@kernel
def _finish(p: Any) -> None:
    """Normaliser, norm of each head, skip and gate."""
    heads, length, width, start, queries, z_stride = p[0], p[1], p[2], p[3], p[4], p[5]
    inner = heads * width
    h = tensor(p[6], (heads, queries, width))
    row_sum = tensor(p[7], (heads, length))
    least = tensor(p[8], (heads, length))
    c = tensor(p[9], (length, inner))
    z = tensor(p[10], (length, z_stride))
    norm_weight = tensor(p[11], (heads, width))
    skip = tensor(p[12], (heads, width))
    out = tensor(p[13], (length, inner))
    scale = np.float32(np.sqrt(width))
    first, last = share(heads * queries)
    for index in range(first, last):
        head, query = index // queries, index % queries
        t = start + query
        row, here = h[head, query], slice(head * width, (head + 1) * width)
        c_row, z_row, out_row, weight, skipped = c[t, here], z[t, here], out[t, here], norm_weight[head], skip[head]
        share_of_sum = ONE / (max(abs(row_sum[head, t]), least[head, t]) + EPS_32 * scale)
        mean, variance = ZERO, ZERO
        for i in range(width):
            mean += row[i]
        mean /= np.float32(width)
        for i in range(width):
            variance += (row[i] - mean) ** 2
        variance *= share_of_sum * share_of_sum / np.float32(width)
        to_norm = share_of_sum / np.float32(np.sqrt(variance + NORM_EPS_32))
        for i in range(width):
            normed = (row[i] - mean) * to_norm
            out_row[i] = (normed * weight[i] + skipped[i] * c_row[i]) * silu(z_row[i])
