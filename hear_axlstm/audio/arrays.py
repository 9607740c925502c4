"""Samples in memory, in an array, a tensor or a list -> mono float32 samples at the rate that they have."""

from __future__ import annotations

import logging
import sys
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hear_axlstm.audio.files import Wave
from hear_axlstm.errors import AudioError

EXPECTED = "expected (n_samples,) or (n_samples, channels), floats in [-1, 1] or int8, int16 or int32"
CHANNELS = 8  # that may come first, as (channels, n_samples), where there are far more samples:
SAMPLES_A_CHANNEL = 25
NUMBERS = "biufc"  # kinds of dtypes
QUIET = 1 << 24  # a peak that integers of 32 bits hardly stay below, unless they hold 16 or 24 bits

logger = logging.getLogger(__name__)


def mixed(samples: Any, name: str, channels_first: bool | None = None) -> Wave:
    """The mean of the channels of samples, (n,) or (n, channels) or (channels, n), as float32.

    channels_first: whether they are (channels, n); None: where that can be told, by the shape. name: what the log calls it.

    Raises AudioError, without the name.
    """
    array = _scaled(_array(samples, channels_first), name)
    if array.ndim == 2 and has_channels_first(samples, array.shape, channels_first):
        array = array.T
    with np.errstate(over="ignore"):  # it becomes infinite, which is refused
        mono = array.astype(np.float32)
        return mono if mono.ndim == 1 else mono.mean(axis=1, dtype=np.float32)


def length(samples: Any, channels_first: bool | None = None) -> int:
    """How many samples of a channel there are, by the shape alone. Raises AudioError, without the name."""
    shape = tuple(samples.shape) if hasattr(samples, "shape") else _array(samples, channels_first).shape
    _check_shape(samples, shape, channels_first)
    return int(shape[len(shape) == 2 and has_channels_first(samples, shape, channels_first)])


def is_number(value: Any) -> bool:
    """Whether a value is a number, also as an array or tensor without dimensions, as rows of data sets have it."""
    return isinstance(value, Real) or (getattr(value, "ndim", None) == 0 and not isinstance(value, str | bytes))


def holds_numbers(array: Any) -> bool:
    """Whether what has a shape and a dtype holds numbers, rather than names or objects."""
    kind = getattr(array.dtype, "kind", None)
    if kind is None and not is_tensor(array):  # of polars, perhaps
        kind = np.asarray(array[:1]).dtype.kind
    return kind is None or kind in NUMBERS


def is_tensor(value: Any) -> bool:
    """Whether a value is a tensor of torch, without importing that: whoever has one did."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def no_pair(parts: tuple[Any, ...]) -> AudioError:
    """What is wrong with a tuple that is neither samples nor a pair of samples and a rate."""
    of = ", ".join(type(part).__name__ for part in parts[:5])
    return AudioError(f"is a tuple ({of}); expected (samples, rate), where the rate is a number of Hz")


def has_channels_first(samples: Any, shape: tuple[int, ...], known: bool | None = None) -> bool:
    """Whether an array has its channels first: as is known, or by its shape. A list of lists is none: it may be sounds."""
    if known is not None:
        return known
    return hasattr(samples, "shape") and 0 < shape[0] <= CHANNELS and shape[1] >= SAMPLES_A_CHANNEL * shape[0]


def _array(samples: Any, channels_first: bool | None) -> NDArray[Any]:
    """The samples as numbers, in one or two dimensions. Raises AudioError, without the name."""
    kind = type(samples).__name__
    try:
        if is_tensor(samples):
            samples = samples.detach().cpu().resolve_conj().resolve_neg()
            samples = samples.float() if samples.is_floating_point() and samples.itemsize != 8 else samples
        array = np.asarray(samples.astype(float).filled(np.nan) if np.ma.is_masked(samples) else samples)
    except Exception as error:  # of whatever library it is from
        if isinstance(samples, tuple):
            raise no_pair(samples) from error
        raise AudioError(f"is a {kind} that gives no array ({error}); {EXPECTED}") from error
    if array.dtype.kind not in NUMBERS:
        raise AudioError(f"is a {kind} that holds no numbers ({array.dtype}); {EXPECTED}")
    _check_shape(samples, array.shape, channels_first)
    return array


def _check_shape(samples: Any, shape: tuple[int, ...], channels_first: bool | None) -> None:
    if not shape:
        raise AudioError(f"a single number; {EXPECTED}")
    if len(shape) == 1 or (len(shape) == 2 and 0 not in shape and has_channels_first(samples, shape, channels_first)):
        return
    if len(shape) > 2 or not 0 < shape[1] <= shape[0]:
        advice = "; for a batch pass list(batch), for channels first the transposed array" if len(shape) == 2 else ""
        raise AudioError(f"has shape {shape}; {EXPECTED}{advice}")


def _scaled(array: NDArray[Any], name: str) -> NDArray[np.floating]:
    """Floats in [-1, 1]. Raises AudioError, without the name, on types of another scale or none."""
    if array.dtype.kind == "f":
        return array
    if array.dtype.kind != "i" or array.dtype.itemsize == 8:
        hints = {
            "i": "int64 has no known scale: pass x.astype(np.int16) or what else it holds",
            "u": "pass x / 2**(bits - 1) - 1",
            "b": "true and false have no known scale",
            "c": "pass its real part",
        }
        raise AudioError(f"is {array.dtype}; {EXPECTED} ({hints[array.dtype.kind]})")
    if array.dtype.itemsize == 4 and array.size and 0 < (peak := max(int(array.max()), -int(array.min()))) < QUIET:
        logger.warning(
            "%s: is int32 with a peak of %d, embedded as very quiet; divide values of 16 bits by 2**15, of 24 by 2**23",
            name,
            peak,
        )
    return array / -float(np.iinfo(array.dtype).min)
