"""The shared parts of our Triton kernels."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

LOG2_E = tl.constexpr(1.4426950408889634)


def as_rows(x: Tensor) -> Tensor:
    """``x`` with its last dimension contiguous."""
    return x if x.stride(-1) == 1 else x.contiguous()


@triton.jit
def sigmoid(x):
    """1 / (1 + exp(-x)). The square of a reciprocal root is two instructions, a division about eight."""
    root = tl.rsqrt(1.0 + tl.exp2(-x * LOG2_E))
    return root * root


@triton.jit
def to_quads(x):
    """Channels 0, 4, 8, ..; 1, 5, ..; 2, 6, ..; and 3, 7, ..: a thread that holds four in a row needs no other thread's.

    Shape: [rows, channels] -> 4 of [rows, channels / 4].
    """
    even, odd = tl.split(tl.reshape(x, [x.shape[0], x.shape[1] // 4, 2, 2]))
    first, third = tl.split(even)
    second, fourth = tl.split(odd)
    return first, second, third, fourth


@triton.jit
def from_quads(x):
    """The channels of ``to_quads`` in their order again. Shape: 4 of [rows, channels / 4] -> [rows, channels]."""
    pairs = tl.join(tl.join(x[0], x[2]), tl.join(x[1], x[3]))
    return tl.reshape(pairs, [x[0].shape[0], 4 * x[0].shape[1]])
