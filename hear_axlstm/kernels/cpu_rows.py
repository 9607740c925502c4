"""Rows of float32 or bfloat16 tensors in Numba kernels, and products of every four of their channels with 4 x 4 matrices.

A function on rows is compiled for both dtypes. Its first argument is an entry: SINGLE or HALF.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hear_axlstm.kernels.cpu_parts import ONE, exp, jit
from hear_axlstm.kernels.cpu_source import intrinsic, ir, numba, types

SINGLE, HALF = np.float32(0), np.uint16(0)


@intrinsic
def _pointer(typing_context: Any, entry: Any, address: Any) -> Any:
    element, of_llvm = (types.uint16, ir.IntType(16)) if entry == types.uint16 else (types.float32, ir.FloatType())

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[1], of_llvm.as_pointer())

    return types.CPointer(element)(entry, types.int64), generate


@intrinsic
def wide(typing_context: Any, entry: Any) -> Any:
    """The float32 of an entry of a tensor."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if entry != types.uint16:
            return arguments[0]
        bits = builder.shl(builder.zext(arguments[0], ir.IntType(32)), ir.Constant(ir.IntType(32), 16))
        return builder.bitcast(bits, ir.FloatType())

    return types.float32(entry), generate


@intrinsic
def narrow(typing_context: Any, number: Any, to: Any) -> Any:
    """A float32 as the tensor ``to`` keeps its entries: the nearest, ties to even."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if to.dtype != types.uint16:
            return arguments[0]
        whole = ir.IntType(32)
        half, one, least = (ir.Constant(whole, number) for number in (16, 1, 0x7FFF))
        bits = builder.bitcast(arguments[0], whole)
        odd = builder.and_(builder.lshr(bits, half), one)
        return builder.trunc(builder.lshr(builder.add(bits, builder.add(odd, least)), half), ir.IntType(16))

    return to.dtype(types.float32, to), generate


@jit(inline="always")
def view(entry, address, shape):  # type: ignore[no-untyped-def]
    """The tensor at ``address``, without gaps, whose entries are of the type of ``entry``: SINGLE, or HALF, their bits."""
    return numba.carray(_pointer(entry, address), shape)


@jit
def sigmoid(x):  # type: ignore[no-untyped-def]
    return ONE / (ONE + exp(-x))


@jit
def mix_row(row, planes, out):  # type: ignore[no-untyped-def]
    """Every four channels of a row by their 4 x 4 matrix, as float32."""
    m00, m01, m02, m03, m10, m11, m12, m13 = (
        planes[0],
        planes[1],
        planes[2],
        planes[3],
        planes[4],
        planes[5],
        planes[6],
        planes[7],
    )
    m20, m21, m22, m23, m30, m31, m32, m33 = (
        planes[8],
        planes[9],
        planes[10],
        planes[11],
        planes[12],
        planes[13],
        planes[14],
        planes[15],
    )
    for group in range(len(m00)):
        i = 4 * group
        x0, x1, x2, x3 = wide(row[i]), wide(row[i + 1]), wide(row[i + 2]), wide(row[i + 3])
        out[i] = m00[group] * x0 + m01[group] * x1 + m02[group] * x2 + m03[group] * x3
        out[i + 1] = m10[group] * x0 + m11[group] * x1 + m12[group] * x2 + m13[group] * x3
        out[i + 2] = m20[group] * x0 + m21[group] * x1 + m22[group] * x2 + m23[group] * x3
        out[i + 3] = m30[group] * x0 + m31[group] * x1 + m32[group] * x2 + m33[group] * x3


@jit
def _add_products(outs, row, plane0, plane1, plane2, plane3):  # type: ignore[no-untyped-def]
    for group in range(len(plane0)):
        i = 4 * group
        y = wide(outs[i])
        plane0[group] += y * wide(row[i])
        plane1[group] += y * wide(row[i + 1])
        plane2[group] += y * wide(row[i + 2])
        plane3[group] += y * wide(row[i + 3])


@jit
def add_outer(outs, row, planes):  # type: ignore[no-untyped-def]
    """Add to every 4 x 4 matrix the outer product of the four channels that it made and those that it read."""
    for out in range(4):  # more sums at once, and the compiler makes no vector code: it would have to compare their places
        p = 4 * out
        _add_products(outs[out:], row, planes[p], planes[p + 1], planes[p + 2], planes[p + 3])


def planes_of(mix: Tensor) -> Tensor:
    """The matrices of ``mix_row``, entry by entry. Shape: (n / 4, 4 out, 4 in) -> (16, n / 4), float32."""
    return mix.float().flatten(1).T.contiguous()


def mix_of(planes: Tensor) -> Tensor:
    """What ``planes_of`` was made of. Shape: (16, n / 4) -> (n / 4, 4 out, 4 in)."""
    return planes.T.unflatten(1, (4, 4))


def zeros_per_thread(*shape: int) -> Tensor:
    """Where each thread adds up its tokens: a sum of these, in the order of threads, has the same bits every time."""
    return torch.zeros(torch.get_num_threads(), *shape)


def gradients_in_torch(operation: Callable[..., Any], operands: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[Any]:
    """The gradients of an operation's operands, made of torch operations, so that there are gradients of them, too."""
    apart = [operand.view_as(operand) for operand in operands]  # one operand may have been made of another
    results = operation(*apart)
    wanted = [operand for operand in apart if operand.requires_grad]
    found = iter(torch.autograd.grad(results, wanted, gradients, create_graph=True))
    return [next(found) if operand.requires_grad else None for operand in apart]
