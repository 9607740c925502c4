"""The shared parts of the mLSTM's forward and backward kernels: tiles of tokens and channels, and sums over pairs of tokens.

Names: x are the tokens that a program works for, y those that it loops over, both counted in reading order; a row is a
token's place in memory. A tile, of some rows and the K channels of a head, is a tuple of pieces whose widths are powers
of two; o_k are the channels of each piece.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from hear_axlstm.kernels.cuda_parts import from_quads, to_quads


class Operands(NamedTuple):
    """The seven operands of ``gated_mlstm``."""

    c: Tensor
    v: Tensor
    z: Tensor
    gates: Tensor
    mix: Tensor
    norm_weight: Tensor
    skip: Tensor

    @property
    def heads(self) -> int:
        return self.gates.shape[2] // 2


class Gates(NamedTuple):
    """a of ``ops.mlstm.parallel_mlstm`` and its running maximum, in units of log 2; and the power of two that mix is
    multiplied by."""

    a: Tensor  # (B, H, L)
    row_max: Tensor  # (B, H, L)
    least: Tensor  # (B, H, L)
    enlarge: Tensor  # (H)


class Saved(NamedTuple):
    """The tensors that the forward pass leaves for the backward pass."""

    q: Tensor  # (B, L, n), enlarge / sqrt(K) times mix c
    normed: Tensor  # (B, L, n), after the layer norm: never beyond sqrt(K), which float16 holds
    row_sum: Tensor  # (B, H, L), enlarge times n . q
    rstd: Tensor  # (B, H, L)

    @classmethod
    def empty(cls, operands: Operands) -> Saved:
        c, heads = operands.c, operands.heads
        row_sum, rstd = c.new_empty((2, len(c), heads, c.shape[1]), dtype=torch.float32)
        return cls(c.new_empty(c.shape), c.new_empty(c.shape), row_sum, rstd)


class Tiling(NamedTuple):
    """How kernels cut their work."""

    x: int  # tokens of a program
    y: int  # tokens of a step of its loop
    warps: int
    stages: int  # steps of the loop whose loads are under way at once
    piece: int  # channels of the widest piece


# Widest head -> tiling, for an H200: x * K / (32 * warps) registers of accumulators, and x + 2 * stages * y rows of K
# channels in at most 227 KB of shared memory. README.md has the registers and spills that came of it.
HALF = {
    144: Tiling(64, 64, warps=4, stages=2, piece=64),
    288: Tiling(64, 32, warps=4, stages=2, piece=64),
    384: Tiling(128, 32, warps=8, stages=2, piece=64),
    576: Tiling(64, 32, warps=8, stages=2, piece=128),
    768: Tiling(64, 16, warps=8, stages=2, piece=128),
}
SINGLE = {
    192: Tiling(32, 32, warps=4, stages=1, piece=64),
    768: Tiling(16, 16, warps=4, stages=1, piece=64),
}


def tiling(width: int, dtype: torch.dtype) -> Tiling:
    """The tiling for heads of ``width`` channels, ``HEAD_WIDTH`` of kernels/cuda.py at most."""
    table = SINGLE if dtype == torch.float32 else HALF
    return next(found for widest, found in table.items() if width <= widest)


def pieces(width: int, widest: int) -> tuple[int, ...]:
    """Powers of two from ``widest`` down to 16, the least that tensor cores multiply, that cover ``width`` channels.

    >>> pieces(288, 256), pieces(576, 128), pieces(20, 128)
    ((256, 32), (128, 128, 128, 128, 64), (32,))
    """
    found: list[int] = []
    rest = -(-width // 16) * 16
    while rest:
        found.append(min(widest, 1 << rest.bit_length() - 1))
        rest -= found[-1]
    return tuple(found)


def scan_block(length: int) -> int:
    """Tokens of a scan of four warps, of one or more to each of their threads."""
    return max(128, triton.next_power_of_2(length))


@triton.jit
def program(length, HEADS: tl.constexpr, BX: tl.constexpr):
    """Tile, chunk, head, and where that head's values begin in (B, H, L)."""
    tiles = tl.cdiv(length, BX)
    index = tl.program_id(0) // tiles
    return tl.program_id(0) % tiles, (index // HEADS).to(tl.int64), index % HEADS, index.to(tl.int64) * length


@triton.jit
def channels(PIECES: tl.constexpr):
    """o_k of a tile."""
    o_k = ()
    first = 0
    for i in tl.static_range(len(PIECES)):
        o_k = o_k + (first + tl.arange(0, PIECES[i]),)
        first = first + PIECES[i]
    return o_k


@triton.jit
def place(o, length, REVERSE: tl.constexpr):
    """Rows of tokens."""
    return length - 1 - o if REVERSE else o


@triton.jit
def load_piece(p, stride, row, m_row, o_k, WIDTH: tl.constexpr):
    mask = m_row[:, None] & (o_k < WIDTH)[None, :]
    return tl.load(p + row[:, None] * stride + o_k[None, :], mask=mask, other=0.0)  # [rows, piece]


@triton.jit
def store_piece(piece, p, stride, row, m_row, o_k, WIDTH: tl.constexpr):
    mask = m_row[:, None] & (o_k < WIDTH)[None, :]
    tl.store(p + row[:, None] * stride + o_k[None, :], piece, mask=mask)


@triton.jit
def load_tile(p, stride, row, m_row, o_k, WIDTH: tl.constexpr):
    tile = ()
    for i in tl.static_range(len(o_k)):
        tile = tile + (load_piece(p, stride, row, m_row, o_k[i], WIDTH),)
    return tile


@triton.jit
def load_weight(p, o_k, WIDTH: tl.constexpr):
    """A weight that all tokens have in common. Shape: [1, piece]."""
    return tl.load(p + o_k, mask=o_k < WIDTH, other=0.0).to(tl.float32)[None, :]


@triton.jit
def mix_piece(x, p_mix, o_k, WIDTH: tl.constexpr, TRANSPOSED: tl.constexpr):
    """Every four channels by their 4 x 4 matrix, in float32. Shape: [rows, piece]."""
    o_four = to_quads(o_k[None, :])[0]  # the first of every four channels, [1, piece / 4]
    quarter = to_quads(x.to(tl.float32))
    mixed = ()
    for o in tl.static_range(4):
        total = tl.zeros_like(quarter[0])
        for i in tl.static_range(4):
            entry = 4 * i + o if TRANSPOSED else 4 * o + i
            total += tl.load(p_mix + 4 * o_four + entry, mask=o_four < WIDTH, other=0.0).to(tl.float32) * quarter[i]
        mixed = mixed + (total,)
    return from_quads(mixed)


@triton.jit
def weighted_sum(
    x,
    first_x,
    e_x,
    shift_x,
    scored,
    summed,
    p_e,
    p_shift,
    length,
    o_k,
    Y_LATER: tl.constexpr,
    ROW_SUM: tl.constexpr,
    REVERSE: tl.constexpr,
    WIDTH: tl.constexpr,
    BY: tl.constexpr,
):
    """Sum over y of w summed_y, with w = (x . scored_y + shift) * 2^(e_x + e_y), and the sum of w alone.

    y are the tokens that are read no later (Y_LATER: no earlier) than x. The four passes of the mLSTM, for its output and
    for the gradients of queries, keys and values, are four such sums. ``scored`` and ``summed`` are a pointer to row 0 of
    the chunk and the head, and a row stride; a shift is x's or, by pointer, y's, or None.
    """
    p_scored, row_scored = scored
    p_summed, row_summed = summed
    o_x = first_x + tl.arange(0, e_x.shape[0])
    start = first_x if Y_LATER else 0
    stop = length if Y_LATER else tl.minimum(first_x + e_x.shape[0], length)
    acc = ()
    for i in tl.static_range(len(x)):
        acc = acc + (tl.zeros_like(x[i]).to(tl.float32),)  # [BX, piece]
    total = tl.zeros_like(e_x)  # [BX]
    # Counted from the step's first token, so that comparisons and offsets stay the same from step to step.
    o_y = tl.arange(0, BY)
    row = -o_y if REVERSE else o_y
    for first in range(start, stop, BY):
        m_y = o_y < length - first
        first_row = place(first, length, REVERSE)
        scored_y = load_tile(p_scored + first_row * row_scored, row_scored, row, m_y, o_k, WIDTH)  # [BY, piece] each
        summed_y = load_tile(p_summed + first_row * row_summed, row_summed, row, m_y, o_k, WIDTH)
        e_y = tl.load(p_e + first_row + row, mask=m_y, other=float("-inf"))  # [BY]
        score = tl.dot(x[0], tl.trans(scored_y[0]), input_precision="ieee")  # [BX, BY]
        for i in tl.static_range(1, len(x)):
            score = tl.dot(x[i], tl.trans(scored_y[i]), score, input_precision="ieee")
        if shift_x is not None:
            score += shift_x[:, None]
        if p_shift is not None:
            score += tl.load(p_shift + first_row + row, mask=m_y, other=0.0)[None, :]
        after = (o_x - first)[:, None]
        m_seen = o_y[None, :] >= after if Y_LATER else o_y[None, :] <= after
        weight = score * tl.exp2(tl.where(m_seen, e_x[:, None] + e_y[None, :], float("-inf")))
        if ROW_SUM:
            total += tl.sum(weight, 1)
        weight = weight.to(summed_y[0].dtype)
        added = ()
        for i in tl.static_range(len(x)):
            added = added + (tl.dot(weight, summed_y[i], acc[i], input_precision="ieee"),)
        acc = added
    return acc, total
