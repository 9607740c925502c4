"""What cpu_training.py does between its products, compiled by Numba; README.md derives it.

Tensors are given for some clips: per token (B, L, n), per head (B H, L) or (B H, L, K), and per block (B H, block, ..).
Scores are not divided by sqrt(K): numerator and normaliser are both sqrt(K) times as large instead.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hear_axlstm.kernels.cpu_parts import ONE, ZERO, exp, jit, kernel, share, silu, tensor, thread_number
from hear_axlstm.kernels.cpu_rows import HALF, SINGLE, add_outer, mix_row, narrow, sigmoid, view, wide
from hear_axlstm.kernels.mlstm.cpu import EPS_32, NORM_EPS_32


@kernel
def gates_backward(p: Any) -> None:
    """From the gradients of exponents, of their maxima and of exp(-m) to those of the gates, the last token first."""
    batch, length, heads, is_sigmoid, reverse = p[1], p[2], p[3], p[5], p[6]
    gates = tensor(p[7], (batch, length, 2 * heads))
    a, row_max = tensor(p[8], (batch * heads, length)), tensor(p[9], (batch * heads, length))
    d_a, d_max = tensor(p[10], (batch * heads, length)), tensor(p[11], (batch * heads, length))
    level = tensor(p[12], (batch * heads, length))
    d_gates = tensor(p[13], (batch, length, 2 * heads))
    first, last = share(batch * heads)
    for index in range(first, last):
        clip, head = index // heads, index % heads
        of_max, of_f = 0.0, 0.0
        for step in range(length):
            t = step if reverse else length - 1 - step
            # The token that is the largest so far has the gradients of the maximum from there to the next one that is.
            of_max += d_max[index, t] + level[index, t]
            of_a = np.float64(d_a[index, t])
            if a[index, t] >= row_max[index, t]:
                of_a += of_max
                of_max = 0.0
            of_f += level[index, t] - of_a
            log_i, log_f = np.float64(gates[clip, t, head]), np.float64(gates[clip, t, heads + head])
            if is_sigmoid:
                of_a /= 1.0 + np.exp(log_i)
            d_gates[clip, t, head] = of_a
            d_gates[clip, t, heads + head] = of_f / (1.0 + np.exp(log_f))


@jit
def _by_heads(entry, p):  # type: ignore[no-untyped-def]
    batch, length, heads, width = p[1], p[2], p[3], p[4]
    inner = heads * width
    c, v = view(entry, p[5], (batch * length, inner)), view(entry, p[6], (batch * length, inner))
    planes = tensor(p[7], (16, inner // 4))
    q, k = view(entry, p[8], (batch * heads, length, width)), view(entry, p[9], (batch * heads, length, width))
    values = view(entry, p[10], (batch * heads, length, width))
    mixed = np.empty(inner, np.float32)
    first, last = share(batch * length)
    for row in range(first, last):
        clip, t = row // length, row % length
        mix_row(c[row], planes, mixed)
        for head in range(heads):
            of_q, of_k, of_v = q[clip * heads + head, t], k[clip * heads + head, t], values[clip * heads + head, t]
            start = head * width
            here, c_row, v_row = mixed[start : start + width], c[row, start : start + width], v[row, start : start + width]
            for i in range(width):
                of_q[i] = narrow(here[i], of_q)
                of_k[i] = c_row[i]
                of_v[i] = v_row[i]


@jit
def _weigh_row(scores, exponents, largest):  # type: ignore[no-untyped-def]
    """Scores times their decay, in place; the sum."""
    total = ZERO
    for s in range(len(scores)):
        weight = wide(scores[s]) * exp(exponents[s] - largest)
        scores[s] = narrow(weight, scores)
        total += weight
    return total


@jit
def _weigh(entry, p):  # type: ignore[no-untyped-def]
    batch, length, heads, start, stop, seen, end, reverse = p[1], p[2], p[3], p[5], p[6], p[7], p[8], p[9]
    a, row_max = tensor(p[10], (batch * heads, length)), tensor(p[11], (batch * heads, length))
    scores = view(entry, p[12], (batch * heads, stop - start, end - seen))
    row_sum = tensor(p[13], (batch * heads, length))
    first, last = share(batch * heads * (stop - start))
    for index in range(first, last):
        head, query = index // (stop - start), index % (stop - start)
        t = start + query
        begin, past = (t, end) if reverse else (seen, t + 1)
        row = scores[head, query]
        row_sum[head, t] = _weigh_row(row[begin - seen : past - seen], a[head, begin:past], row_max[head, t])
        row[: begin - seen] = 0
        row[past - seen :] = 0


@jit
def _finish_row(h, share_of_sum, c, z, weight, skip, normed, y):  # type: ignore[no-untyped-def]
    """The norm of a head, skip and gate; 1 / the norm's deviation."""
    width = np.float32(len(h))
    mean, variance = ZERO, ZERO
    for i in range(len(h)):
        mean += wide(h[i])
    mean /= width
    for i in range(len(h)):
        variance += (wide(h[i]) - mean) ** 2
    rstd = ONE / np.sqrt(variance * share_of_sum * share_of_sum / width + NORM_EPS_32)
    scale = share_of_sum * rstd
    for i in range(len(h)):
        x = (wide(h[i]) - mean) * scale
        normed[i] = narrow(x, normed)
        y[i] = narrow((x * weight[i] + skip[i] * wide(c[i])) * silu(wide(z[i])), y)
    return rstd


@jit
def _finish(entry, p):  # type: ignore[no-untyped-def]
    batch, length, heads, width, start, stop, z_stride = p[1], p[2], p[3], p[4], p[5], p[6], p[9]
    inner = heads * width
    h = view(entry, p[10], (batch * heads, stop - start, width))
    weight, skip = tensor(p[11], (inner,)), tensor(p[12], (inner,))
    c, z = view(entry, p[13], (batch * length, inner)), view(entry, p[14], (batch * length, z_stride))
    least, row_sum = tensor(p[15], (batch * heads, length)), tensor(p[16], (batch * heads, length))
    rstd = tensor(p[17], (batch * heads, length))
    normed, y = view(entry, p[18], (batch * length, inner)), view(entry, p[19], (batch * length, inner))
    eps = EPS_32 * np.float32(np.sqrt(width))
    first, last = share(batch * (stop - start))
    for index in range(first, last):
        clip, query = index // (stop - start), index % (stop - start)
        t = start + query
        row = clip * length + t
        for head in range(heads):
            pair, here = clip * heads + head, slice(head * width, (head + 1) * width)
            share_of_sum = ONE / (max(abs(row_sum[pair, t]), least[pair, t]) + eps)
            of_row = c[row, here], z[row, here], weight[here], skip[here], normed[row, here], y[row, here]
            rstd[pair, t] = _finish_row(h[pair, query], share_of_sum, *of_row)


@jit
def _norm_row(dy, c, z, normed, weight, skip, dz, direct, d_normed, d_weight, d_skip):  # type: ignore[no-untyped-def]
    """Through gate, skip and the norm's weight; the means of its output's gradient, and of that times its output."""
    mean, along = ZERO, ZERO
    for i in range(len(weight)):
        gradient, x, c_i, z_i = wide(dy[i]), wide(normed[i]), wide(c[i]), wide(z[i])
        gate = sigmoid(z_i)
        dz[i] = narrow(gradient * (x * weight[i] + skip[i] * c_i) * gate * (ONE + z_i * (ONE - gate)), dz)
        of_sum = gradient * z_i * gate
        direct[i] = of_sum * skip[i]
        d_weight[i] += of_sum * x
        d_skip[i] += of_sum * c_i
        d_normed[i] = of_sum * weight[i]
        mean += d_normed[i]
        along += d_normed[i] * x
    return mean / np.float32(len(weight)), along / np.float32(len(weight))


@jit
def _norm_backward(entry, p):  # type: ignore[no-untyped-def]
    batch, length, heads, width, z_stride = p[1], p[2], p[3], p[4], p[5]
    inner = heads * width
    weight, skip = tensor(p[6], (inner,)), tensor(p[7], (inner,))
    dy, c = view(entry, p[8], (batch * length, inner)), view(entry, p[9], (batch * length, inner))
    z = view(entry, p[10], (batch * length, z_stride))
    least, row_sum = tensor(p[11], (batch * heads, length)), tensor(p[12], (batch * heads, length))
    rstd, normed = tensor(p[13], (batch * heads, length)), view(entry, p[14], (batch * length, inner))
    dz = view(entry, p[15], (batch * length, inner))
    level, shift = tensor(p[16], (batch * heads, length)), tensor(p[17], (batch * heads, length))
    direct, g = tensor(p[18], (batch * length, inner)), view(entry, p[19], (batch * heads, length, width))
    sums = tensor(p[20] + np.int64(thread_number()) * 2 * inner * 4, (2, inner))
    scale = np.float32(np.sqrt(width))
    d_normed = np.empty(width, np.float32)
    first, last = share(batch * length)
    for row in range(first, last):
        clip, t = row // length, row % length
        for head in range(heads):
            pair, here = clip * heads + head, slice(head * width, (head + 1) * width)
            of_row = dy[row, here], c[row, here], z[row, here], normed[row, here], weight[here], skip[here]
            of_sums = d_normed, sums[0, here], sums[1, here]
            mean, along = _norm_row(*of_row, dz[row, here], direct[row, here], *of_sums)
            above, below, of_norm = row_sum[pair, t], least[pair, t], rstd[pair, t]
            share_of_sum = ONE / (max(abs(above), below) + EPS_32 * scale)
            ratio, x, gradient = of_norm * share_of_sum, normed[row, here], g[pair, t]
            for i in range(width):
                gradient[i] = narrow(ratio * (d_normed[i] - mean - along * wide(x[i])), gradient)
            # A norm's input and its gradient are orthogonal but for NORM_EPS, which leaves this of their product.
            product = along * np.float32(width) * NORM_EPS_32 * of_norm * of_norm * share_of_sum
            is_above = abs(above) >= below
            shift[pair, t] = (product if above < ZERO else -product) if is_above else ZERO
            level[pair, t] = ZERO if is_above else product * below


@jit
def _weigh_row_backward(scores, d_weights, exponents, largest, shift, d_a, weighed, d_scores):  # type: ignore[no-untyped-def]
    """Weights and the scores' gradients; the sum of the exponents' gradients, which are added to ``d_a``."""
    total = ZERO
    for s in range(len(scores)):
        decay = exp(exponents[s] - largest)
        weight, d_score = wide(scores[s]) * decay, (wide(d_weights[s]) + shift) * decay
        weighed[s] = narrow(weight, weighed)
        d_scores[s] = narrow(d_score, d_scores)
        of_exponent = d_score * wide(scores[s])
        d_a[s] += of_exponent
        total += of_exponent
    return total


@jit
def _weigh_backward(entry, p):  # type: ignore[no-untyped-def]
    batch, length, heads, start, stop, seen, end, reverse = p[1], p[2], p[3], p[5], p[6], p[7], p[8], p[9]
    scores = view(entry, p[10], (batch * heads, stop - start, end - seen))
    d_weights = view(entry, p[11], (batch * heads, stop - start, end - seen))
    a, row_max = tensor(p[12], (batch * heads, length)), tensor(p[13], (batch * heads, length))
    shift, d_max = tensor(p[14], (batch * heads, length)), tensor(p[15], (batch * heads, length))
    d_a = tensor(p[16], (batch * heads, length))
    weighed, d_scores = (
        view(entry, p[17], (batch * heads, length, length)),
        view(entry, p[18], (batch * heads, length, length)),
    )
    first, last = share(batch * heads)
    for head in range(first, last):
        for query in range(stop - start):
            t = start + query
            begin, past = (t, end) if reverse else (seen, t + 1)
            of_scores = scores[head, query, begin - seen : past - seen], d_weights[head, query, begin - seen : past - seen]
            of_exponents = a[head, begin:past], row_max[head, t], shift[head, t], d_a[head, begin:past]
            results = weighed[head, t, begin:past], d_scores[head, t, begin:past]
            d_max[head, t] = -_weigh_row_backward(*of_scores, *of_exponents, *results)
            for row in (weighed[head, t], d_scores[head, t]):
                row[seen:begin] = 0
                row[past:end] = 0


@jit
def _finish_backward(entry, p):  # type: ignore[no-untyped-def]
    batch, length, heads, width, start, stop = p[1], p[2], p[3], p[4], p[5], p[6]
    inner, queries = heads * width, stop - start
    dq, dk = view(entry, p[7], (batch * heads, queries, width)), view(entry, p[8], (batch * heads, queries, width))
    dv_heads = view(entry, p[9], (batch * heads, queries, width))
    c, direct = view(entry, p[10], (batch * length, inner)), tensor(p[11], (batch * length, inner))
    planes = tensor(p[12], (16, inner // 4))
    dc, dv = view(entry, p[13], (batch * length, inner)), view(entry, p[14], (batch * length, inner))
    of_mix = tensor(p[15] + np.int64(thread_number()) * 4 * inner * 4, (16, inner // 4))
    of_q, of_k, mixed = np.empty(inner, np.float32), np.empty(inner, np.float32), np.empty(inner, np.float32)
    first, last = share(batch * queries)
    for index in range(first, last):
        clip, query = index // queries, index % queries
        row = clip * length + start + query
        for head in range(heads):
            pair, here = clip * heads + head, slice(head * width, (head + 1) * width)
            dq_row, dk_row, dv_row, dv_out = dq[pair, query], dk[pair, query], dv_heads[pair, query], dv[row, here]
            of_q_head, of_k_head, direct_row = of_q[here], of_k[here], direct[row, here]
            for i in range(width):
                of_q_head[i] = wide(dq_row[i])
                of_k_head[i] = direct_row[i] + wide(dk_row[i])
                dv_out[i] = dv_row[i]
        mix_row(of_q, planes, mixed)
        add_outer(of_q, c[row], of_mix)
        dc_row = dc[row]
        for i in range(inner):
            dc_row[i] = narrow(of_k[i] + mixed[i], dc_row)


@kernel
def by_heads(p: Any) -> None:
    """Queries, which are mixed keys, keys and values: a matrix for each clip and head."""
    if p[0]:
        _by_heads(HALF, p)
    else:
        _by_heads(SINGLE, p)


@kernel
def weigh(p: Any) -> None:
    """Scores times exp(a_s - row_max_t), in place, 0 for the tokens read after t; and the sum of every row."""
    if p[0]:
        _weigh(HALF, p)
    else:
        _weigh(SINGLE, p)


@kernel
def finish(p: Any) -> None:
    """Normaliser, norm of each head, skip and gate."""
    if p[0]:
        _finish(HALF, p)
    else:
        _finish(SINGLE, p)


@kernel
def norm_backward(p: Any) -> None:
    """Back through gate, skip and norm to the numerators; ``direct`` is what reaches c past the mLSTM."""
    if p[0]:
        _norm_backward(HALF, p)
    else:
        _norm_backward(SINGLE, p)


@kernel
def weigh_backward(p: Any) -> None:
    """The weights again, and the gradients of scores, exponents and their maxima."""
    if p[0]:
        _weigh_backward(HALF, p)
    else:
        _weigh_backward(SINGLE, p)


@kernel
def finish_backward(p: Any) -> None:
    """The gradients of queries, keys and values, brought together as those of c, v and mix."""
    if p[0]:
        _finish_backward(HALF, p)
    else:
        _finish_backward(SINGLE, p)
