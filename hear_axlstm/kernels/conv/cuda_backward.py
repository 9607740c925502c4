"""The gradients of cuda.py. README.md derives them.

Two kernels: the first goes through SiLU to the gradient of its argument, the second back through the convolution to x. A
program keeps to its channels, whose weights and gradients of weights stay in registers while it goes through its tokens;
the gradients of all programs are added up afterwards, always in the same order.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from hear_axlstm.kernels.conv.cuda_tiles import computed_once, convolve, load_mix, load_taps, load_token
from hear_axlstm.kernels.cuda_parts import as_rows, from_quads, sigmoid, to_quads

TOKENS, CHANNELS, WARPS = 16, 64, 4  # of a block, in float16 one token of eight channels per thread
PROGRAMS = 792  # two waves of three on each multiprocessor of an H200
REGISTERS = 168  # per thread: room for three; left alone, the compiler takes more for the first kernel


def gradients(
    grad_c: Tensor,
    grad_v: Tensor | None,
    grad_gates: Tensor | None,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    mix: Tensor | None,
    gate_c: Tensor | None,
    gate_x: Tensor | None,
    *,
    reverse: bool,
) -> tuple[Tensor | None, ...]:
    """The gradients of x, weight, bias, mix, gate_c and gate_x. Shape: weight (n, W), mix (n / 4, 16), others as in ops."""
    batch, length, inner = x.shape
    taps, count = weight.shape[1], 0 if gate_c is None else len(gate_c)
    grad_c, grad_v = as_rows(grad_c), None if grad_v is None else as_rows(grad_v)
    grad_gates = None if grad_gates is None else grad_gates.contiguous()
    channel_tiles, token_tiles = triton.cdiv(inner, CHANNELS), batch * triton.cdiv(length, TOKENS)
    share = triton.cdiv(token_tiles * channel_tiles, PROGRAMS)  # tiles of tokens per program
    programs = triton.cdiv(token_tiles, max(1, share))
    grad_x, grad_total = x.new_empty(x.shape), x.new_empty(x.shape)
    grad_conv = bias.new_empty(programs, taps + 1, inner)
    grad_gate_c, grad_gate_x = (bias.new_empty(programs, count, inner) if count else None for _ in range(2))
    grad_mix = None if mix is None else bias.new_empty(programs, 16, inner // 4)
    options = {
        "TAPS": taps,
        "GATES": count,
        "REVERSE": reverse,
        "B_TOKENS": TOKENS,
        "B_CHANNELS": CHANNELS,
        "B_GATES": max(16, triton.next_power_of_2(count)),
        "PRECISION": "ieee" if x.dtype == torch.float32 else "tf32",
        "num_warps": WARPS,
        "num_stages": 1,
    }
    with torch.cuda.device_of(x):
        _through_silu[(channel_tiles, programs)](
            *(x, grad_c, grad_gates, weight, bias, gate_c, grad_total, grad_conv, grad_gate_c),
            *(inner, length, token_tiles, share, *x.stride()[:2], *grad_c.stride()[:2]),
            maxnreg=REGISTERS,
            **options,
        )
        _through_conv[(channel_tiles, programs)](
            *(x, grad_total, grad_v, grad_gates, weight, mix, gate_x, grad_x, grad_mix, grad_gate_x),
            *(inner, length, token_tiles, share, *x.stride()[:2], *(x if grad_v is None else grad_v).stride()[:2]),
            **options,
        )
    of_conv = grad_conv.sum(0)
    of_mix, of_gate_c, of_gate_x = (None if x is None else x.sum(0) for x in (grad_mix, grad_gate_c, grad_gate_x))
    return grad_x, of_conv[:taps].T, of_conv[taps], None if of_mix is None else of_mix.T, of_gate_c, of_gate_x


@triton.jit
def _zeros(COUNT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    zeros = ()
    for _ in tl.static_range(COUNT):
        zeros = zeros + (tl.zeros([ROWS, COLUMNS], tl.float32),)
    return zeros


@triton.jit
def _load_gates(p_gate, o_g, o_c, m_c, inner, GATES: tl.constexpr):
    """(B_GATES, B_CHANNELS)"""
    return tl.load(p_gate + o_g[:, None] * inner + o_c[None, :], mask=(o_g < GATES)[:, None] & m_c[None, :], other=0.0)


@triton.jit
def _store_gates(p_gate, gate, o_g, o_c, m_c, inner, GATES: tl.constexpr):
    tl.store(p_gate + o_g[:, None] * inner + o_c[None, :], gate, mask=(o_g < GATES)[:, None] & m_c[None, :])


@triton.jit
def _load_grad_gates(p_grad_gates, o_t, o_g, length, GATES: tl.constexpr, REVERSE: tl.constexpr):
    """(B_TOKENS, B_GATES)"""
    return load_token(p_grad_gates, GATES, o_t, length, o_g, o_g < GATES, REVERSE)


@triton.jit
def _through_silu(
    p_x,
    p_grad_c,
    p_grad_gates,
    p_weight,
    p_bias,
    p_gate_c,
    p_grad_total,
    p_grad_conv,
    p_grad_gate_c,
    inner,
    length,
    token_tiles,
    share,
    x_clip,
    x_row,
    grad_clip,
    grad_row,
    TAPS: tl.constexpr,
    GATES: tl.constexpr,
    REVERSE: tl.constexpr,
    B_TOKENS: tl.constexpr,
    B_CHANNELS: tl.constexpr,
    B_GATES: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """From the gradients of c and the gates to that of SiLU's argument; the gradients of weight, bias and gate_c."""
    o_c = tl.program_id(0) * B_CHANNELS + tl.arange(0, B_CHANNELS)
    m_c = o_c < inner
    o_g = tl.arange(0, B_GATES)
    taps = load_taps(p_weight, TAPS, 1, o_c, m_c, TAPS)
    bias = tl.load(p_bias + o_c, mask=m_c, other=0.0)
    of_conv = _zeros(TAPS + 1, B_TOKENS, B_CHANNELS)
    of_gates = tl.zeros([B_GATES, B_CHANNELS], tl.float32)
    if GATES > 0:
        gate_c = _load_gates(p_gate_c, o_g, o_c, m_c, inner, GATES)
    tiles = tl.cdiv(length, B_TOKENS)
    first = tl.program_id(1) * share
    for tile in range(first, tl.minimum(first + share, token_tiles)):
        clip = (tile // tiles).to(tl.int64)
        o_t = tile % tiles * B_TOKENS + tl.arange(0, B_TOKENS)
        total, tokens = convolve(p_x + clip * x_clip, x_row, o_t, length, o_c, m_c, taps, bias, REVERSE)
        grad = load_token(p_grad_c + clip * grad_clip, grad_row, o_t, length, o_c, m_c, REVERSE).to(tl.float32)
        total, gate = computed_once(total), computed_once(sigmoid(total))
        if GATES > 0:
            p_gates = p_grad_gates + clip * length * GATES
            grad_gates = _load_grad_gates(p_gates, o_t, o_g, length, GATES, REVERSE)
            grad += tl.dot(grad_gates, gate_c, input_precision=PRECISION)
            of_gates = tl.dot(tl.trans(grad_gates), total * gate, of_gates, input_precision=PRECISION)
        grad *= gate * (1.0 + total * (1.0 - gate))
        row = length - 1 - o_t if REVERSE else o_t
        o_out = clip * length * inner + row[:, None] * inner + o_c[None, :]
        tl.store(p_grad_total + o_out, grad.to(tokens[0].dtype), mask=(o_t < length)[:, None] & m_c[None, :])
        added = ()
        for tap in tl.static_range(TAPS):
            added = added + (of_conv[tap] + grad * tokens[TAPS - 1 - tap].to(tl.float32),)
        of_conv = added + (of_conv[TAPS] + grad,)
    p_grad_conv += tl.program_id(1).to(tl.int64) * (TAPS + 1) * inner
    for i in tl.static_range(TAPS + 1):
        tl.store(p_grad_conv + i * inner + o_c, tl.sum(of_conv[i], 0), mask=m_c)
    if GATES > 0:
        p_grad_gate_c += tl.program_id(1).to(tl.int64) * GATES * inner
        _store_gates(p_grad_gate_c, of_gates, o_g, o_c, m_c, inner, GATES)


@triton.jit
def _through_conv(
    p_x,
    p_grad_total,
    p_grad_v,
    p_grad_gates,
    p_weight,
    p_mix,
    p_gate_x,
    p_grad_x,
    p_grad_mix,
    p_grad_gate_x,
    inner,
    length,
    token_tiles,
    share,
    x_clip,
    x_row,
    grad_clip,
    grad_row,
    TAPS: tl.constexpr,
    GATES: tl.constexpr,
    REVERSE: tl.constexpr,
    B_TOKENS: tl.constexpr,
    B_CHANNELS: tl.constexpr,
    B_GATES: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """From the gradients of SiLU's argument, v and the gates to that of x; the gradients of mix and gate_x."""
    o_c = tl.program_id(0) * B_CHANNELS + tl.arange(0, B_CHANNELS)
    m_c = o_c < inner
    o_g = tl.arange(0, B_GATES)
    o_q = tl.program_id(0) * (B_CHANNELS // 4) + tl.arange(0, B_CHANNELS // 4)
    m_q = o_q < inner // 4
    taps = load_taps(p_weight, TAPS, 1, o_c, m_c, TAPS)
    if p_mix is not None:
        mix = load_mix(p_mix, 16, 1, o_q, m_q)
        gate_x = _load_gates(p_gate_x, o_g, o_c, m_c, inner, GATES)
        of_mix = _zeros(16, B_TOKENS, B_CHANNELS // 4)
        of_gates = tl.zeros([B_GATES, B_CHANNELS], tl.float32)
    tiles = tl.cdiv(length, B_TOKENS)
    first = tl.program_id(1) * share
    for tile in range(first, tl.minimum(first + share, token_tiles)):
        clip = (tile // tiles).to(tl.int64)
        o_t = tile % tiles * B_TOKENS + tl.arange(0, B_TOKENS)
        p_clip = p_grad_total + clip * length * inner
        grad_x = tl.zeros([B_TOKENS, B_CHANNELS], tl.float32)
        for back in tl.static_range(TAPS):
            ahead = load_token(p_clip, inner, o_t + back, length, o_c, m_c, REVERSE)
            grad_x += taps[back][None, :] * ahead.to(tl.float32)
        if p_mix is not None:
            x = load_token(p_x + clip * x_clip, x_row, o_t, length, o_c, m_c, REVERSE).to(tl.float32)
            grad_v = load_token(p_grad_v + clip * grad_clip, grad_row, o_t, length, o_c, m_c, REVERSE).to(tl.float32)
            x_quads, grad_quads = to_quads(x), to_quads(grad_v)
            mixed = ()
            for i in tl.static_range(4):
                mixed_i = mix[i][None, :] * grad_quads[0]
                for out in tl.static_range(1, 4):
                    mixed_i += mix[4 * out + i][None, :] * grad_quads[out]
                mixed = mixed + (mixed_i,)
            added = ()
            for entry in tl.static_range(16):
                added = added + (of_mix[entry] + grad_quads[entry // 4] * x_quads[entry % 4],)
            of_mix = added
            p_gates = p_grad_gates + clip * length * GATES
            grad_gates = _load_grad_gates(p_gates, o_t, o_g, length, GATES, REVERSE)
            grad_x += from_quads(mixed) + tl.dot(grad_gates, gate_x, input_precision=PRECISION)
            of_gates = tl.dot(tl.trans(grad_gates), x, of_gates, input_precision=PRECISION)
        row = length - 1 - o_t if REVERSE else o_t
        o_out = clip * length * inner + row[:, None] * inner + o_c[None, :]
        tl.store(p_grad_x + o_out, grad_x.to(p_grad_x.dtype.element_ty), mask=(o_t < length)[:, None] & m_c[None, :])
    if p_mix is not None:
        p_grad_mix += tl.program_id(1).to(tl.int64) * 4 * inner
        for entry in tl.static_range(16):
            tl.store(p_grad_mix + entry * (inner // 4) + o_q, tl.sum(of_mix[entry], 0), mask=m_q)
        p_grad_gate_x += tl.program_id(1).to(tl.int64) * GATES * inner
        _store_gates(p_grad_gate_x, of_gates, o_g, o_c, m_c, inner, GATES)
