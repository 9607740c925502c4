"""The mLSTM of tokens that come a few at a time, on a CPU, compiled by Numba: a pass over a memory for five tokens.

It computes in float32, on float32 or bfloat16. README.md beside this has the equations.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from hear_axlstm.config import InputGate
from hear_axlstm.kernels.conv.cpu import mix_row
from hear_axlstm.kernels.cpu_parts import (
    ONE,
    ZERO,
    integers,
    is_half,
    jit,
    kernel,
    launch,
    plain,
    read,
    share,
    tensor,
    write,
)
from hear_axlstm.kernels.cpu_source import intrinsic, ir, numba, types
from hear_axlstm.kernels.mlstm.cpu import EPS_32, GREATEST_EXPONENT, finish, log_sigmoid

TOKENS = 5  # taken together: a patch column of the papers' models
LANES = 16  # channels of a memory's row at once


def recurrent_mlstm(*operands: Any, input_gate: InputGate = "exp") -> Tensor:
    """The operation of ``ops.recurrent``."""
    c, v, z, gates, mix, norm_weight, skip, memory, normal, m, places = operands
    streams, length, inner = c.shape
    heads = normal.shape[1]
    c, v, z = (x if x.stride(2) == 1 else x.contiguous() for x in (c, v.to(c.dtype), z.to(c.dtype)))
    distances = [distance for x in (c, v, z) for distance in x.stride()[:2]]
    out = c.new_empty(c.shape)
    parameters = plain(gates), plain(mix.permute(2, 0, 1)), plain(norm_weight), plain(skip)
    sizes = streams, length, heads, inner // heads, input_gate == "sigmoid", is_half(c), *distances
    launch(
        _recurrent_mlstm,
        *sizes,
        c,
        v,
        z,
        *parameters,
        memory,
        normal,
        m,
        out,
        places is not None,
        out if places is None else places.long(),
    )
    return out


@intrinsic
def _turn_lanes(typing_context: Any, row: Any, read: Any, v: Any, stride: Any, kept: Any, q: Any, k: Any) -> Any:
    """LANES channels of a memory's row, at addresses: added to what each of TOKENS tokens reads, times its ``q``; then times
    ``kept``, and each token's ``v`` added, times its ``k``. A token's ``read`` and ``v`` begin every ``stride`` bytes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        row, read, v, stride, kept, q, k = arguments
        lanes = ir.VectorType(ir.FloatType(), LANES)

        def pointer(address: Any) -> Any:
            return builder.inttoptr(address, lanes.as_pointer())

        def every(number: Any) -> Any:
            first = builder.insert_element(ir.Constant(lanes, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
            zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
            return builder.shuffle_vector(first, ir.Constant(lanes, ir.Undefined), zeros)

        def add_product(total: Any, x: Any, y: Any) -> Any:
            return builder.fadd(total, builder.fmul(x, y, flags=("fast",)), flags=("fast",))

        before = builder.load(pointer(row), align=4)
        after = builder.fmul(every(kept), before, flags=("fast",))
        for token in range(TOKENS):
            total = builder.load(pointer(read), align=4)
            builder.store(add_product(total, every(builder.extract_value(q, token)), before), pointer(read), align=4)
            after = add_product(after, every(builder.extract_value(k, token)), builder.load(pointer(v), align=4))
            read, v = builder.add(read, stride), builder.add(v, stride)
        builder.store(after, pointer(row), align=4)
        return context.get_dummy_value()

    return types.void(row, read, v, stride, kept, q, k), generate


@jit(inline="always")
def _turn(row, i, read, v, kept, q, k):  # type: ignore[no-untyped-def]
    """Row i of the memory: read by every token, and moved on. Shape: row (K,), read, v, q and k (TOKENS, K)."""
    width = len(row)
    whole = width // LANES * LANES
    of_q = q[0, i], q[1, i], q[2, i], q[3, i], q[4, i]
    of_k = k[0, i], k[1, i], k[2, i], k[3, i], k[4, i]
    at, of_read, of_v = row.ctypes.data, read.ctypes.data, v.ctypes.data
    for start in range(0, 4 * whole, 4 * LANES):
        _turn_lanes(at + start, of_read + start, of_v + start, 4 * width, kept, of_q, of_k)
    for j in range(whole, width):
        before, after = row[j], kept * row[j]
        for token in range(TOKENS):
            read[token, j] += q[token, i] * before
            after += k[token, i] * v[token, j]
        row[j] = after


@kernel
def _recurrent_mlstm(p: Any) -> None:
    streams, length, heads, width, sigmoid, half = p[0], p[1], p[2], p[3], p[4], p[5]
    gates = tensor(p[15], (streams, length, 2 * heads))
    mixes = tensor(p[16], (4, heads, width))
    norm_weight, skip = tensor(p[17], (heads, width)), tensor(p[18], (heads, width))
    places = numba.carray(integers(p[24]), (streams,))
    scale = np.float32(np.sqrt(width))
    q, k = np.empty((TOKENS, width), np.float32), np.empty((TOKENS, width), np.float32)
    v, h = np.empty((TOKENS, width), np.float32), np.empty((TOKENS, width), np.float32)
    z, mix = np.empty(width, np.float32), np.empty((4, width), np.float32)
    q_before, k_after = np.empty((TOKENS, width), np.float32), np.empty((TOKENS, width), np.float32)
    a, f, row_max = np.empty(TOKENS), np.empty(TOKENS), np.empty(TOKENS)
    first, last = share(streams * heads)
    for index in range(first, last):
        stream, head = index // heads, index % heads
        place = (places[stream] if p[23] else stream) * heads + head
        memory = tensor(p[19] + 4 * place * width * width, (width, width))
        normal = tensor(p[20] + 4 * place * width, (width,))
        m = tensor(p[21] + 4 * place, (1,))
        for o in range(4):  # a slice would be checked for its shape, and the error needs Numba in every process
            for i in range(width):
                mix[o, i] = mixes[o, head, i]
        for start in range(0, length, TOKENS):
            count = min(TOKENS, length - start)
            before = largest = np.float64(m[0])
            sum_f = 0.0
            for t in range(count):
                log_i = np.float64(gates[stream, start + t, head])
                if sigmoid:
                    log_i = log_sigmoid(log_i)
                sum_f += log_sigmoid(np.float64(gates[stream, start + t, heads + head]))
                a[t], f[t] = log_i - sum_f, sum_f
                largest = max(largest, a[t])
                row_max[t] = largest
            m[0] = sum_f + largest
            largest = np.float64(m[0]) - sum_f  # as it was rounded
            kept = np.float32(np.exp(before - largest))
            for t in range(TOKENS):
                if t < count:
                    token = start + t
                    read(p[12], half, stream * p[6] + token * p[7] + head * width, k[t])
                    read(p[13], half, stream * p[8] + token * p[9] + head * width, v[t])
                    mix_row(k[t], mix, q[t])
                    carried, weight = np.float32(np.exp(before - row_max[t])), np.float32(np.exp(a[t] - largest))
                    q_t, k_t, q_scaled, k_scaled = q[t], k[t], q_before[t], k_after[t]
                    for i in range(width):
                        q_scaled[i], k_scaled[i] = carried * q_t[i], weight * k_t[i]
                else:
                    q_before[t] = k_after[t] = v[t] = ZERO
            h[:] = ZERO
            for i in range(width):
                _turn(memory[i], i, h, v, kept, q_before, k_after)
            for t in range(count):
                total, row, q_t = ZERO, h[t], q_before[t]
                for i in range(width):
                    total += q_t[i] * normal[i]
                for s in range(t + 1):
                    q_t, k_s, v_s, weight = q[t], k[s], v[s], ZERO
                    for i in range(width):
                        weight += q_t[i] * k_s[i]
                    weight *= np.float32(np.exp(a[s] - row_max[t]))
                    total += weight
                    for i in range(width):
                        row[i] += weight * v_s[i]
                least = np.float32(np.exp(min(-f[t] - row_max[t], GREATEST_EXPONENT))) * scale
                read(p[14], half, stream * p[10] + (start + t) * p[11] + head * width, z)
                finish(row, ONE / (max(abs(total), least) + EPS_32 * scale), norm_weight[head], skip[head], k[t], z)
                write(p[22], half, ((stream * length + start + t) * heads + head) * width, row)
            for i in range(width):
                normal[i] *= kept
            for t in range(count):
                k_scaled = k_after[t]
                for i in range(width):
                    normal[i] += k_scaled[i]
