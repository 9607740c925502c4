"""The mLSTM in Triton: gradients. README.md derives them."""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from hear_axlstm.kernels.cuda_parts import from_quads, sigmoid, to_quads
from hear_axlstm.kernels.mlstm.cuda_tiles import (
    Gates,
    Operands,
    Saved,
    channels,
    load_piece,
    load_tile,
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

NORM_ROWS, NORM_STEP = 64, 8  # rows of a program of _norm_backward, and rows at once


def gradients(
    dy: Tensor, operands: Operands, gates: Gates, saved: Saved, sigmoid_gate: bool, reverse: bool
) -> tuple[Tensor, ...]:
    """The gradients of the seven operands, in their order."""
    c, v, z, _, mix, norm_weight, skip = operands
    batch, length, inner = c.shape
    heads = operands.heads
    width = inner // heads
    tile = tiling(width, c.dtype)
    dy = dy if dy.stride(-1) == 1 else dy.contiguous()
    dc, dv, dz, g = (x.new_empty(x.shape) for x in (c, v, z, c))
    d_gates = operands.gates.new_empty(operands.gates.shape)
    power, e_query, shift, d_level, d_max, d_a = gates.a.new_empty(6, *gates.a.shape)
    norm_tiles, tiles = triton.cdiv(length, NORM_ROWS), triton.cdiv(length, tile.x)
    d_norm_weight, d_skip = gates.a.new_empty(2, batch * norm_tiles, inner)
    d_mix = gates.a.new_empty(batch * tiles, 4, inner)
    head: dict[str, Any] = {"HEADS": heads, "WIDTH": width, "PIECES": pieces(width, tile.piece)}
    loop: dict[str, Any] = {"BX": tile.x, "BY": tile.y, "num_warps": tile.warps, "num_stages": tile.stages}
    _norm_backward[batch * heads * norm_tiles,](
        dy,
        c,
        z,
        norm_weight,
        skip,
        gates.row_max,
        gates.least,
        gates.enlarge,
        saved.normed,
        saved.row_sum,
        saved.rstd,
        dc,
        dz,
        g,
        power,
        e_query,
        shift,
        d_level,
        d_norm_weight,
        d_skip,
        *dy.stride()[:2],
        *c.stride()[:2],
        *z.stride()[:2],
        length,
        HEADS=heads,
        WIDTH=width,
        PIECES=pieces(width, 512),
        ROWS=NORM_ROWS,
        STEP=NORM_STEP,
        EPS=EPS,
        NORM_EPS=NORM_EPS,
        num_warps=4 if width <= 192 else 8,
    )
    _keys_and_values_backward[batch * heads * tiles,](
        c,
        v,
        saved.q,
        g,
        gates.a,
        e_query,
        shift,
        dc,
        dv,
        d_a,
        *c.stride()[:2],
        *v.stride()[:2],
        length,
        REVERSE=reverse,
        **head,
        **loop,
    )
    _queries_backward[batch * heads * tiles,](
        c,
        v,
        saved.q,
        g,
        mix,
        gates.a,
        gates.row_max,
        gates.enlarge,
        power,
        shift,
        d_level,
        dc,
        d_max,
        d_mix,
        *c.stride()[:2],
        *v.stride()[:2],
        length,
        REVERSE=reverse,
        **head,
        **loop,
    )
    _gates_backward[batch * heads,](
        operands.gates,
        gates.a,
        gates.row_max,
        d_a,
        d_max,
        d_level,
        d_gates,
        *operands.gates.stride()[:2],
        length,
        SIGMOID=sigmoid_gate,
        REVERSE=reverse,
        HEADS=heads,
        BLOCK=scan_block(length),
        num_warps=4,
    )
    return (
        dc,
        dv,
        dz,
        d_gates,
        d_mix.sum(0).view(4, -1, 4).transpose(0, 1).to(mix.dtype),
        d_norm_weight.sum(0).to(norm_weight.dtype),
        d_skip.sum(0).to(skip.dtype),
    )


@triton.jit(do_not_specialize=["length"])
def _norm_backward(
    p_dy,
    p_c,
    p_z,
    p_norm_weight,
    p_skip,
    p_row_max,
    p_least,
    p_enlarge,
    p_normed,
    p_row_sum,
    p_rstd,
    p_dc,
    p_dz,
    p_g,
    p_power,
    p_e_query,
    p_shift,
    p_d_level,
    p_d_norm_weight,
    p_d_skip,
    batch_dy,
    row_dy,
    batch_c,
    row_c,
    batch_z,
    row_z,
    length,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    PIECES: tl.constexpr,
    ROWS: tl.constexpr,
    STEP: tl.constexpr,
    EPS: tl.constexpr,
    NORM_EPS: tl.constexpr,
):
    """Back to heads' outputs before their norm. A program per chunk, head and ROWS tokens, in the order of memory."""
    tile, chunk, head, first_row = program(length, HEADS, ROWS)
    inner: tl.constexpr = HEADS * WIDTH
    o_k = channels(PIECES)
    own = chunk * length * inner + head * WIDTH
    p_dy += chunk * batch_dy + head * WIDTH
    p_c += chunk * batch_c + head * WIDTH
    p_z += chunk * batch_z + head * WIDTH
    p_norm_weight += head * WIDTH
    p_skip += head * WIDTH
    enlarge = tl.load(p_enlarge + head)

    d_norm_weight = ()
    d_skip = ()
    for i in tl.static_range(len(o_k)):
        d_norm_weight = d_norm_weight + (tl.zeros([STEP, o_k[i].shape[0]], tl.float32),)  # [STEP, piece]
        d_skip = d_skip + (tl.zeros([STEP, o_k[i].shape[0]], tl.float32),)
    for first in range(tile * ROWS, tl.minimum(tile * ROWS + ROWS, length), STEP):
        row = first + tl.arange(0, STEP)
        m_row = row < length
        mean = tl.zeros_like(row).to(tl.float32)  # [STEP]
        along = tl.zeros_like(mean)
        d_normed_tile = ()
        normed_tile = ()
        d_norm_weight_next = ()
        d_skip_next = ()
        for i in tl.static_range(len(o_k)):
            dy = load_piece(p_dy, row_dy, row, m_row, o_k[i], WIDTH).to(tl.float32)  # [STEP, piece]
            c = load_piece(p_c, row_c, row, m_row, o_k[i], WIDTH).to(tl.float32)
            z = load_piece(p_z, row_z, row, m_row, o_k[i], WIDTH).to(tl.float32)
            normed = load_piece(p_normed + own, inner, row, m_row, o_k[i], WIDTH).to(tl.float32)
            norm_weight = load_weight(p_norm_weight, o_k[i], WIDTH)
            skip = load_weight(p_skip, o_k[i], WIDTH)
            gate = sigmoid(z)
            dz = dy * (normed * norm_weight + skip * c) * gate * (1 + z * (1 - gate))
            store_piece(dz, p_dz + own, inner, row, m_row, o_k[i], WIDTH)
            d_sum = dy * z * gate
            store_piece(d_sum * skip, p_dc + own, inner, row, m_row, o_k[i], WIDTH)
            d_norm_weight_next = d_norm_weight_next + (d_norm_weight[i] + d_sum * normed,)
            d_skip_next = d_skip_next + (d_skip[i] + d_sum * c,)
            d_normed = d_sum * norm_weight
            mean += tl.sum(d_normed, 1) * (1 / WIDTH)
            along += tl.sum(d_normed * normed, 1) * (1 / WIDTH)
            d_normed_tile = d_normed_tile + (d_normed,)
            normed_tile = normed_tile + (normed,)
        d_norm_weight = d_norm_weight_next
        d_skip = d_skip_next

        # The numerator's gradient is ratio * (..) below. As g 2^e, g is (..) times 1 to 2, which float16 holds.
        row_sum = tl.load(p_row_sum + first_row + row, mask=m_row, other=0.0)  # [STEP]
        rstd = tl.load(p_rstd + first_row + row, mask=m_row, other=1.0)
        least = tl.load(p_least + first_row + row, mask=m_row, other=1.0)
        row_max = tl.load(p_row_max + first_row + row, mask=m_row, other=0.0)
        above = tl.abs(row_sum) / enlarge
        normaliser = tl.maximum(above, least) + EPS
        ratio = tl.maximum(rstd / enlarge / normaliser, 1e-30)
        e = ((ratio.to(tl.int32, bitcast=True) >> 23) - 127).to(tl.float32)
        scale = ratio * tl.exp2(-e)
        tl.store(p_power + first_row + row, tl.exp2(e), mask=m_row)
        tl.store(p_e_query + first_row + row, e - row_max, mask=m_row)
        for i in tl.static_range(len(o_k)):
            g = scale[:, None] * (d_normed_tile[i] - mean[:, None] - along[:, None] * normed_tile[i])
            store_piece(g, p_g + own, inner, row, m_row, o_k[i], WIDTH)
        # A norm's input and its gradient are orthogonal but for NORM_EPS, which leaves this of their product:
        product = along * WIDTH * NORM_EPS * rstd * rstd
        shift = scale * product / rstd
        shift = tl.where(above < least, 0.0, tl.where(row_sum < 0, shift, -shift))
        tl.store(p_shift + first_row + row, shift, mask=m_row)
        d_level = tl.where(above < least, product * least / normaliser, 0.0)
        tl.store(p_d_level + first_row + row, d_level, mask=m_row)
    sums = (chunk * tl.cdiv(length, ROWS) + tile) * inner + head * WIDTH
    for i in tl.static_range(len(o_k)):
        tl.store(p_d_norm_weight + sums + o_k[i], tl.sum(d_norm_weight[i], 0), mask=o_k[i] < WIDTH)
        tl.store(p_d_skip + sums + o_k[i], tl.sum(d_skip[i], 0), mask=o_k[i] < WIDTH)


@triton.jit(do_not_specialize=["length"])
def _keys_and_values_backward(
    p_c,
    p_v,
    p_q,
    p_g,
    p_a,
    p_e_query,
    p_shift,
    p_dc,
    p_dv,
    p_d_a,
    batch_c,
    row_c,
    batch_v,
    row_v,
    length,
    REVERSE: tl.constexpr,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    PIECES: tl.constexpr,
    BX: tl.constexpr,
    BY: tl.constexpr,
):
    """A program per chunk, head and BX keys, those that most queries see first; their part of dc is added."""
    tile, chunk, head, first_row = program(length, HEADS, BX)
    inner: tl.constexpr = HEADS * WIDTH
    o_k = channels(PIECES)
    o_x = tile * BX + tl.arange(0, BX)
    m_x = o_x < length
    row = place(o_x, length, REVERSE)
    own = chunk * length * inner + head * WIDTH
    p_c += chunk * batch_c + head * WIDTH
    p_v += chunk * batch_v + head * WIDTH
    p_q += own
    p_g += own
    p_e_query += first_row
    e_x = tl.load(p_a + first_row + row, mask=m_x, other=float("-inf"))  # [BX]

    c = load_tile(p_c, row_c, row, m_x, o_k, WIDTH)
    # fmt: off
    dv, _ = weighted_sum(
        c, tile * BX, e_x, None, (p_q, inner), (p_g, inner), p_e_query, None, length, o_k,
        Y_LATER=True, ROW_SUM=False, REVERSE=REVERSE, WIDTH=WIDTH, BY=BY,
    )
    # fmt: on
    for i in tl.static_range(len(o_k)):
        store_piece(dv[i], p_dv + own, inner, row, m_x, o_k[i], WIDTH)

    v = load_tile(p_v, row_v, row, m_x, o_k, WIDTH)
    # fmt: off
    dc, _ = weighted_sum(
        v, tile * BX, e_x, None, (p_g, inner), (p_q, inner), p_e_query, p_shift + first_row, length, o_k,
        Y_LATER=True, ROW_SUM=False, REVERSE=REVERSE, WIDTH=WIDTH, BY=BY,
    )
    # fmt: on
    d_a = tl.zeros_like(e_x)
    for i in tl.static_range(len(o_k)):
        d_a += tl.sum(dc[i] * load_piece(p_c, row_c, row, m_x, o_k[i], WIDTH).to(tl.float32), 1)
        total = dc[i] + load_piece(p_dc + own, inner, row, m_x, o_k[i], WIDTH).to(tl.float32)
        store_piece(total, p_dc + own, inner, row, m_x, o_k[i], WIDTH)
    tl.store(p_d_a + first_row + row, d_a, mask=m_x)


@triton.jit(do_not_specialize=["length"])
def _queries_backward(
    p_c,
    p_v,
    p_q,
    p_g,
    p_mix,
    p_a,
    p_row_max,
    p_enlarge,
    p_power,
    p_shift,
    p_d_level,
    p_dc,
    p_d_max,
    p_d_mix,
    batch_c,
    row_c,
    batch_v,
    row_v,
    length,
    REVERSE: tl.constexpr,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    PIECES: tl.constexpr,
    BX: tl.constexpr,
    BY: tl.constexpr,
):
    """A program per chunk, head and BX queries, those that see most keys first; their part of dc is added."""
    tile, chunk, head, first_row = program(length, HEADS, BX)
    tile = tl.cdiv(length, BX) - 1 - tile
    inner: tl.constexpr = HEADS * WIDTH
    o_k = channels(PIECES)
    o_x = tile * BX + tl.arange(0, BX)
    m_x = o_x < length
    row = place(o_x, length, REVERSE)
    own = chunk * length * inner + head * WIDTH
    p_c += chunk * batch_c + head * WIDTH
    p_v += chunk * batch_v + head * WIDTH
    p_mix += head * 4 * WIDTH
    e_x = -tl.load(p_row_max + first_row + row, mask=m_x, other=float("inf"))  # [BX]
    shift = tl.load(p_shift + first_row + row, mask=m_x, other=0.0)
    g = load_tile(p_g + own, inner, row, m_x, o_k, WIDTH)
    # fmt: off
    dq, _ = weighted_sum(
        g, tile * BX, e_x, shift, (p_v, row_v), (p_c, row_c), p_a + first_row, None, length, o_k,
        Y_LATER=False, ROW_SUM=False, REVERSE=REVERSE, WIDTH=WIDTH, BY=BY,
    )
    # fmt: on
    # dq lacks the 2^e of g, and the enlarge / sqrt(K) by which q is larger than mix c.
    power = tl.load(p_power + first_row + row, mask=m_x, other=0.0)
    scale = power * tl.load(p_enlarge + head) * WIDTH**-0.5
    d_max = tl.load(p_d_level + first_row + row, mask=m_x, other=0.0)
    sums = (chunk * tl.cdiv(length, BX) + tile) * 4 * inner + head * WIDTH
    for i in tl.static_range(len(o_k)):
        d_max -= power * tl.sum(dq[i] * load_piece(p_q + own, inner, row, m_x, o_k[i], WIDTH).to(tl.float32), 1)
        d_mixed = dq[i] * scale[:, None]
        d_quarters = to_quads(d_mixed)
        c = to_quads(load_piece(p_c, row_c, row, m_x, o_k[i], WIDTH).to(tl.float32))
        for o in tl.static_range(4):
            d_row = ()
            for j in tl.static_range(4):
                d_row = d_row + (tl.sum(d_quarters[o] * c[j], 0, keep_dims=True),)  # [1, piece / 4]
            tl.store(p_d_mix + sums + o * inner + o_k[i][None, :], from_quads(d_row), mask=(o_k[i] < WIDTH)[None, :])
        dc = mix_piece(d_mixed, p_mix, o_k[i], WIDTH, True)
        dc += load_piece(p_dc + own, inner, row, m_x, o_k[i], WIDTH).to(tl.float32)
        store_piece(dc, p_dc + own, inner, row, m_x, o_k[i], WIDTH)
    tl.store(p_d_max + first_row + row, d_max, mask=m_x)


@triton.jit
def _recur(k_1, s_1, k_2, s_2):
    return k_1 * k_2, k_2 * s_1 + s_2


@triton.jit(do_not_specialize=["length"])
def _gates_backward(
    p_gates,
    p_a,
    p_row_max,
    p_d_a,
    p_d_max,
    p_d_level,
    p_d_gates,
    batch_gates,
    row_gates,
    length,
    SIGMOID: tl.constexpr,
    REVERSE: tl.constexpr,
    HEADS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A program per chunk and head, which goes from the last token to the first."""
    chunk = (tl.program_id(0) // HEADS).to(tl.int64)
    head = tl.program_id(0) % HEADS
    o_t = tl.arange(0, BLOCK)
    m_t = o_t < length
    row = place(length - 1 - o_t, length, REVERSE)
    before = place(length - o_t, length, REVERSE)  # the token before in this order is the next one read
    first_row = tl.program_id(0).to(tl.int64) * length
    a = tl.load(p_a + first_row + row, mask=m_t, other=0.0)  # [BLOCK] all
    row_max = tl.load(p_row_max + first_row + row, mask=m_t, other=0.0)
    next_a = tl.load(p_a + first_row + before, mask=m_t & (o_t > 0), other=float("-inf"))
    d_max = tl.load(p_d_max + first_row + row, mask=m_t, other=0.0)
    d_a = tl.load(p_d_a + first_row + row, mask=m_t, other=0.0)
    d_level = tl.load(p_d_level + first_row + row, mask=m_t, other=0.0)

    # A token that is the largest so far has the gradients of row_max from there to the next one that is.
    _, d_until = tl.associative_scan((tl.where(next_a < row_max, 1.0, 0.0), d_max), 0, _recur)
    d_a += tl.where(a < row_max, 0.0, d_until)
    d_log_f = tl.cumsum(d_level - d_a, 0)  # of F, and F is the sum of log f

    p_gate = p_gates + chunk * batch_gates + head + row * row_gates
    p_d_gate = p_d_gates + chunk * length * 2 * HEADS + head + row * 2 * HEADS
    if SIGMOID:
        d_a *= sigmoid(-tl.load(p_gate, mask=m_t, other=0.0).to(tl.float32))
    d_log_f *= sigmoid(-tl.load(p_gate + HEADS, mask=m_t, other=0.0).to(tl.float32))
    tl.store(p_d_gate, d_a, mask=m_t)
    tl.store(p_d_gate + HEADS, d_log_f, mask=m_t)
