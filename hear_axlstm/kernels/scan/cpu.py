"""The scan on a CPU, compiled by Numba: the states of a few channels stay in the cache.

It computes in float32, on float32 or bfloat16. README.md beside this derives both directions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from hear_axlstm.kernels.cpu_parts import (
    LOG2_E,
    ZERO,
    as_rows,
    exp2,
    integers,
    is_half,
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
from hear_axlstm.kernels.cpu_source import numba

BLOCK = 16  # tokens between two states that are kept for gradients
LANES = 96  # channels that are scanned together


def gated_scan(*operands: Any, reverse: bool = False) -> Tensor:
    """The operation of ``ops.scan``, in float32, without gradients."""
    return scan_forward(*operands, entries=None, reverse=reverse)


def recurrent_scan(*operands: Any) -> Tensor:
    """The operation of ``ops.recurrent``."""
    *scanned, state, places = operands
    places = None if places is None else places.long()
    return scan_forward(*scanned, entries=None, reverse=False, state=state, places=places)


def scan_forward(
    *operands: Any, entries: Tensor | None, reverse: bool, state: Tensor | None = None, places: Tensor | None = None
) -> Tensor:
    """The gated scan. entries, if given, gets the states before every BLOCK of tokens: (B, blocks, N, n), float32.

    state, if given, is that before the first token, at each clip's place, if given, and becomes that after the last.
    """
    x, step, step_bias, a, b, c, d, z = operands
    x, step = x.contiguous(), step.contiguous()
    gate = as_rows(x if z is None else z)
    out = x.new_empty(x.shape)
    sizes = (*x.shape, a.shape[1], gate.stride(1), z is not None, reverse, is_half(x), is_half(step), is_half(gate))
    weights = plain(step_bias), plain(a.T), plain(b), plain(c), plain(d)
    given = [entry for x in (entries, state, places) for entry in (x is not None, out if x is None else x)]
    launch(_scan, *sizes, x, step, *weights, gate, out, *given)
    return out


@kernel
def _scan(p: Any) -> None:
    batch, length, inner, states, z_stride, gated, reverse = p[0], p[1], p[2], p[3], p[4], p[5], p[6]
    half, step_half, gate_half = p[7], p[8], p[9]
    step_bias = tensor(p[12], (inner,))
    a = tensor(p[13], (states, inner))
    b = tensor(p[14], (batch, length, states))
    c = tensor(p[15], (batch, length, states))
    d = tensor(p[16], (inner,))
    keeping, entries = p[19], tensor(p[20], (batch, (length + BLOCK - 1) // BLOCK, states, inner))
    carrying, placed, places = p[21], p[23], numba.carray(integers(p[24]), (batch,))
    blocks = (inner + LANES - 1) // LANES
    state = np.empty((states, LANES), np.float32)
    decay = np.empty((states, LANES), np.float32)
    row, now = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    drive, y, z = np.empty(LANES, np.float32), np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    first, last = share(batch * blocks)
    for index in range(first, last):
        clip, start = index // blocks, index % blocks * LANES
        count = min(LANES, inner - start)
        bias_row, d_row = step_bias[start:], d[start:]  # a sum as an index would be checked for its sign at every number
        state[:] = ZERO
        decay[:] = ZERO
        row[:] = ZERO
        now[:] = ZERO
        for n in range(states):
            rates = a[n, start:]
            for i in range(count):
                decay[n, i] = rates[i] * LOG2_E
        carried = tensor(p[22] + 4 * (places[clip] if placed else clip) * states * inner, (states, inner))
        if carrying:
            for n in range(states):
                kept = carried[n, start:]
                for i in range(count):
                    state[n, i] = kept[i]
        for reading in range(length):
            t = length - 1 - reading if reverse else reading
            token = clip * length + t
            if keeping and reading % BLOCK == 0:
                for n in range(states):
                    entry = entries[clip, reading // BLOCK, n, start:]
                    for i in range(count):
                        entry[i] = state[n, i]
            read(p[10], half, token * inner + start, row[:count])
            read(p[11], step_half, token * inner + start, now[:count])
            for i in range(count):
                now[i] = softplus(now[i] + bias_row[i])
            for i in range(LANES):
                drive[i] = now[i] * row[i]
                y[i] = ZERO
            for n in range(states):
                b_n, c_n, state_n, decay_n = b[clip, t, n], c[clip, t, n], state[n], decay[n]
                for i in range(LANES):
                    state_n[i] = exp2(now[i] * decay_n[i]) * state_n[i] + drive[i] * b_n
                    y[i] += state_n[i] * c_n
            for i in range(count):
                y[i] += d_row[i] * row[i]
            if gated:
                read(p[17], gate_half, token * z_stride + start, z[:count])
                for i in range(count):
                    y[i] *= silu(z[i])
            write(p[18], half, token * inner + start, y[:count])
        if carrying:
            for n in range(states):
                kept = carried[n, start:]
                for i in range(count):
                    kept[i] = state[n, i]
