"""The convolution and what an mLSTM reads, in Triton. Explained in README.md."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from hear_axlstm.kernels.conv.cuda_backward import gradients
from hear_axlstm.kernels.conv.cuda_tiles import computed_once, convolve, load_mix, load_taps
from hear_axlstm.kernels.cuda_parts import as_rows, from_quads, sigmoid, to_quads


class Tile(NamedTuple):
    """The block of a step of a program's loop over channels."""

    tokens: int
    channels: int
    warps: int


MIX = Tile(tokens=64, channels=64, warps=4)  # a thread has four tokens of eight channels: its many weights serve four times
PLAIN = Tile(tokens=32, channels=64, warps=4)  # without weights of a mix and gates, or without registers for more: float32
LATENCY = Tile(tokens=16, channels=64, warps=4)  # one token of eight channels, in twice to four times as many programs
FEW = 264  # blocks: fewer do not give every multiprocessor of an H200 two programs
MANY = 1024  # programs that keep an H200 busy: the channels of a token are shared out among several while there are fewer


def causal_conv_silu(x: Tensor, weight: Tensor, bias: Tensor, *, reverse: bool = False) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        parameters = (parameter.float().contiguous() for parameter in (weight[:, 0], bias))
        c: Tensor = _run(as_rows(x), *parameters, None, None, None, reverse)[0]
        return c


def conv_mix_gates(
    x: Tensor, weight: Tensor, bias: Tensor, mix: Tensor, gate_c: Tensor, gate_x: Tensor, *, reverse: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    with torch.autocast(x.device.type, enabled=False):
        parameters = (weight[:, 0], bias, mix.flatten(1), gate_c, gate_x)
        c, v, gates = _run(as_rows(x), *(parameter.float().contiguous() for parameter in parameters), reverse)
        return c, v, gates


def _run(*arguments: Any) -> Any:
    *operands, _ = arguments
    if torch.is_grad_enabled() and any(operand is not None and operand.requires_grad for operand in operands):
        return _Conv.apply(*arguments)
    return _forward(*arguments)


class _Conv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor | None, ...]:
        *operands, ctx.reverse = arguments
        ctx.save_for_backward(*operands)
        return _forward(*arguments)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_c: Tensor, grad_v: Tensor | None, grad_gates: Tensor | None) -> tuple[Tensor | None, ...]:
        return *gradients(grad_c, grad_v, grad_gates, *ctx.saved_tensors, reverse=ctx.reverse), None


def _forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    mix: Tensor | None,
    gate_c: Tensor | None,
    gate_x: Tensor | None,
    reverse: bool,
) -> tuple[Tensor | None, ...]:
    """c, v and the gates, the latter two None if ``mix`` is. Shape: weight (n, W), mix (n / 4, 16), others as in ops."""
    batch, length, inner = x.shape
    tile = PLAIN if mix is None or x.dtype == torch.float32 else MIX
    channel_tiles = triton.cdiv(inner, tile.channels)
    few = batch * triton.cdiv(length, tile.tokens) * channel_tiles < FEW
    tile = LATENCY if few else tile
    token_tiles = batch * triton.cdiv(length, tile.tokens)
    share = triton.cdiv(channel_tiles, max(1, MANY // max(1, token_tiles)))  # tiles of channels per program
    parts = triton.cdiv(channel_tiles, share)
    if not few:
        weight, mix = _channels_together(weight), None if mix is None else _channels_together(mix)
    count = 0 if gate_c is None else len(gate_c)
    c = x.new_empty(x.shape)
    v, sums = (None, None) if mix is None else (x.new_empty(x.shape), bias.new_empty(parts, batch, length, count))
    with torch.cuda.device_of(x):
        _conv_forward[(token_tiles, parts)](
            *(x, weight, bias, mix, gate_c, gate_x, c, v, sums),
            *(inner, length, batch, share * tile.channels),
            *(*x.stride()[:2], *weight.stride(), *((0, 0) if mix is None else mix.stride())),
            GATES=count,
            REVERSE=reverse,
            TAPS=weight.shape[1],
            B_TOKENS=tile.tokens,
            B_CHANNELS=tile.channels,
            B_GATES=max(8, triton.next_power_of_2(count)),
            num_warps=tile.warps,
            num_stages=1,
        )
    return c, v, sums if sums is None else sums[0] if parts == 1 else sums.sum(0)


def _channels_together(weight: Tensor) -> Tensor:
    """The same numbers, those of neighbouring channels (groups) side by side in memory.

    A thread's loads are then few and wide. It takes a launch, which is worth it when there is much else to do.
    """
    return weight.T.contiguous().T


@triton.jit
def _load_gates(p_gate, o_g, m_g, o_c, m_c, inner, low, dtype: tl.constexpr):
    """(B_CHANNELS, 2 B_GATES) in ``dtype``: the leading digits of each gate's weights, and beside them the others."""
    weight = tl.load(p_gate + o_g[None, :] * inner + o_c[:, None], mask=m_g[None, :] & m_c[:, None], other=0.0)
    if dtype == tl.float32:
        return tl.where(low[None, :], 0.0, weight)
    digits: tl.constexpr = -8192 if dtype == tl.float16 else -65536  # all but the last 13 or 16 of the 23 binary digits
    leading = (weight.to(tl.int32, bitcast=True) & digits).to(tl.float32, bitcast=True)
    return tl.where(low[None, :], weight - leading, leading).to(dtype)


@triton.jit
def _conv_forward(
    p_x,
    p_weight,
    p_bias,
    p_mix,
    p_gate_c,
    p_gate_x,
    p_c,
    p_v,
    p_sums,
    inner,
    length,
    batch,
    share,
    x_clip,
    x_row,
    weight_channel,
    weight_tap,
    mix_group,
    mix_entry,
    GATES: tl.constexpr,
    REVERSE: tl.constexpr,
    TAPS: tl.constexpr,
    B_TOKENS: tl.constexpr,
    B_CHANNELS: tl.constexpr,
    B_GATES: tl.constexpr,
):
    """B_TOKENS tokens of one clip, ``share`` channels of them."""
    tiles = tl.cdiv(length, B_TOKENS)
    clip = (tl.program_id(0) // tiles).to(tl.int64)
    o_t = tl.program_id(0) % tiles * B_TOKENS + tl.arange(0, B_TOKENS)
    m_t = o_t < length
    row = length - 1 - o_t if REVERSE else o_t
    p_x += clip * x_clip
    p_c += clip * length * inner
    if p_v is not None:
        p_v += clip * length * inner
        low = tl.arange(0, 2 * B_GATES) % 2 == 1
        o_g = tl.arange(0, 2 * B_GATES) // 2
        m_g = o_g < GATES
        sums = tl.zeros([B_TOKENS, 2 * B_GATES], tl.float32)
    first = tl.program_id(1) * share
    for channel in range(first, tl.minimum(first + share, inner), B_CHANNELS):
        o_c = channel + tl.arange(0, B_CHANNELS)
        m_c = o_c < inner
        o_out = row[:, None] * inner + o_c[None, :]
        m_out = m_t[:, None] & m_c[None, :]
        taps = load_taps(p_weight, weight_channel, weight_tap, o_c, m_c, TAPS)
        bias = tl.load(p_bias + o_c, mask=m_c, other=0.0)
        total, tokens = convolve(p_x, x_row, o_t, length, o_c, m_c, taps, bias, REVERSE)
        x = tokens[0]
        # Its two uses, the store and the product, want it in different threads.
        c = computed_once((total * sigmoid(total)).to(x.dtype))
        tl.store(p_c + o_out, c, mask=m_out)
        if p_v is not None:
            o_q = channel // 4 + tl.arange(0, B_CHANNELS // 4)
            mix = load_mix(p_mix, mix_group, mix_entry, o_q, o_q < inner // 4)
            quads = to_quads(x.to(tl.float32))
            mixed = ()
            for out in tl.static_range(4):
                mixed_out = mix[4 * out][None, :] * quads[0]
                for i in tl.static_range(1, 4):
                    mixed_out += mix[4 * out + i][None, :] * quads[i]
                mixed = mixed + (mixed_out,)
            tl.store(p_v + o_out, from_quads(mixed).to(x.dtype), mask=m_out)
            sums = tl.dot(c, _load_gates(p_gate_c, o_g, m_g, o_c, m_c, inner, low, x.dtype), sums, input_precision="ieee")
            sums = tl.dot(x, _load_gates(p_gate_x, o_g, m_g, o_c, m_c, inner, low, x.dtype), sums, input_precision="ieee")
    if p_v is not None:
        gates = tl.sum(tl.reshape(sums, [B_TOKENS, B_GATES, 2]), 2)
        o_g = tl.arange(0, B_GATES)
        p_sums += (tl.program_id(1) * batch + clip) * length * GATES
        tl.store(p_sums + row[:, None] * GATES + o_g[None, :], gates, mask=m_t[:, None] & (o_g < GATES)[None, :])
