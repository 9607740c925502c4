"""Rows of float32 or bfloat16 tensors in Numba kernels, and products of every four of their channels with 4 x 4 matrices.

A function on rows is compiled for both dtypes. Its first argument is an entry: SINGLE or HALF.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload
from torch import Tensor

from hear_axlstm.kernels.cpu_parts import ONE, exp, floats, from_bits, jit

SINGLE, HALF = np.float32(0), np.uint16(0)
ROUND, ODD, HIGH = np.int32(0x7FFF), np.int32(1), np.int32(16)


@intrinsic
def _shorts(typing_context: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], ir.IntType(16).as_pointer())

    return types.CPointer(types.uint16)(types.int64), generate


@intrinsic
def _bits_of(typing_context: Any, number: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), generate


def view(entry: Any, address: int, shape: tuple[int, ...]) -> Any:
    """The tensor at ``address``, without gaps, whose entries are of the type of ``entry``: SINGLE, or HALF, their bits."""
    raise NotImplementedError  # outside of kernels


def wide(number: Any) -> Any:
    """The float32 of an entry of a tensor."""
    raise NotImplementedError


def narrow(number: Any, to: Any) -> Any:
    """A float32 as the tensor ``to`` keeps its entries."""
    raise NotImplementedError


@overload(view, jit_options={"fastmath": True})
def _view(entry, address, shape):  # type: ignore[no-untyped-def]
    if entry == types.uint16:
        return lambda entry, address, shape: numba.carray(_shorts(address), shape)
    return lambda entry, address, shape: numba.carray(floats(address), shape)


@overload(wide, jit_options={"fastmath": True})
def _wide(number):  # type: ignore[no-untyped-def]
    if number == types.uint16:
        return lambda number: from_bits(np.int32(number) << HIGH)
    return lambda number: number


@overload(narrow, jit_options={"fastmath": True})
def _narrow(number, to):  # type: ignore[no-untyped-def]
    if to.dtype == types.uint16:

        def rounded(number, to):  # type: ignore[no-untyped-def]
            bits = _bits_of(number)
            return np.uint16((bits + ROUND + ((bits >> HIGH) & ODD)) >> HIGH)

        return rounded
    return lambda number, to: number


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


def as_rows(x: Tensor) -> Tensor:
    """``x`` (B, L, n) with equal distances, ``x.stride(1)``, between tokens: copied unless it is so already."""
    even = x.stride(2) == 1 and (len(x) == 1 or x.stride(0) == x.shape[1] * x.stride(1))
    return x if even else x.contiguous()


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
