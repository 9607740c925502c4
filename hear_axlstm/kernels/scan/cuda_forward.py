"""The gated scan forward: a program holds the states of a few channels of one clip in registers, token after token."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from hear_axlstm.kernels.cuda_parts import LOG2_E, sigmoid


class Tile(NamedTuple):
    """How one warp holds the states of its channels: in blocks of (channels, states), spread over its lanes."""

    channels: int
    states: int
    tokens: int  # whose operands are loaded together, while the tokens before them are computed


WIDE = Tile(channels=32, states=4, tokens=1)  # one lane per channel: the fewest instructions per channel
NARROW = Tile(channels=8, states=8, tokens=4)  # four lanes per channel: the shortest way through the tokens
FULL = 8192  # channels, of all clips together, that give wide tiles a warp for every other scheduler of an H200
BLOCK = 16  # tokens from one state that is kept for backward to the next; a multiple of every ``tokens``


def entry_shape(x: Tensor, a: Tensor) -> tuple[int, ...]:
    """The shape of the states before each block of tokens, (B, ceil(L / BLOCK), n, N)."""
    return x.shape[0], triton.cdiv(x.shape[1], BLOCK), *a.shape


def scan_forward(
    x: Tensor,
    step: Tensor,
    step_bias: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor,
    z: Tensor | None,
    *,
    entries: Tensor | None,
    reverse: bool,
) -> Tensor:
    """y; the states before each block of tokens are written to ``entries`` unless that is None."""
    batch, length, inner = x.shape
    tile = WIDE if batch * inner >= FULL else NARROW
    y = x.new_empty(x.shape)
    strides = [stride for operand in (x, step, x if z is None else z, b, c) for stride in operand.stride()[:2]]
    with torch.cuda.device_of(x):
        _scan[(batch * triton.cdiv(inner, tile.channels),)](
            *(x, step, z, b, c, step_bias, a, d, y, entries),
            *(inner, length, *strides),
            STATES=a.shape[1],
            TOGETHER=together(b, c),
            REVERSE=reverse,
            BLOCK=BLOCK,
            B_CHANNELS=tile.channels,
            B_STATES=tile.states,
            B_TOKENS=tile.tokens,
            num_warps=1,
            num_stages=1,
        )
    return y


def together(*operands: Tensor) -> int:
    """4 where every row begins at a multiple of four elements, so that a lane loads four at once; else 1."""
    starts = (offset for x in operands for offset in (x.data_ptr() // x.element_size(), *x.stride()[:2]))
    return 4 if all(offset % 4 == 0 for offset in starts) else 1


@triton.jit
def softplus(x):
    """log(1 + exp(x)) = max(x, 0) + log1p(e) with e = exp(-|x|), where 1 + e would drop the last digits of a small e.

    log1p(e) / e is a polynomial of degree 7 on [0, 1], fitted to a relative error of 2e-7.
    """
    e = tl.exp2(-tl.abs(x) * LOG2_E)
    p = tl.fma(e, -0.008539202623069286, 0.04408961907029152)
    p = tl.fma(e, p, -0.10768170654773712)
    p = tl.fma(e, p, 0.17745241522789001)
    p = tl.fma(e, p, -0.24495463073253632)
    p = tl.fma(e, p, 0.33275479078292847)
    p = tl.fma(e, p, -0.4999740421772003)
    p = tl.fma(e, p, 0.9999998211860657)
    return tl.fma(e, p, tl.maximum(x, 0.0))


@triton.jit
def float32(pieces):
    """The blocks of a tuple, each in float32."""
    wide = ()
    for i in tl.static_range(len(pieces)):
        wide = wide + (pieces[i].to(tl.float32),)
    return wide


@triton.jit
def zeros(pieces):
    """Zeros in the shapes of a tuple's blocks."""
    zeros = ()
    for i in tl.static_range(len(pieces)):
        zeros = zeros + (tl.zeros(pieces[i].shape, tl.float32),)
    return zeros


@triton.jit
def clip_start(p, offset, TOGETHER: tl.constexpr):
    """p + offset, known to the compiler as a multiple of TOGETHER elements."""
    return tl.multiple_of(p + offset, TOGETHER * (p.dtype.element_ty.primitive_bitwidth // 8))


@triton.jit
def load_row(p_row, o_n, STATES: tl.constexpr, B_STATES: tl.constexpr):
    """b or c of one token, the same for every channel: a tuple of blocks of the shape of o_n."""
    pieces = ()
    for first in tl.static_range(0, STATES, B_STATES):
        if STATES % B_STATES == 0:
            pieces = pieces + (tl.load(p_row + first + o_n),)
        else:
            pieces = pieces + (tl.load(p_row + first + o_n, mask=first + o_n < STATES, other=0.0),)
    return pieces


@triton.jit
def load_states(p, o_c, m_c, o_n, STATES: tl.constexpr, B_STATES: tl.constexpr):
    """Rows of (n, N): a tuple of (B_CHANNELS, B_STATES), 0 beyond the channels and the states."""
    pieces = ()
    for first in tl.static_range(0, STATES, B_STATES):
        m_s = m_c[:, None] & (first + o_n < STATES)
        pieces = pieces + (tl.load(p + o_c[:, None] * STATES + first + o_n, mask=m_s, other=0.0),)
    return pieces


@triton.jit
def store_states(p, pieces, o_c, m_c, o_n, STATES: tl.constexpr, B_STATES: tl.constexpr):
    """Write the pieces that load_states loads back into rows of (n, N)."""
    for k in tl.static_range(len(pieces)):
        o_s = k * B_STATES + o_n
        tl.store(p + o_c[:, None] * STATES + o_s, pieces[k], mask=m_c[:, None] & (o_s < STATES))


@triton.jit
def load_rates(p_a, o_c, m_c, o_n, STATES: tl.constexpr, B_STATES: tl.constexpr):
    """a log2(e): exp(delta a) is one multiplication and one exp2."""
    a = load_states(p_a, o_c, m_c, o_n, STATES, B_STATES)
    rates = ()
    for k in tl.static_range(len(a)):
        rates = rates + (a[k] * LOG2_E,)
    return rates


@triton.jit
def _load_tokens(
    pointers,
    strides,
    first,
    length,
    o_c,
    m_c,
    o_n,
    STATES: tl.constexpr,
    TOGETHER: tl.constexpr,
    REVERSE: tl.constexpr,
    B_STATES: tl.constexpr,
    B_TOKENS: tl.constexpr,
):
    """x, step, z, b and c of B_TOKENS tokens: tuples of (B_CHANNELS) and, for b and c, of the shape of o_n."""
    p_x, p_step, p_z, p_b, p_c = pointers
    x_row, step_row, z_row, b_row, c_row = strides
    x, step, z, b, c = (), (), (), (), ()
    for i in tl.static_range(B_TOKENS):
        row = tl.minimum(first + i, length - 1)  # beyond the end: the last token again, whose results nobody stores
        row = length - 1 - row if REVERSE else row
        x = x + (tl.load(p_x + row * x_row + o_c, mask=m_c, other=0.0),)
        step = step + (tl.load(p_step + row * step_row + o_c, mask=m_c, other=0.0),)
        if p_z is not None:
            z = z + (tl.load(p_z + row * z_row + o_c, mask=m_c, other=0.0),)
        b = b + load_row(p_b + tl.multiple_of(row * b_row, TOGETHER), o_n, STATES, B_STATES)
        c = c + load_row(p_c + tl.multiple_of(row * c_row, TOGETHER), o_n, STATES, B_STATES)
    return x, step, z, b, c


@triton.jit
def _scan(
    p_x,
    p_step,
    p_z,
    p_b,
    p_c,
    p_bias,
    p_a,
    p_d,
    p_y,
    p_entries,
    inner,
    length,
    x_clip,
    x_row,
    step_clip,
    step_row,
    z_clip,
    z_row,
    b_clip,
    b_row,
    c_clip,
    c_row,
    STATES: tl.constexpr,
    TOGETHER: tl.constexpr,
    REVERSE: tl.constexpr,
    BLOCK: tl.constexpr,
    B_CHANNELS: tl.constexpr,
    B_STATES: tl.constexpr,
    B_TOKENS: tl.constexpr,
):
    """B_CHANNELS channels of one clip, token after token."""
    tiles = tl.cdiv(inner, B_CHANNELS)
    clip = (tl.program_id(0) // tiles).to(tl.int64)
    o_c = tl.program_id(0) % tiles * B_CHANNELS + tl.arange(0, B_CHANNELS)  # (B_CHANNELS)
    m_c = o_c < inner
    # (B_CHANNELS, B_STATES), for b and c as well, whose rows all channels share: loaded as (1, B_STATES), what the loop
    # carries to the next token would have to change lanes through shared memory.
    o_n = tl.arange(0, B_STATES)[None, :] + tl.zeros([B_CHANNELS, 1], tl.int32)
    p_x += clip * x_clip
    p_step += clip * step_clip
    p_b = clip_start(p_b, clip * b_clip, TOGETHER)
    p_c = clip_start(p_c, clip * c_clip, TOGETHER)
    p_y += clip * length * inner
    if p_z is not None:
        p_z += clip * z_clip
    if p_entries is not None:
        p_entries += clip * tl.cdiv(length, BLOCK) * inner * STATES
    pointers = p_x, p_step, p_z, p_b, p_c
    strides = x_row, step_row, z_row, b_row, c_row

    bias = tl.load(p_bias + o_c, mask=m_c, other=0.0)
    d = tl.load(p_d + o_c, mask=m_c, other=0.0)
    rates = load_rates(p_a, o_c, m_c, o_n, STATES, B_STATES)
    state = zeros(rates)
    x, step, z, b, c = _load_tokens(
        pointers, strides, 0, length, o_c, m_c, o_n, STATES, TOGETHER, REVERSE, B_STATES, B_TOKENS
    )
    b, c = float32(b), float32(c)
    for start in range(0, length, BLOCK):
        if p_entries is not None:
            store_states(p_entries, state, o_c, m_c, o_n, STATES, B_STATES)
            p_entries += inner * STATES
        for first in range(start, tl.minimum(start + BLOCK, length), B_TOKENS):
            # Loaded before these tokens are computed and made float32 after that, so that nothing waits for memory.
            next_x, next_step, next_z, next_b, next_c = _load_tokens(
                *(pointers, strides, first + B_TOKENS, length, o_c, m_c, o_n),
                *(STATES, TOGETHER, REVERSE, B_STATES, B_TOKENS),
            )
            for i in tl.static_range(B_TOKENS):
                x_i = x[i].to(tl.float32)
                delta = softplus(step[i].to(tl.float32) + bias)
                drive = (delta * x_i)[:, None]
                read = tl.zeros([B_CHANNELS, B_STATES], tl.float32)
                updated = ()
                for k in tl.static_range(len(rates)):
                    decay = tl.exp2(delta[:, None] * rates[k])
                    state_k = tl.fma(decay, state[k], drive * b[i * len(rates) + k])
                    read = tl.fma(state_k, c[i * len(rates) + k], read)
                    updated = updated + (state_k,)
                state = updated
                y = tl.fma(d, x_i, tl.sum(read, 1))
                if p_z is not None:
                    z_i = z[i].to(tl.float32)
                    y *= z_i * sigmoid(z_i)
                t = first + i
                row = length - 1 - t if REVERSE else t
                m_y = o_c < tl.where(t < length, inner, 0)  # a scalar & a block is not a mask in Triton 3.9's interpreter
                tl.store(p_y + row * inner + o_c, y.to(p_y.dtype.element_ty), mask=m_y)
            x, step, z = next_x, next_step, next_z
            b, c = float32(next_b), float32(next_c)
