"""The gated scan backward: blocks of tokens from the last to the first, each once forward and once backward."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from hear_axlstm.kernels.cuda_parts import sigmoid
from hear_axlstm.kernels.scan.cuda_forward import (
    BLOCK,
    Tile,
    clip_start,
    float32,
    load_rates,
    load_row,
    load_states,
    softplus,
    store_states,
    together,
    zeros,
)

TILE = Tile(channels=32, states=8, tokens=1)  # two lanes per channel, two channels per lane: short sums over channels

LN2 = tl.constexpr(0.6931471805599453)


def scan_backward(
    grad_y: Tensor,
    x: Tensor,
    step: Tensor,
    step_bias: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor,
    z: Tensor | None,
    *,
    entries: Tensor,
    reverse: bool,
) -> tuple[Tensor | None, ...]:
    """Gradients of x, step, step_bias, a, b, c, d and z."""
    batch, length, inner = x.shape
    states = a.shape[1]
    tiles = triton.cdiv(inner, TILE.channels)
    padded = triton.cdiv(states, TILE.states) * TILE.states
    grad_x, grad_step = x.new_empty(x.shape), step.new_empty(x.shape)
    grad_z = None if z is None else z.new_empty(x.shape)
    grad_bias, grad_d, grad_a = (a.new_empty(batch, *shape) for shape in ((inner,), (inner,), a.shape))  # of each clip
    grad_b, grad_c = (a.new_empty(tiles, batch, length, states) for _ in range(2))  # of each tile of channels
    before = a.new_empty(batch, tiles, BLOCK, TILE.channels * padded)
    strides = [stride for operand in (grad_y, x, step, x if z is None else z, b, c) for stride in operand.stride()[:2]]
    with torch.cuda.device_of(x):
        _scan[(batch * tiles,)](
            *(grad_y, x, step, z, b, c, step_bias, a, d, entries, before),
            *(grad_x, grad_step, grad_z, grad_b, grad_c, grad_bias, grad_a, grad_d),
            *(inner, length, batch, *strides),
            STATES=states,
            TOGETHER=together(b, c),
            REVERSE=reverse,
            BLOCK=BLOCK,
            B_CHANNELS=TILE.channels,
            B_STATES=TILE.states,
            num_warps=1,
            num_stages=1,
        )
    per_token = (partial.sum(0).to(operand.dtype) for partial, operand in ((grad_b, b), (grad_c, c)))
    return grad_x, grad_step, grad_bias.sum(0), grad_a.sum(0), *per_token, grad_d.sum(0), grad_z


@triton.jit
def _scan(
    p_grad_y,
    p_x,
    p_step,
    p_z,
    p_b,
    p_c,
    p_bias,
    p_a,
    p_d,
    p_entries,
    p_before,
    p_grad_x,
    p_grad_step,
    p_grad_z,
    p_grad_b,
    p_grad_c,
    p_grad_bias,
    p_grad_a,
    p_grad_d,
    inner,
    length,
    batch,
    grad_y_clip,
    grad_y_row,
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
):
    """B_CHANNELS channels of one clip, blocks of tokens from the last to the first: each forward, then backward."""
    PIECES: tl.constexpr = (STATES + B_STATES - 1) // B_STATES
    tiles = tl.cdiv(inner, B_CHANNELS)
    clip = (tl.program_id(0) // tiles).to(tl.int64)
    tile = tl.program_id(0) % tiles
    o_c = tile * B_CHANNELS + tl.arange(0, B_CHANNELS)  # (B_CHANNELS)
    m_c = o_c < inner
    o_n = tl.arange(0, B_STATES)[None, :] + tl.zeros([B_CHANNELS, 1], tl.int32)  # (B_CHANNELS, B_STATES), as in forward
    o_before = tl.arange(0, B_CHANNELS)[:, None] * B_STATES + o_n  # (B_CHANNELS, B_STATES)
    m_one = tl.arange(0, B_CHANNELS)[:, None] == 0  # sums over channels are stored from the lanes that hold channel 0
    p_grad_y += clip * grad_y_clip
    p_x += clip * x_clip
    p_step += clip * step_clip
    p_b = clip_start(p_b, clip * b_clip, TOGETHER)
    p_c = clip_start(p_c, clip * c_clip, TOGETHER)
    p_grad_x += clip * length * inner
    p_grad_step += clip * length * inner
    p_grad_b += (tile * batch + clip) * length * STATES
    p_grad_c += (tile * batch + clip) * length * STATES
    if p_z is not None:
        p_z += clip * z_clip
        p_grad_z += clip * length * inner
    blocks = tl.cdiv(length, BLOCK)
    p_entries += clip * blocks * inner * STATES
    p_before += (clip * tiles + tile) * BLOCK * PIECES * B_CHANNELS * B_STATES

    bias = tl.load(p_bias + o_c, mask=m_c, other=0.0)
    d = tl.load(p_d + o_c, mask=m_c, other=0.0)
    rates = load_rates(p_a, o_c, m_c, o_n, STATES, B_STATES)
    grad_state, grad_a = zeros(rates), zeros(rates)  # of the state, from the tokens behind; of a, from all
    grad_bias, grad_d = tl.zeros([B_CHANNELS], tl.float32), tl.zeros([B_CHANNELS], tl.float32)
    for back in range(blocks):
        block = blocks - 1 - back
        start = block * BLOCK
        stop = tl.minimum(start + BLOCK, length)

        state = load_states(p_entries + block * inner * STATES, o_c, m_c, o_n, STATES, B_STATES)
        for t in range(start, stop):
            row = length - 1 - t if REVERSE else t
            x = tl.load(p_x + row * x_row + o_c, mask=m_c, other=0.0).to(tl.float32)
            step = tl.load(p_step + row * step_row + o_c, mask=m_c, other=0.0).to(tl.float32)
            b = float32(load_row(p_b + tl.multiple_of(row * b_row, TOGETHER), o_n, STATES, B_STATES))
            delta = softplus(step + bias)
            drive = (delta * x)[:, None]
            updated = ()
            for k in tl.static_range(PIECES):
                o_t = ((t - start) * PIECES + k) * B_CHANNELS * B_STATES
                tl.store(p_before + o_t + o_before, state[k])
                updated = updated + (tl.fma(tl.exp2(delta[:, None] * rates[k]), state[k], drive * b[k]),)
            state = updated
        tl.debug_barrier()  # what one lane has stored another may load

        for t in range(stop - 1, start - 1, -1):
            row = length - 1 - t if REVERSE else t
            grad_y = tl.load(p_grad_y + row * grad_y_row + o_c, mask=m_c, other=0.0).to(tl.float32)
            x = tl.load(p_x + row * x_row + o_c, mask=m_c, other=0.0).to(tl.float32)
            step = tl.load(p_step + row * step_row + o_c, mask=m_c, other=0.0).to(tl.float32) + bias
            b = float32(load_row(p_b + tl.multiple_of(row * b_row, TOGETHER), o_n, STATES, B_STATES))
            c = float32(load_row(p_c + tl.multiple_of(row * c_row, TOGETHER), o_n, STATES, B_STATES))
            delta = softplus(step)
            drive = (delta * x)[:, None]
            if p_z is not None:  # grad_y becomes the gradient of y before the gate
                z = tl.load(p_z + row * z_row + o_c, mask=m_c, other=0.0).to(tl.float32)
                gate = sigmoid(z)
                grad_gated = grad_y
                grad_y *= z * gate
            before = ()
            for k in tl.static_range(PIECES):
                o_t = ((t - start) * PIECES + k) * B_CHANNELS * B_STATES
                before = before + (tl.load(p_before + o_t + o_before),)
            read = tl.zeros([B_CHANNELS, B_STATES], tl.float32)
            grad_drive = tl.zeros([B_CHANNELS, B_STATES], tl.float32)
            grad_rate = tl.zeros([B_CHANNELS, B_STATES], tl.float32)
            updated, updated_a = (), ()
            for k in tl.static_range(PIECES):
                decay = tl.exp2(delta[:, None] * rates[k])
                kept = decay * before[k]
                state_k = tl.fma(drive, b[k], kept)
                grad_k = tl.fma(grad_y[:, None], c[k], grad_state[k])
                grad_exponent = grad_k * kept  # d exp(delta a) = exp(delta a) d(delta a)
                grad_drive = tl.fma(grad_k, b[k], grad_drive)
                grad_rate = tl.fma(grad_exponent, rates[k], grad_rate)
                updated = updated + (decay * grad_k,)
                updated_a = updated_a + (tl.fma(grad_exponent, delta[:, None], grad_a[k]),)
                if p_z is not None:
                    read = tl.fma(state_k, c[k], read)
                o_k = k * B_STATES + o_n
                grad_b = tl.broadcast_to(tl.sum(grad_k * drive, 0)[None, :], o_n.shape)
                grad_c = tl.broadcast_to(tl.sum(state_k * grad_y[:, None], 0)[None, :], o_n.shape)
                tl.store(p_grad_b + row * STATES + o_k, grad_b, mask=m_one & (o_k < STATES))
                tl.store(p_grad_c + row * STATES + o_k, grad_c, mask=m_one & (o_k < STATES))
            grad_state, grad_a = updated, updated_a
            drive_sum = tl.sum(grad_drive, 1)
            grad_delta = tl.fma(drive_sum, x, LN2 * tl.sum(grad_rate, 1))
            grad_step = grad_delta * sigmoid(step)
            grad_x = tl.fma(drive_sum, delta, grad_y * d)
            o_row = row * inner + o_c
            tl.store(p_grad_x + o_row, grad_x.to(p_grad_x.dtype.element_ty), mask=m_c)
            tl.store(p_grad_step + o_row, grad_step.to(p_grad_step.dtype.element_ty), mask=m_c)
            if p_z is not None:
                y = tl.fma(d, x, tl.sum(read, 1))
                grad_z = grad_gated * y * gate * tl.fma(z, 1.0 - gate, 1.0)
                tl.store(p_grad_z + o_row, grad_z.to(p_grad_z.dtype.element_ty), mask=m_c)
            grad_bias += grad_step
            grad_d = tl.fma(grad_y, x, grad_d)
        tl.debug_barrier()  # all lanes have loaded before the next block's states are stored

    tl.store(p_grad_bias + clip * inner + o_c, grad_bias, mask=m_c)
    tl.store(p_grad_d + clip * inner + o_c, grad_d, mask=m_c)
    store_states(p_grad_a + clip * inner * STATES, grad_a, o_c, m_c, o_n, STATES, B_STATES)
