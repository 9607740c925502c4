"""The shared parts of the convolution's forward and backward kernels.

Names: t counts tokens in reading order, a row is a token's place in memory. A block is (B_TOKENS, B_CHANNELS). Quads are
the four blocks (B_TOKENS, B_CHANNELS / 4) of the first, second, third and fourth channels of every group of four: a
thread holds whole groups, so that taking a block apart and putting it together again moves nothing between threads.
"""

from __future__ import annotations

import os

import triton
import triton.language as tl

COMPILED = tl.constexpr(os.environ.get("TRITON_INTERPRET") != "1")


@triton.jit
def computed_once(x):
    """``x``, which the compiler may not compute again for each layout that it needs it in."""
    if COMPILED:
        constraints: tl.constexpr = "=f,f" if x.dtype == tl.float32 else "=r,r"
        pack: tl.constexpr = 32 // x.dtype.primitive_bitwidth
        x = tl.inline_asm_elementwise("mov.b32 $0, $1;", constraints, [x], dtype=x.dtype, is_pure=False, pack=pack)
    return x


@triton.jit
def load_token(p, row_stride, o_t, length, o_c, m_c, REVERSE: tl.constexpr):
    """Tokens o_t of one clip, zero before the first and after the last: (B_TOKENS, B_CHANNELS)."""
    row = length - 1 - o_t if REVERSE else o_t
    m_t = o_t.to(tl.uint32, bitcast=True) < tl.cast(length, tl.uint32)  # one comparison: -1 becomes 2^32 - 1
    return tl.load(p + row[:, None] * row_stride + o_c[None, :], mask=m_t[:, None] & m_c[None, :], other=0.0)


@triton.jit
def load_taps(p_weight, channel_stride, tap_stride, o_c, m_c, TAPS: tl.constexpr):
    """The convolution's weights by how many tokens they look back: a tuple of (B_CHANNELS)."""
    taps = ()
    for back in tl.static_range(TAPS):
        o_w = o_c * channel_stride + (TAPS - 1 - back) * tap_stride
        taps = taps + (tl.load(p_weight + o_w, mask=m_c, other=0.0),)
    return taps


@triton.jit
def convolve(p_clip, row_stride, o_t, length, o_c, m_c, taps, bias, REVERSE: tl.constexpr):
    """The argument of SiLU, and x at every tap, by how many tokens it looks back."""
    total = tl.zeros([o_t.shape[0], o_c.shape[0]], tl.float32) + bias[None, :]
    tokens = ()
    for back in tl.static_range(len(taps)):
        x = load_token(p_clip, row_stride, o_t - back, length, o_c, m_c, REVERSE)
        total += taps[back][None, :] * x.to(tl.float32)
        tokens = tokens + (x,)
    return total, tokens


@triton.jit
def load_mix(p_mix, group_stride, entry_stride, o_q, m_q):
    """The 4 x 4 matrices of groups o_q: a tuple of 16 vectors, entry (out, in) at 4 out + in."""
    mix = ()
    for entry in tl.static_range(16):
        mix = mix + (tl.load(p_mix + o_q * group_stride + entry * entry_stride, mask=m_q, other=0.0),)
    return mix
