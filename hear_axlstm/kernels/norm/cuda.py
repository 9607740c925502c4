"""Residual addition and layer norm in Triton. README.md beside this derives the gradients."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

# Numbers of a block of rows per warp. A row with no more channels is in one warp, and its sums need no shared memory.
FORWARD = 1024
BACKWARD = 512  # which holds several blocks in registers
LATENCY = 256  # forward, with fewer than FEW programs
FEW = 528  # four on each multiprocessor of an H200
PROGRAMS = 1056  # of backward, each of which leaves a row of sums: eight on each multiprocessor of an H200


def add_norm(
    x: Tensor, update: Tensor | None, weight: Tensor, bias: Tensor | None, *, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    with torch.autocast(x.device.type, enabled=False):
        x, weight = x.float().contiguous(), weight.float().contiguous()
        update = None if update is None else update.contiguous()
        bias = None if bias is None else bias.float().contiguous()
        operands = x, update, weight, bias
        if torch.is_grad_enabled() and any(operand is not None and operand.requires_grad for operand in operands):
            total, normed = _AddNorm.apply(*operands, eps, dtype)
        else:
            total, normed = _forward(*operands, eps, dtype)
        return x if update is None else total, normed


class _AddNorm(torch.autograd.Function):
    """Returns None for the sum where there is no update: it is x itself then."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor | None, Tensor]:
        x, update, weight, bias, ctx.eps, _ = arguments
        total, normed = _forward(*arguments)
        ctx.save_for_backward(x if total is None else total, weight)
        ctx.update_dtype, ctx.biased = None if update is None else update.dtype, bias is not None
        ctx.set_materialize_grads(False)
        return total, normed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor | None, grad_normed: Tensor | None) -> tuple[Tensor | None, ...]:
        total, weight = ctx.saved_tensors
        if grad_normed is None:
            grad_normed = torch.zeros_like(total)
        return *_backward(grad_total, grad_normed, total, weight, ctx.update_dtype, ctx.biased, ctx.eps), None, None


def _forward(
    x: Tensor, update: Tensor | None, weight: Tensor, bias: Tensor | None, eps: float, dtype: torch.dtype
) -> tuple[Tensor | None, Tensor]:
    """x + update, None if there is no update, and the norm."""
    width = x.shape[-1]
    total, normed = None if update is None else torch.empty_like(x), torch.empty_like(x, dtype=dtype)
    rows = x.numel() // width
    b_width, b_rows, warps = _block(width, FORWARD)
    if triton.cdiv(rows, b_rows) < FEW:
        b_width, b_rows, warps = _block(width, LATENCY)
    with torch.cuda.device_of(x):
        _add_norm[(triton.cdiv(rows, b_rows),)](
            *(x, update, weight, bias, total, normed),
            *(rows, width, eps),
            B_ROWS=b_rows,
            B_WIDTH=b_width,
            num_warps=warps,
        )
    return total, normed


def _backward(
    grad_total: Tensor | None,
    grad_normed: Tensor,
    total: Tensor,
    weight: Tensor,
    update_dtype: torch.dtype | None,
    biased: bool,
    eps: float,
) -> tuple[Tensor | None, ...]:
    """The gradients of x, update, weight and bias."""
    width = total.shape[-1]
    grad_total, grad_normed = None if grad_total is None else grad_total.contiguous(), grad_normed.contiguous()
    b_width, b_rows, warps = _block(width, BACKWARD)
    rows = total.numel() // width
    share = triton.cdiv(triton.cdiv(rows, b_rows), PROGRAMS) * b_rows  # rows of a program
    programs = triton.cdiv(rows, max(1, share))
    grad_x = torch.empty_like(total)
    grad_update = None
    if update_dtype is not None:
        grad_update = grad_x if update_dtype == torch.float32 else torch.empty_like(total, dtype=update_dtype)
    grad_weight, grad_bias = weight.new_empty(programs, width), weight.new_empty(programs, width) if biased else None
    with torch.cuda.device_of(total):
        _add_norm_backward[(programs,)](
            *(grad_total, grad_normed, total, weight, grad_x),
            *(None if grad_update is grad_x else grad_update, grad_weight, grad_bias),
            *(rows, width, share, eps),
            B_ROWS=b_rows,
            B_WIDTH=b_width,
            num_warps=warps,
        )
    return grad_x, grad_update, grad_weight.sum(0), None if grad_bias is None else grad_bias.sum(0)


def _block(width: int, per_warp: int) -> tuple[int, int, int]:
    """Channels and rows of a block, and warps."""
    b_width = triton.next_power_of_2(width)
    return b_width, max(1, per_warp // b_width), max(1, b_width // per_warp)


@triton.jit
def _statistics(total, m_w, width, eps):
    """(B_ROWS, B_WIDTH) the rows less their mean, 0 beyond the channels; (B_ROWS, 1) the reciprocal of their deviation."""
    centred = tl.where(m_w[None, :], total - (tl.sum(total, 1) / width)[:, None], 0.0)
    return centred, tl.rsqrt(tl.sum(centred * centred, 1) / width + eps)[:, None]


@triton.jit
def _add_norm(
    p_x, p_update, p_weight, p_bias, p_total, p_normed, rows, width, eps, B_ROWS: tl.constexpr, B_WIDTH: tl.constexpr
):
    o_w = tl.arange(0, B_WIDTH)
    m_w = o_w < width
    o_r = tl.program_id(0).to(tl.int64) * B_ROWS + tl.arange(0, B_ROWS)
    mask = (o_r < rows)[:, None] & m_w[None, :]
    offset = o_r[:, None] * width + o_w[None, :]
    total = tl.load(p_x + offset, mask=mask, other=0.0)
    if p_update is not None:
        total += tl.load(p_update + offset, mask=mask, other=0.0).to(tl.float32)
        tl.store(p_total + offset, total, mask=mask)
    centred, rstd = _statistics(total, m_w, width, eps)
    normed = centred * rstd * tl.load(p_weight + o_w, mask=m_w, other=0.0)[None, :]
    if p_bias is not None:
        normed += tl.load(p_bias + o_w, mask=m_w, other=0.0)[None, :]
    tl.store(p_normed + offset, normed.to(p_normed.dtype.element_ty), mask=mask)


@triton.jit
def _add_norm_backward(
    p_grad_total,
    p_grad_normed,
    p_total,
    p_weight,
    p_grad_x,
    p_grad_update,
    p_grad_weight,
    p_grad_bias,
    rows,
    width,
    share,
    eps,
    B_ROWS: tl.constexpr,
    B_WIDTH: tl.constexpr,
):
    """``share`` rows, and their sums for weight and bias."""
    o_w = tl.arange(0, B_WIDTH)
    m_w = o_w < width
    weight = tl.load(p_weight + o_w, mask=m_w, other=0.0)[None, :]
    of_weight = tl.zeros([B_WIDTH], tl.float32)
    of_bias = tl.zeros([B_WIDTH], tl.float32)
    first = tl.program_id(0).to(tl.int64) * share
    for start in range(0, share, B_ROWS):
        o_r = first + start + tl.arange(0, B_ROWS)
        mask = (o_r < rows)[:, None] & m_w[None, :]
        offset = o_r[:, None] * width + o_w[None, :]
        total = tl.load(p_total + offset, mask=mask, other=0.0)
        grad = tl.load(p_grad_normed + offset, mask=mask, other=0.0).to(tl.float32)
        centred, rstd = _statistics(total, m_w, width, eps)
        standard = centred * rstd
        of_weight += tl.sum(grad * standard, 0)
        of_bias += tl.sum(grad, 0)
        grad *= weight
        slope = tl.sum(grad * standard, 1) / width
        grad = (grad - (tl.sum(grad, 1) / width)[:, None] - standard * slope[:, None]) * rstd
        if p_grad_total is not None:
            grad += tl.load(p_grad_total + offset, mask=mask, other=0.0)
        tl.store(p_grad_x + offset, grad, mask=mask)
        if p_grad_update is not None:
            tl.store(p_grad_update + offset, grad.to(p_grad_update.dtype.element_ty), mask=mask)
    tl.store(p_grad_weight + tl.program_id(0) * width + o_w, of_weight, mask=m_w)
    if p_grad_bias is not None:
        tl.store(p_grad_bias + tl.program_id(0) * width + o_w, of_bias, mask=m_w)
