"""The scan on a CPU, compiled by Numba: the states of a few channels stay in the cache.

It computes in float32, on float32 or bfloat16, without gradients.
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

LANES = 32  # channels that are scanned together


def gated_scan(*operands: Any, reverse: bool = False) -> Tensor:
    """The operation of ``ops.scan``, in float32."""
    x, step, step_bias, a, b, c, d, z = operands
    x, step = x.contiguous(), step.contiguous()
    gate = as_rows(x if z is None else z)
    out = x.new_empty(x.shape)
    sizes = (*x.shape, a.shape[1], gate.stride(1), z is not None, reverse, is_half(x), is_half(step), is_half(gate))
    launch(_scan, *sizes, x, step, plain(step_bias), plain(a.T), plain(b), plain(c), plain(d), gate, out)
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
    blocks = (inner + LANES - 1) // LANES
    state = np.empty((states, LANES), np.float32)
    decay = np.empty((states, LANES), np.float32)
    row, now = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    drive, y, z = np.empty(LANES, np.float32), np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    first, last = share(batch * blocks)
    for index in range(first, last):
        clip, start = index // blocks, index % blocks * LANES
        count = min(LANES, inner - start)
        state[:] = ZERO
        decay[:] = ZERO
        row[:] = ZERO
        now[:] = ZERO
        for n in range(states):
            for i in range(count):
                decay[n, i] = a[n, start + i] * LOG2_E
        for reading in range(length):
            t = length - 1 - reading if reverse else reading
            token = clip * length + t
            read(p[10], half, token * inner + start, row[:count])
            read(p[11], step_half, token * inner + start, now[:count])
            for i in range(count):
                now[i] = softplus(now[i] + step_bias[start + i])
            for i in range(LANES):
                drive[i] = now[i] * row[i]
                y[i] = ZERO
            for n in range(states):
                b_n, c_n, state_n, decay_n = b[clip, t, n], c[clip, t, n], state[n], decay[n]
                for i in range(LANES):
                    state_n[i] = exp2(now[i] * decay_n[i]) * state_n[i] + drive[i] * b_n
                    y[i] += state_n[i] * c_n
            for i in range(count):
                y[i] += d[start + i] * row[i]
            if gated:
                read(p[17], gate_half, token * z_stride + start, z[:count])
                for i in range(count):
                    y[i] *= silu(z[i])
            write(p[18], half, token * inner + start, y[:count])
