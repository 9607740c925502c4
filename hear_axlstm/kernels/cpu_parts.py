"""The shared parts of our Numba kernels: threads, access to tensors, and functions that the compiler turns into vector code.

A kernel is a C callback that every thread of torch's own OpenMP pool runs on its part of the rows. A pool of Numba's own
would compete with torch's, whose threads spin for a while after each operation.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from torch import Tensor

LOG2_E = np.float32(1.4426950408889634)
HALF, ONE = np.float32(0.5), np.float32(1.0)
LEAST, GREATEST = np.float32(-126.0), np.float32(127.0)  # exponents of float32 numbers that are not subnormal
# 2^f = sum_k (f ln 2)^k / k! for |f| <= 0.5; what is left out is below 1.3e-7.
P1, P2, P3, P4, P5, P6 = (
    np.float32(c) for c in (0.69314718, 0.24022651, 0.055504109, 0.0096181291, 0.0013333558, 0.00015403530)
)
SIGNATURE = types.void(types.CPointer(types.int64))
# Vector code needs sums in any order, and divisions that do not check for zero.
jit = functools.partial(numba.njit, fastmath=True, error_model="numpy")

KEPT_BYTES = 31 << 20  # glibc takes no hint above 32 MiB

thread_number = types.ExternalFunction("omp_get_thread_num", types.int32())
thread_count = types.ExternalFunction("omp_get_num_threads", types.int32())


@intrinsic
def floats(typing_context: Any, address: Any) -> Any:
    """A pointer to float32 from an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], ir.FloatType().as_pointer())

    return types.CPointer(types.float32)(types.int64), generate


@intrinsic
def from_bits(typing_context: Any, bits: Any) -> Any:
    """The float32 whose bits these are."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


@jit(inline="always")
def tensor(address, shape):  # type: ignore[no-untyped-def]
    """The float32 tensor at ``address``, without gaps."""
    return numba.carray(floats(address), shape)


@jit(inline="always")
def exp(x):  # type: ignore[no-untyped-def]
    """e^x to 2 ulp, for any x: 0 and infinity are replaced by the least and the greatest numbers."""
    t = min(max(x * LOG2_E, LEAST), GREATEST)
    whole = np.floor(t + HALF)
    f = t - whole
    power = ONE + f * (P1 + f * (P2 + f * (P3 + f * (P4 + f * (P5 + f * P6)))))
    return power * from_bits((np.int32(whole) + np.int32(127)) << np.int32(23))


@jit(inline="always")
def silu(x):  # type: ignore[no-untyped-def]
    return x / (ONE + exp(-x))


@jit(inline="always")
def share(count):  # type: ignore[no-untyped-def]
    """First and one past the last of ``count`` items that the present thread works on."""
    me, of = np.int64(thread_number()), np.int64(thread_count())
    return count * me // of, count * (me + 1) // of


def kernel(function: Callable[[Any], None]) -> Any:
    """Compile ``function(arguments)``, whose arguments are int64: sizes, and addresses of float32 tensors."""
    options = {"fastmath": True, "error_model": "numpy"}
    try:
        return numba.cfunc(SIGNATURE, cache=True, **options)(function)
    except RuntimeError:  # there is no folder that could be written to
        return numba.cfunc(SIGNATURE, **options)(function)


def launch(compiled: Any, *arguments: int | Tensor) -> None:
    """Run a kernel on all threads that torch uses; tensors are float32 and on the CPU."""
    packed = np.array([x.data_ptr() if isinstance(x, Tensor) else x for x in arguments], np.int64)
    _parallel()(compiled.address, packed.ctypes.data, torch.get_num_threads(), 0)


def plain(x: Tensor) -> Tensor:
    """``x`` in float32, without gaps: what a kernel reads as an array of its shape."""
    return x.float().contiguous()


def as_rows(x: Tensor) -> Tensor:
    """``x`` (B, L, n) in float32, with equal distances, ``x.stride(1)``, between tokens: copied unless it is so already."""
    even = x.stride(2) == 1 and (len(x) == 1 or x.stride(0) == x.shape[1] * x.stride(1))
    return x.float() if even else plain(x)


@functools.cache
def _parallel() -> Any:
    # Freeing a block of this size tells glibc to keep that much for the next allocations. Otherwise it returns what a layer
    # frees to the system, and the next layer waits for its pages again.
    torch.empty(KEPT_BYTES, dtype=torch.uint8)
    function = ctypes.CDLL(None).GOMP_parallel
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    function.restype = None
    return function
