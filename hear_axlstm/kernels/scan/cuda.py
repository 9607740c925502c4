"""The gated scan in Triton, with gradients. README.md beside this derives both directions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hear_axlstm.kernels.cuda_parts import as_rows
from hear_axlstm.kernels.scan.cuda_backward import scan_backward
from hear_axlstm.kernels.scan.cuda_forward import entry_shape, scan_forward


def gated_scan(*operands: Any, reverse: bool = False) -> Tensor:
    """The operation of ``ops.scan``, in float16, bfloat16 or float32, differentiable."""
    x, step, step_bias, a, b, c, d, z = operands
    with torch.autocast(x.device.type, enabled=False):
        x, step, b, c = (as_rows(operand) for operand in (x, step, b, c))
        step_bias, a, d = (parameter.float().contiguous() for parameter in (step_bias, a, d))
        given = x, step, step_bias, a, b, c, d, None if z is None else as_rows(z)
        if torch.is_grad_enabled() and any(operand is not None and operand.requires_grad for operand in given):
            y: Tensor = _GatedScan.apply(*given, reverse)
            return y
        return scan_forward(*given, entries=None, reverse=reverse)


class _GatedScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        *operands, reverse = arguments
        x, a = operands[0], operands[3]
        entries = a.new_empty(entry_shape(x, a))
        y = scan_forward(*operands, entries=entries, reverse=reverse)
        ctx.save_for_backward(*operands, entries)
        ctx.reverse = reverse
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        *operands, entries = ctx.saved_tensors
        return *scan_backward(as_rows(grad_y), *operands, entries=entries, reverse=ctx.reverse), None
