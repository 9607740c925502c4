"""Residual addition and layer norm on a CPU, compiled by Numba: one pass over memory instead of three."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hear_axlstm.kernels.cpu_parts import ONE, ZERO, from_bits, is_half, kernel, launch, plain, read, share, tensor, write


def add_norm(
    x: Tensor, update: Tensor | None, weight: Tensor, bias: Tensor | None, *, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The operation of ``ops.norm``."""
    x, width = plain(x), x.shape[-1]
    given, total = (x, x) if update is None else (update.contiguous(), torch.empty_like(x))
    normed = x.new_empty(x.shape, dtype=dtype if dtype == torch.bfloat16 else torch.float32)
    parameters = plain(weight), torch.zeros_like(weight, dtype=torch.float32) if bias is None else plain(bias)
    kinds = update is not None, is_half(given), is_half(normed)
    launch(
        _add_norm,
        x.numel() // width,
        width,
        int(np.float32(eps).view(np.int32)),
        *kinds,
        x,
        given,
        *parameters,
        total,
        normed,
    )
    return total, normed.to(dtype)


@kernel
def _add_norm(p: Any) -> None:
    rows, width, eps, adds, update_half, half = p[0], p[1], from_bits(np.int32(p[2])), p[3], p[4], p[5]
    weight = tensor(p[8], (width,))
    bias = tensor(p[9], (width,))
    row, update = np.empty(width, np.float32), np.empty(width, np.float32)
    first, last = share(rows)
    for index in range(first, last):
        read(p[6], False, index * width, row)
        if adds:
            read(p[7], update_half, index * width, update)
            for i in range(width):
                row[i] += update[i]
            write(p[10], False, index * width, row)
        mean, variance = ZERO, ZERO
        for i in range(width):
            mean += row[i]
        mean /= np.float32(width)
        for i in range(width):
            variance += (row[i] - mean) ** 2
        scale = ONE / np.float32(np.sqrt(variance / np.float32(width) + eps))
        for i in range(width):
            row[i] = (row[i] - mean) * scale * weight[i] + bias[i]
        write(p[11], half, index * width, row)
