"""Samples in memory -> mono float32 samples at 16 kHz."""

from __future__ import annotations

import io
import logging
import os
import sys
from numbers import Real
from typing import Any, BinaryIO

import numpy as np
import soxr
from numpy.typing import NDArray

from hear_axlstm.audio.files import Wave, audio_seconds, checked, read_audio
from hear_axlstm.audio.sources import MAX_RATE, MIN_RATE
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.errors import AudioError

EXPECTED = "expected (n_samples,) or (n_samples, channels), floats in [-1, 1] or int8, int16 or int32"
CHANNELS = 8  # that may come first, as (channels, n_samples), where there are far more samples:
SAMPLES_A_CHANNEL = 25
QUIET = 1 << 24  # a peak that integers of 32 bits hardly stay below, unless they hold 16 or 24 bits

logger = logging.getLogger(__name__)


def prepare_array(samples: Any, sample_rate: float, name: str, pad: bool = False) -> Wave:
    """Mono float32 at 16 kHz from samples in memory: (n,) or (n, channels), floats in [-1, 1] or int8, int16 or int32.

    Up to 8 channels may come first, (channels, n), as torchaudio has them, where n is 25 times as large at least.

    Integers are scaled by their type's range; int32 that seem to hold fewer bits get a warning in the log. Arrays, tensors
    on any device and lists are taken; pairs (samples, rate), or (rate, samples) as scipy reads files, and dicts
    {"array": samples, "sampling_rate": rate}, whose rate goes before ``sample_rate``; and what a file holds: bytes, an open
    file, {"bytes": bytes}. pad: as ``read_audio`` has it.

    Shape: -> (n_samples,). Raises AudioError, which starts with ``name``.
    """
    try:
        if (file := _as_file(samples)) is not None:
            return read_audio(file, name, pad)
        samples, sample_rate = _unpacked(samples, sample_rate)
        array = _scaled(_array(samples), name)
        array = array.T if _channels_first(samples, array.shape) else array
    except AudioError as error:
        raise _named(error, name) from error
    with np.errstate(over="ignore"):  # it becomes infinite, which is refused
        mono = array.astype(np.float32)
        mono = mono if mono.ndim == 1 else mono.mean(axis=1, dtype=np.float32)
    if sample_rate != SAMPLE_RATE:
        mono = soxr.resample(mono, sample_rate, SAMPLE_RATE)
    return checked(mono, name, pad)


def array_seconds(samples: Any, sample_rate: float, name: str) -> float:
    """The duration of what ``prepare_array`` takes, without looking at the values.

    Raises AudioError, which starts with ``name``, on some of what that does not take.
    """
    try:
        if (file := _as_file(samples)) is not None:
            return audio_seconds(file, name)
        samples, sample_rate = _unpacked(samples, sample_rate)
        shape = tuple(samples.shape) if hasattr(samples, "shape") else _array(samples).shape
        _check_shape(samples, shape)
        return int(shape[_channels_first(samples, shape)]) / float(sample_rate)
    except AudioError as error:
        raise _named(error, name) from error


def _as_file(samples: Any) -> BinaryIO | str | os.PathLike[str] | None:
    """The file that samples are still in: open, named, or its bytes; None where they are in none."""
    if isinstance(samples, dict) and "array" not in samples:
        samples = samples.get("bytes") or samples.get("path")
    if isinstance(samples, bytes | bytearray):
        return io.BytesIO(samples)
    if isinstance(samples, str | os.PathLike):
        return samples
    if not (hasattr(samples, "read") and hasattr(samples, "seek")):
        return None
    try:
        seeks = not isinstance(samples, io.TextIOBase) and samples.seekable()
    except (AttributeError, ValueError):
        seeks = False
    if not seeks:
        raise AudioError(f"is a {type(samples).__name__} that is text, closed or cannot seek; pass bytes: file.read()")
    return samples


def _unpacked(samples: Any, sample_rate: float) -> tuple[Any, float]:
    """The samples and their rate. Raises AudioError, without the name."""
    if isinstance(samples, dict):
        if not {"array", "sampling_rate"} <= samples.keys():
            raise AudioError(f"is a dict of {', '.join(map(str, samples))}; expected array and sampling_rate, or bytes")
        samples, sample_rate = samples["array"], samples["sampling_rate"]
    elif (pair := _pair(samples)) is not None:
        samples, sample_rate = pair
    elif isinstance(samples, tuple) and len(samples) == 1:  # a row of torch's TensorDataset
        samples = samples[0]
    if not (isinstance(sample_rate, Real) and MIN_RATE <= sample_rate <= MAX_RATE):
        raise AudioError(f"is at {sample_rate!r} Hz; expected {MIN_RATE:,} to {MAX_RATE:,} Hz")
    return samples, sample_rate


def with_rate(item: Any) -> bool:
    """Whether an item is a pair of samples and a rate, or begins with (samples, rate), as torchaudio's rows do."""
    return _pair(item) is not None


def _pair(item: Any) -> tuple[Any, Any] | None:
    """The samples and the rate of an item ``with_rate``; None where it is none."""
    if not (isinstance(item, tuple) and len(item) >= 2):
        return None
    samples, rate = item[1::-1] if len(item) == 2 and is_number(item[0]) else item[:2]
    if not (is_number(rate) and (isinstance(samples, list) or bool(getattr(samples, "ndim", 0)))):
        return None
    return samples, rate.item() if hasattr(rate, "item") else rate


def is_number(value: Any) -> bool:
    """Whether a value is a number, also as an array or tensor without dimensions, as rows of data sets have it."""
    return isinstance(value, Real) or (getattr(value, "ndim", None) == 0 and not isinstance(value, str | bytes))


def _array(samples: Any) -> NDArray[Any]:
    """The samples as numbers, in one or two dimensions. Raises AudioError, without the name."""
    kind = type(samples).__name__
    torch = sys.modules.get("torch")  # whoever has a tensor has imported it
    try:
        if torch and isinstance(samples, torch.Tensor):
            samples = samples.detach().cpu().resolve_conj().resolve_neg()
            samples = samples.float() if samples.is_floating_point() and samples.dtype != torch.float64 else samples
        array = np.asarray(samples.filled(np.nan) if np.ma.is_masked(samples) else samples)
    except Exception as error:  # of whatever library it is from
        if isinstance(samples, tuple):
            of = ", ".join(type(part).__name__ for part in samples[:5])
            raise AudioError(f"is a tuple ({of}); expected (samples, rate), where the rate is a number of Hz") from error
        raise AudioError(f"is a {kind} that gives no array ({error}); {EXPECTED}") from error
    if array.dtype.kind not in "biufc":
        raise AudioError(f"is a {kind} that holds no numbers ({array.dtype}); {EXPECTED}")
    _check_shape(samples, array.shape)
    return array


def _check_shape(samples: Any, shape: tuple[int, ...]) -> None:
    if not shape:
        raise AudioError(f"a single number; {EXPECTED}")
    if len(shape) > 2 or (len(shape) == 2 and not 0 < shape[1] <= shape[0] and not _channels_first(samples, shape)):
        advice = "; for a batch pass list(batch), for channels first the transposed array" if len(shape) == 2 else ""
        raise AudioError(f"has shape {shape}; {EXPECTED}{advice}")


def _channels_first(samples: Any, shape: tuple[int, ...]) -> bool:
    """Whether an array has its channels first. A list of lists is none: it may hold several sounds."""
    return (
        hasattr(samples, "shape")
        and len(shape) == 2
        and 0 < shape[0] <= CHANNELS
        and shape[1] >= SAMPLES_A_CHANNEL * shape[0]
    )


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
    if array.dtype.itemsize == 4 and 0 < (peak := max(int(array.max()), -int(array.min()))) < QUIET:
        logger.warning(
            "%s: is int32 with a peak of %d, embedded as very quiet; divide values of 16 bits by 2**15, of 24 by 2**23",
            name,
            peak,
        )
    return array / -float(np.iinfo(array.dtype).min)


def _named(error: AudioError, name: str) -> AudioError:
    return error if str(error).startswith(f"{name}: ") else AudioError(f"{name}: {error}")
