"""The mLSTM on a CPU with gradients. README.md derives them; cpu_backward.py has what is not a product of matrices.

Products are made by torch in the dtype of the operands, for some clips and a block of queries at a time. Of the forward
pass only what the norm gives is kept, and a few numbers a token: weights are computed again, for some clips at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hear_axlstm.config import InputGate
from hear_axlstm.kernels.cpu_parts import as_rows, is_half, launch, plain
from hear_axlstm.kernels.cpu_rows import gradients_in_torch, mix_of, planes_of, zeros_per_thread
from hear_axlstm.kernels.mlstm import cpu_backward as compiled
from hear_axlstm.kernels.mlstm.cpu import stabilise
from hear_axlstm.ops import mlstm as ops

CLIPS = {torch.float32: 4, torch.bfloat16: 8}  # whose heads are multiplied at once
QUERIES = {torch.float32: 64, torch.bfloat16: 256}  # of a block: products are larger, and parts of them in vain


class Saved(NamedTuple):
    """Exponents of the gates, and what is left of heads before their norm. Shape: (B, H, L) each, ``normed`` (B, L, n)."""

    a: Tensor
    row_max: Tensor
    least: Tensor
    row_sum: Tensor
    rstd: Tensor
    normed: Tensor


class _Sizes(NamedTuple):
    half: bool
    batch: int
    length: int
    heads: int
    width: int


def gated_mlstm(*operands: Tensor, input_gate: InputGate = "exp", reverse: bool = False) -> Tensor:
    y: Tensor = _GatedMLSTM.apply(*operands, input_gate, reverse)
    return y


def fold(*weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """In plain torch: it is called once for all clips."""
    return ops.fold(*weights, backend="torch")


class _GatedMLSTM(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        *operands, ctx.input_gate, ctx.reverse = arguments
        with torch.autocast("cpu", enabled=False):
            y, saved = _forward(operands, ctx.input_gate, ctx.reverse)
        ctx.save_for_backward(*operands, *saved)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors  # which checkpoints compute again, once
        operands, saved = tensors[:7], Saved(*tensors[7:])
        if torch.is_grad_enabled():  # somebody wants gradients of gradients
            plain_torch = partial(ops.gated_mlstm, input_gate=ctx.input_gate, reverse=ctx.reverse, backend="torch")
            return *gradients_in_torch(plain_torch, operands, [dy]), None, None
        with torch.autocast("cpu", enabled=False):
            return *_backward(dy, operands, saved, ctx.input_gate, ctx.reverse), None, None


def _forward(operands: list[Tensor], input_gate: str, reverse: bool) -> tuple[Tensor, Saved]:
    c, v, z, gates, mix, norm_weight, skip = operands
    c, v, z = c.contiguous(), v.contiguous(), as_rows(z)
    sizes = _sizes(c, gates)
    _, batch, length, heads, _ = sizes
    numbers = torch.empty(5, batch, heads, length).unbind()
    saved = Saved(*(*numbers, torch.empty_like(c)))
    launch(stabilise, batch, length, heads, sizes.width, input_gate == "sigmoid", reverse, plain(gates), *saved[:3])
    weights, planes, y = (plain(norm_weight), plain(skip)), planes_of(mix), torch.empty_like(c)
    for clips in _groups(c):
        some = sizes._replace(batch=len(c[clips]))
        q, k, v_heads = _by_heads(some, c[clips], v[clips], planes)
        for rows, seen in _blocks(c, reverse):
            here = rows.start, rows.stop, seen.start, seen.stop
            scores = torch.bmm(q[:, rows], k[:, seen].mT)
            launch(compiled.weigh, *some, *here, reverse, *(x[clips] for x in saved[:2]), scores, saved.row_sum[clips])
            h = torch.bmm(scores, v_heads[:, seen])
            per_clip = (x[clips] for x in (c, z, *saved[2:], y))
            launch(compiled.finish, *some, *here, z.stride(1), h, *weights, *per_clip)
    return y, saved


def _backward(dy: Tensor, operands: tuple[Tensor, ...], saved: Saved, input_gate: str, reverse: bool) -> tuple[Tensor, ...]:
    """The gradients of the seven operands, in their order."""
    c, v, z, gates, mix, norm_weight, skip = operands
    c, v, z, dy = c.contiguous(), v.contiguous(), as_rows(z), dy.contiguous()
    sizes = _sizes(c, gates)
    _, batch, length, heads, width = sizes
    weights, planes, back = (plain(norm_weight), plain(skip)), planes_of(mix), planes_of(mix.mT)
    dc, dv, dz = (torch.empty_like(c) for _ in range(3))
    of_weights, of_mix = zeros_per_thread(2, heads * width), zeros_per_thread(16, len(mix))
    level, shift, d_max = torch.empty(3, batch, heads, length).unbind()
    d_a = torch.zeros(batch, heads, length)
    for clips in _groups(c):
        some = sizes._replace(batch=len(c[clips]))
        q, k, v_heads = _by_heads(some, c[clips], v[clips], planes)
        g, direct = torch.empty_like(q), torch.empty(c[clips].shape)
        per_clip = [x[clips] for x in (dy, c, z, *saved[2:], dz, level, shift)]
        launch(compiled.norm_backward, *some, z.stride(1), *weights, *per_clip, direct, g, of_weights)
        weighed, d_scores = q.new_empty(2, len(q), length, length).unbind()
        for rows, seen in _blocks(c, reverse):
            products = torch.bmm(q[:, rows], k[:, seen].mT), torch.bmm(g[:, rows], v_heads[:, seen].mT)
            here = rows.start, rows.stop, seen.start, seen.stop
            per_clip = [x[clips] for x in (*saved[:2], shift, d_max, d_a)]
            launch(compiled.weigh_backward, *some, *here, reverse, *products, *per_clip, weighed, d_scores)
        for rows, seen in _blocks(c, reverse):
            later = slice(0, rows.stop) if reverse else slice(rows.start, length)
            dq = torch.bmm(d_scores[:, rows, seen], k[:, seen])
            dk = torch.bmm(d_scores[:, later, rows].mT, q[:, later])
            dv_heads = torch.bmm(weighed[:, later, rows].mT, g[:, later])
            given = dq, dk, dv_heads, c[clips], direct, back
            launch(compiled.finish_backward, *some, rows.start, rows.stop, *given, dc[clips], dv[clips], of_mix)
    d_gates = torch.empty(gates.shape)
    launch(
        compiled.gates_backward,
        *sizes,
        input_gate == "sigmoid",
        reverse,
        plain(gates),
        *saved[:2],
        d_a,
        d_max,
        level,
        d_gates,
    )
    d_norm_weight, d_skip = of_weights.sum(0)
    return dc, dv, dz, d_gates, mix_of(of_mix.sum(0)), d_norm_weight, d_skip


def _sizes(c: Tensor, gates: Tensor) -> _Sizes:
    batch, length, inner = c.shape
    heads = gates.shape[2] // 2
    return _Sizes(is_half(c), batch, length, heads, inner // heads)


def _groups(c: Tensor) -> Iterator[slice]:
    """Clips whose heads are multiplied at once."""
    count = CLIPS[c.dtype]
    return (slice(first, first + count) for first in range(0, len(c), count))


def _blocks(c: Tensor, reverse: bool) -> Iterator[tuple[slice, slice]]:
    """Blocks of queries, and the keys that any of them sees."""
    length, queries = c.shape[1], QUERIES[c.dtype]
    for start in range(0, length, queries):
        stop = min(start + queries, length)
        yield slice(start, stop), slice(start, length) if reverse else slice(0, stop)


def _by_heads(sizes: _Sizes, c: Tensor, v: Tensor, planes: Tensor) -> tuple[Tensor, ...]:
    """Queries, keys and values, a matrix for each clip and head. Shape: (B H, L, K) each."""
    _, batch, length, heads, width = sizes
    found = c.new_empty(3, batch * heads, length, width).unbind()
    launch(compiled.by_heads, *sizes, c, v, planes, *found)
    return found
