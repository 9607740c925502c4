"""The mLSTM in Triton: values. cuda_backward.py has the gradients, README.md derives both."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from hear_axlstm.config import InputGate
from hear_axlstm.kernels.cuda_parts import LOG2_E, as_rows, sigmoid
from hear_axlstm.kernels.mlstm.cuda_backward import gradients
from hear_axlstm.kernels.mlstm.cuda_tiles import (
    Gates,
    Operands,
    Saved,
    channels,
    load_piece,
    load_weight,
    mix_piece,
    pieces,
    place,
    program,
    scan_block,
    store_piece,
    tiling,
    weighted_sum,
)
from hear_axlstm.ops.mlstm import EPS, NORM_EPS


def gated_mlstm(*operands: Tensor, input_gate: InputGate = "exp", reverse: bool = False) -> Tensor:
    """The operation of ``ops.mlstm`` in float16, bfloat16 or float32, differentiable."""
    with torch.autocast(operands[0].device.type, enabled=False):
        given = Operands(*(as_rows(x) for x in operands[:4]), *(x.contiguous() for x in operands[4:]))
        options = input_gate == "sigmoid", reverse
        if torch.is_grad_enabled() and any(x.requires_grad for x in given):
            y: Tensor = _GatedMLSTM.apply(*given, *options)
            return y
        y = torch.empty_like(given.c, memory_format=torch.contiguous_format)
        _forward(given, *options, y)
        return y


class _GatedMLSTM(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        operands, (sigmoid, reverse) = Operands(*arguments[:7]), arguments[7:]
        saved = Saved.empty(operands)
        y = torch.empty_like(operands.c, memory_format=torch.contiguous_format)
        gates = _forward(operands, sigmoid, reverse, y, saved)
        ctx.options = sigmoid, reverse
        ctx.save_for_backward(*operands, *gates, *saved)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors
        operands, gates, saved = Operands(*tensors[:7]), Gates(*tensors[7:11]), Saved(*tensors[11:])
        with torch.cuda.device_of(dy):
            return *gradients(dy, operands, gates, saved, *ctx.options), None, None


def _forward(operands: Operands, sigmoid: bool, reverse: bool, y: Tensor, saved: Saved | None = None) -> Gates:
    """Write y, and what backward needs where there is room for it; the gates' exponents are returned."""
    c, v, z, gates, mix, norm_weight, skip = operands
    batch, length, inner = c.shape
    heads = operands.heads
    width = inner // heads
    tile = tiling(width, c.dtype)
    a, row_max, least = c.new_empty((3, batch, heads, length), dtype=torch.float32)
    scanned = Gates(a, row_max, least, enlarge=a.new_empty(heads))
    with torch.cuda.device_of(c):
        _scan_gates[batch * heads,](
            gates,
            mix,
            *scanned,
            *gates.stride()[:2],
            length,
            SIGMOID=sigmoid,
            REVERSE=reverse,
            HEADS=heads,
            MIX=4 * width,
            BLOCK=scan_block(length),
            BLOCK_MIX=triton.next_power_of_2(4 * width),
            num_warps=4,
        )
        _mlstm[batch * heads * triton.cdiv(length, tile.x),](
            c,
            v,
            z,
            mix,
            norm_weight,
            skip,
            *scanned,
            y,
            *(saved or [None] * 4),
            *c.stride()[:2],
            *v.stride()[:2],
            *z.stride()[:2],
            *y.stride()[:2],
            length,
            REVERSE=reverse,
            HEADS=heads,
            WIDTH=width,
            PIECES=pieces(width, tile.piece),
            BX=tile.x,
            BY=tile.y,
            EPS=EPS,
            NORM_EPS=NORM_EPS,
            num_warps=tile.warps,
            num_stages=tile.stages,
        )
    return scanned


@triton.jit
def _log_sigmoid(x):
    # Of y, 1 + y keeps few bits, and what they miss would add up over the tokens.
    y = tl.exp(-tl.abs(x))
    log1p = tl.log(1 + y) + (y - (1 + y - 1)) / (1 + y)
    return tl.minimum(x, 0.0) - log1p


@triton.jit
def _then(f_1, m_1, f_2, m_2):
    return f_1 + f_2, tl.maximum(m_1 + f_2, m_2)


@triton.jit
def _larger(x, y):
    return tl.maximum(x, y)


@triton.jit(do_not_specialize=["length"])
def _scan_gates(
    p_gates,
    p_mix,
    p_a,
    p_row_max,
    p_least,
    p_enlarge,
    batch_gates,
    row_gates,
    length,
    SIGMOID: tl.constexpr,
    REVERSE: tl.constexpr,
    HEADS: tl.constexpr,
    MIX: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_MIX: tl.constexpr,
):
    """A program per chunk and head."""
    chunk = (tl.program_id(0) // HEADS).to(tl.int64)
    head = tl.program_id(0) % HEADS
    o_t = tl.arange(0, BLOCK)
    m_t = o_t < length
    row = place(o_t, length, REVERSE)
    p_gate = p_gates + chunk * batch_gates + head + row * row_gates
    log_i = tl.load(p_gate, mask=m_t, other=0.0).to(tl.float32)  # [BLOCK]
    log_f = _log_sigmoid(tl.load(p_gate + HEADS, mask=m_t, other=0.0).to(tl.float32))
    if SIGMOID:
        log_i = _log_sigmoid(log_i)
    # m_t = max(log f_t + m_t-1, log i_t) itself: the sum of F, which may be large, and max a would be less exact.
    cumulative_f, m = tl.associative_scan((log_f, log_i), 0, _then)
    a = (log_i - cumulative_f) * LOG2_E
    row_max = tl.associative_scan(a, 0, _larger)
    p_row = tl.program_id(0).to(tl.int64) * length + row
    tl.store(p_a + p_row, a, mask=m_t)
    tl.store(p_row_max + p_row, row_max, mask=m_t)
    tl.store(p_least + p_row, tl.exp(tl.minimum(-m, 80.0)), mask=m_t)  # finite: h is 0 either way
    if chunk == 0:
        # 2^-e for a largest entry in [2^(e-1), 2^e): exponents are 127 and more in bits 23 to 30
        o_m = tl.arange(0, BLOCK_MIX)
        mix = tl.load(p_mix + head * MIX + o_m, mask=o_m < MIX, other=0.0).to(tl.float32)  # [BLOCK_MIX]
        largest = tl.maximum(tl.max(tl.abs(mix), 0), 8.7e-19)
        exponent = largest.to(tl.int32, bitcast=True) >> 23
        tl.store(p_enlarge + head, ((253 - exponent) << 23).to(tl.float32, bitcast=True))


@triton.jit(do_not_specialize=["length"])
def _mlstm(
    p_c,
    p_v,
    p_z,
    p_mix,
    p_norm_weight,
    p_skip,
    p_a,
    p_row_max,
    p_least,
    p_enlarge,
    p_y,
    p_q,
    p_normed,
    p_row_sum,
    p_rstd,
    batch_c,
    row_c,
    batch_v,
    row_v,
    batch_z,
    row_z,
    batch_y,
    row_y,
    length,
    REVERSE: tl.constexpr,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    PIECES: tl.constexpr,
    BX: tl.constexpr,
    BY: tl.constexpr,
    EPS: tl.constexpr,
    NORM_EPS: tl.constexpr,
):
    """A program per chunk, head and BX queries."""
    tile, chunk, head, first_row = program(length, HEADS, BX)
    tile = tl.cdiv(length, BX) - 1 - tile  # those that see most keys first
    inner: tl.constexpr = HEADS * WIDTH
    o_k = channels(PIECES)
    o_x = tile * BX + tl.arange(0, BX)
    m_x = o_x < length
    row = place(o_x, length, REVERSE)
    p_c += chunk * batch_c + head * WIDTH
    p_v += chunk * batch_v + head * WIDTH
    p_z += chunk * batch_z + head * WIDTH
    p_y += chunk * batch_y + head * WIDTH
    own = chunk * length * inner + head * WIDTH
    enlarge = tl.load(p_enlarge + head)

    q = ()
    for i in tl.static_range(len(o_k)):
        piece = load_piece(p_c, row_c, row, m_x, o_k[i], WIDTH)
        piece = (mix_piece(piece, p_mix + head * 4 * WIDTH, o_k[i], WIDTH, False) * (enlarge * WIDTH**-0.5)).to(piece.dtype)
        if p_q is not None:
            store_piece(piece, p_q + own, inner, row, m_x, o_k[i], WIDTH)
        q = q + (piece,)
    e_x = -tl.load(p_row_max + first_row + row, mask=m_x, other=float("inf"))  # [BX]
    # fmt: off
    acc, row_sum = weighted_sum(
        q, tile * BX, e_x, None, (p_c, row_c), (p_v, row_v), p_a + first_row, None, length, o_k,
        Y_LATER=False, ROW_SUM=True, REVERSE=REVERSE, WIDTH=WIDTH, BY=BY,
    )
    # fmt: on
    least = tl.load(p_least + first_row + row, mask=m_x, other=1.0)
    share = 1 / (enlarge * (tl.maximum(tl.abs(row_sum) / enlarge, least) + EPS))  # [BX]
    mean = tl.zeros_like(row_sum)
    for i in tl.static_range(len(o_k)):
        mean += tl.sum(acc[i], 1) * (1 / WIDTH)
    variance = tl.zeros_like(row_sum)
    for i in tl.static_range(len(o_k)):
        centred = tl.where((o_k[i] < WIDTH)[None, :], acc[i] - mean[:, None], 0.0)
        variance += tl.sum(centred * centred, 1) * (1 / WIDTH)
    rstd = tl.rsqrt(variance * share * share + NORM_EPS)
    to_norm = share * rstd
    for i in tl.static_range(len(o_k)):
        normed = (acc[i] - mean[:, None]) * to_norm[:, None]
        c = load_piece(p_c, row_c, row, m_x, o_k[i], WIDTH).to(tl.float32)
        z = load_piece(p_z, row_z, row, m_x, o_k[i], WIDTH).to(tl.float32)
        norm_weight = load_weight(p_norm_weight + head * WIDTH, o_k[i], WIDTH)
        skip = load_weight(p_skip + head * WIDTH, o_k[i], WIDTH)
        y = (normed * norm_weight + skip * c) * z * sigmoid(z)
        store_piece(y, p_y, row_y, row, m_x, o_k[i], WIDTH)
        if p_normed is not None:
            store_piece(normed, p_normed + own, inner, row, m_x, o_k[i], WIDTH)
    if p_row_sum is not None:
        tl.store(p_row_sum + first_row + row, row_sum, mask=m_x)
        tl.store(p_rstd + first_row + row, rstd, mask=m_x)
