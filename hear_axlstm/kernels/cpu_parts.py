"""The shared parts of our Numba kernels: threads, access to tensors, and functions that the compiler turns into vector code.

A kernel is a C callback that every thread of torch's own OpenMP pool runs on its part of the rows. A pool of Numba's own
would compete with torch's, whose threads spin for a while after each operation.
"""

from __future__ import annotations

import ctypes
import functools
from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hear_axlstm.kernels.cpu_code import kept
from hear_axlstm.kernels.cpu_source import intrinsic, ir, made, numba, types

LOG2_E = np.float32(1.4426950408889634)
ZERO, HALF, ONE, TWO = (np.float32(number) for number in (0.0, 0.5, 1.0, 2.0))
A3, A5, A7, A9, A11, A13 = (np.float32(1 / k) for k in (3, 5, 7, 9, 11, 13))
LEAST, GREATEST = np.float32(-126.0), np.float32(127.0)  # exponents of float32 numbers that are not subnormal
# 2^f = 1 + f (P1 + f (P2 + ..)) for |f| <= 0.5, off by a part in 1.1e7 at most: the least maximum of that degree.
P1, P2, P3, P4, P5 = (np.float32(c) for c in (0.6931469776, 0.2402224209, 0.05550733744, 0.009671512649, 0.001326472707))
SIGNATURE = types.void(types.CPointer(types.int64))
# Vector code needs sums in any order, and divisions that do not check for zero.
jit = functools.partial(numba.njit, fastmath=True, error_model="numpy")

KEPT_BYTES = 31 << 20  # glibc takes no hint above 32 MiB

thread_number = types.ExternalFunction("omp_get_thread_num", types.int32())
thread_count = types.ExternalFunction("omp_get_num_threads", types.int32())


def pointer_to(element: Any, of_llvm: Any) -> Any:
    """An intrinsic that makes an address a pointer."""

    @intrinsic
    def pointer(typing_context: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], of_llvm.as_pointer())

        return types.CPointer(element)(types.int64), generate

    return pointer


def bits_as(element: Any, of_bits: Any, of_llvm: Any) -> Any:
    """An intrinsic that reads 32 bits as a number of another type."""

    @intrinsic
    def cast(typing_context: Any, bits: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.bitcast(arguments[0], of_llvm)

        return element(of_bits), generate

    return cast


floats, halves = pointer_to(types.float32, ir.FloatType()), pointer_to(types.uint16, ir.IntType(16))
integers = pointer_to(types.int64, ir.IntType(64))
from_bits = bits_as(types.float32, types.int32, ir.FloatType())
to_bits = bits_as(types.int32, types.float32, ir.IntType(32))


@jit(inline="always")
def tensor(address, shape):  # type: ignore[no-untyped-def]
    """The float32 tensor at ``address``, without gaps."""
    return numba.carray(floats(address), shape)


@jit(inline="always")
def read(address, half, start, row):  # type: ignore[no-untyped-def]
    """Fill ``row`` with what begins at number ``start`` of a tensor, which is bfloat16 if ``half``, else float32."""
    if half:
        given = numba.carray(halves(address + 2 * start), len(row))
        for i in range(len(row)):
            row[i] = from_bits(np.int32(given[i]) << np.int32(16))
    else:
        wide = numba.carray(floats(address + 4 * start), len(row))
        for i in range(len(row)):
            row[i] = wide[i]


@jit(inline="always")
def write(address, half, start, row):  # type: ignore[no-untyped-def]
    """Write ``row`` from number ``start`` of a tensor on, rounded to the nearest bfloat16, ties to even, if ``half``."""
    if half:
        taken = numba.carray(halves(address + 2 * start), len(row))
        for i in range(len(row)):
            bits = to_bits(row[i])
            taken[i] = np.uint16((bits + np.int32(0x7FFF) + ((bits >> np.int32(16)) & np.int32(1))) >> np.int32(16))
    else:
        wide = numba.carray(floats(address + 4 * start), len(row))
        for i in range(len(row)):
            wide[i] = row[i]


@jit(inline="always")
def exp(x):  # type: ignore[no-untyped-def]
    """e^x to 2 ulp, for any x."""
    return exp2(x * LOG2_E)


@jit(inline="always")
def exp2(x):  # type: ignore[no-untyped-def]
    """2^x for any x: 0 and infinity are replaced by the least and the greatest numbers."""
    t = min(max(x, LEAST), GREATEST)
    whole = np.floor(t + HALF)
    f = t - whole
    power = ONE + f * (P1 + f * (P2 + f * (P3 + f * (P4 + f * P5))))
    return power * from_bits((np.int32(whole) + np.int32(127)) << np.int32(23))


@jit(inline="always")
def silu(x):  # type: ignore[no-untyped-def]
    return x / (ONE + exp(-x))


@jit(inline="always")
def softplus(x):  # type: ignore[no-untyped-def]
    """log(1 + e^x) = max(x, 0) + log(1 + e), e = e^-|x|; the latter is 2 artanh(e / (2 + e)), whose series ends soon."""
    e = exp(-abs(x))
    s = e / (TWO + e)
    r = s * s
    series = ONE + r * (A3 + r * (A5 + r * (A7 + r * (A9 + r * (A11 + r * A13)))))
    return max(x, ZERO) + TWO * s * series


@jit(inline="always")
def share(count):  # type: ignore[no-untyped-def]
    """First and one past the last of ``count`` items that the present thread works on."""
    me, of = np.int64(thread_number()), np.int64(thread_count())
    return count * me // of, count * (me + 1) // of


def kernel(function: Callable[[Any], None]) -> Any:
    """Compile ``function(arguments)``, whose arguments are int64: sizes, and addresses of float32 tensors."""
    callback = numba.cfunc(SIGNATURE, fastmath=True, error_model="numpy")(function)
    return kept(f"{function.__module__}.{function.__name__}", repr(callback), lambda: made(callback))


def launch(compiled: Any, *arguments: int | Tensor) -> None:
    """Run a kernel on all threads that torch uses; tensors are on the CPU."""
    packed = array("q", [x.data_ptr() if isinstance(x, Tensor) else x for x in arguments])
    _parallel()(compiled.address, packed.buffer_info()[0], torch.get_num_threads(), 0)


def is_half(x: Tensor) -> bool:
    """Whether ``read`` and ``write`` are to take ``x`` for bfloat16."""
    return x.dtype == torch.bfloat16


def plain(x: Tensor) -> Tensor:
    """``x`` in float32, without gaps: what a kernel reads as an array of its shape."""
    return x.float().contiguous()


def as_rows(x: Tensor) -> Tensor:
    """``x`` (B, L, n) with equal distances, ``x.stride(1)``, between tokens: copied unless it is so already."""
    even = x.stride(2) == 1 and (len(x) == 1 or x.stride(0) == x.shape[1] * x.stride(1))
    return x if even else x.contiguous()


@functools.cache
def _parallel() -> Any:
    # Freeing a block of this size tells glibc to keep that much for the next allocations. Otherwise it returns what a layer
    # frees to the system, and the next layer waits for its pages again.
    torch.empty(KEPT_BYTES, dtype=torch.uint8)
    function = ctypes.CDLL(None).GOMP_parallel
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    function.restype = None
    return function
