"""The scan on a CPU, compiled by Numba: the states of a few channels stay in the cache.

It computes in float32, without gradients.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from hear_axlstm.kernels.cpu_parts import as_rows, exp, kernel, launch, plain, share, silu, tensor

LANES = 32  # channels that are scanned together
ZERO = np.float32(0.0)


def gated_scan(*operands: Any, reverse: bool = False) -> Tensor:
    """The operation of ``ops.scan``, in float32."""
    x, step, step_bias, a, b, c, d, z = operands
    dtype, x = x.dtype, plain(x)
    delta = F.softplus(plain(step) + step_bias)
    gate = as_rows(x if z is None else z)
    out = x.new_empty(x.shape)
    sizes = (*x.shape, a.shape[1], gate.stride(1), z is not None, reverse)
    launch(_scan, *sizes, x, delta, plain(a.T), plain(b), plain(c), plain(d), gate, out)
    return out.to(dtype)


@kernel
def _scan(p: Any) -> None:
    batch, length, inner, states, z_stride, gated, reverse = p[0], p[1], p[2], p[3], p[4], p[5], p[6]
    x = tensor(p[7], (batch, length, inner))
    delta = tensor(p[8], (batch, length, inner))
    a = tensor(p[9], (states, inner))
    b = tensor(p[10], (batch, length, states))
    c = tensor(p[11], (batch, length, states))
    d = tensor(p[12], (inner,))
    z = tensor(p[13], (batch, length, z_stride))
    out = tensor(p[14], (batch, length, inner))
    blocks = (inner + LANES - 1) // LANES
    state = np.empty((states, LANES), np.float32)
    decay = np.empty((states, LANES), np.float32)
    now, drive, y = np.empty(LANES, np.float32), np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    first, last = share(batch * blocks)
    for index in range(first, last):
        clip, start = index // blocks, index % blocks * LANES
        count = min(LANES, inner - start)
        state[:] = ZERO
        decay[:] = ZERO
        now[:] = ZERO
        drive[:] = ZERO
        for n in range(states):
            for i in range(count):
                decay[n, i] = a[n, start + i]
        for reading in range(length):
            t = length - 1 - reading if reverse else reading
            for i in range(count):
                now[i] = delta[clip, t, start + i]
                drive[i] = now[i] * x[clip, t, start + i]
            for i in range(LANES):
                y[i] = ZERO
            for n in range(states):
                b_n, c_n, state_n, decay_n = b[clip, t, n], c[clip, t, n], state[n], decay[n]
                for i in range(LANES):
                    state_n[i] = exp(now[i] * decay_n[i]) * state_n[i] + drive[i] * b_n
                    y[i] += state_n[i] * c_n
            row, x_row, z_row = out[clip, t, start:], x[clip, t, start:], z[clip, t, start:]
            for i in range(count):
                row[i] = y[i] + d[start + i] * x_row[i]
            if gated:
                for i in range(count):
                    row[i] *= silu(z_row[i])
