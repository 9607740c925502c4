"""A sound in any form in which people have it -> mono float32 samples at 16 kHz, for ``embed`` and every door."""

from __future__ import annotations

import io
import math
import os
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from threading import Lock
from typing import Any, BinaryIO

import soxr

from hear_axlstm.audio.addresses import fetched, is_address, whole
from hear_axlstm.audio.arrays import CHANNELS, is_number, is_tensor, length, mixed, no_pair
from hear_axlstm.audio.files import Source, Wave, audio_facts, checked, read_audio
from hear_axlstm.audio.sources import MAX_RATE, MIN_RATE
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.errors import AudioError

_locks = [Lock() for _ in range(61)]  # of decoders, by their place in memory: one in two threads ends the process


def to_wave(sound: Any, sample_rate: float | None = None, name: str = "sound", pad: bool = False) -> Wave:
    """Mono float32 at 16 kHz from a sound in any form, resampled by soxr from its own rate; channels are averaged.

    sound: a path or an address; what a file holds: bytes, an open file or pipe, {"bytes": bytes, "path": path}, either of
    which may be None; samples: (n,) or (n, channels), floats in [-1, 1] or int8, int16 or int32, as an array, a tensor on
    any device or a list; samples with their rate, which goes before ``sample_rate``: (samples, rate) or (rate, samples),
    {"array": samples, "sampling_rate": rate}, {"raw": samples, "sampling_rate": rate}; a decoder with get_all_samples(), as
    torchcodec and datasets have them, or what that gives; or {"audio": any of these}.

    Up to 8 channels may come first, (channels, n), where n is 25 times as large at least; in a pair with a tensor, which is
    what ``torchaudio.load`` gives, up to 8 rows are channels however short they are. Integers are scaled by their type's
    range; int32 that seem to hold fewer bits get a warning in the log.

    sample_rate: of samples that come without, in Hz. name: what errors call the sound. pad: as ``read_audio`` has it.

    Shape: -> (n_samples,). Raises AudioError, which starts with ``name``.
    """
    try:
        found = _unwrapped(sound, sample_rate)
        if not isinstance(found, _Samples):
            return read_audio(found, name, pad)
        mono = mixed(found.values, name, found.channels_first)
    except AudioError as error:
        raise _named(error, name) from error
    return checked(mono if found.rate == SAMPLE_RATE else soxr.resample(mono, found.rate, SAMPLE_RATE), name, pad)


def sound_seconds(sound: Any, sample_rate: float | None = None, name: str = "sound") -> float:
    """The duration of what ``to_wave`` takes, without looking at the values where a header or a shape says it.

    Raises AudioError, which starts with ``name``, on some of what that does not take.
    """
    return sound_facts(sound, sample_rate, name)[0]


def sound_facts(sound: Any, sample_rate: float | None = None, name: str = "sound") -> tuple[float, float]:
    """The duration as ``sound_seconds`` gives it, and the sound's own sample rate in Hz, 0 where nothing says it.

    Raises AudioError as ``sound_seconds`` does.
    """
    try:
        decoder = _content(sound)
        known = getattr(decoder, "metadata", None) if _is_decoder(decoder) else None
        if (seconds := getattr(known, "duration_seconds", None)) is not None:
            return float(seconds), float(getattr(known, "sample_rate", None) or 0)
        found = _unwrapped(sound, sample_rate)
        if not isinstance(found, _Samples):
            return audio_facts(found, name)
        return length(found.values, found.channels_first) / found.rate, found.rate
    except AudioError as error:
        raise _named(error, name) from error


def held(sound: Any) -> Any:
    """The sound, read whole where it is at an address, in a pipe or an open file. Raises AudioError, without a name.

    Open files, too, as several may share their place in one file below them, such as the members of an archive, and may be
    closed when the next one is drawn.
    """
    content = _content(sound)
    if content is sound and isinstance(sound, str) and is_address(sound):
        return fetched(sound)
    return _whole(content) if hasattr(content, "read") else sound


def is_row(item: Any) -> bool:
    """Whether an item is a dictionary that holds a sound, as a row of a data set does."""
    return isinstance(item, Mapping) and not {"audio", "array", "raw", "bytes", "path"}.isdisjoint(item)


def is_sound(item: Any) -> bool:
    """Whether an item can be nothing but one sound: a row, a decoder, an open file, or samples with their rate."""
    return is_row(item) or _is_decoder(item) or hasattr(item, "read") or with_rate(item)


def with_rate(item: Any) -> bool:
    """Whether an item is a pair of samples and a rate, or begins with (samples, rate), as torchaudio's rows do."""
    return _pair(item) is not None


def as_row(item: Any) -> Any:
    """A row of torch's DataLoader, which makes lists of tuples, as the tuple that it was."""
    if not isinstance(item, list):
        return item
    is_alone = len(item) == 1 and getattr(item[0], "ndim", 0) == 1  # in two dimensions it would be a batch
    return tuple(item) if is_alone or with_rate(tuple(item[:3])) else item


@dataclass(frozen=True)
class _Samples:
    """Samples in memory and their rate in Hz. channels_first: whether they are (channels, n); None where nobody knows."""

    values: Any
    rate: float
    channels_first: bool | None = None


def _unwrapped(sound: Any, sample_rate: float | None) -> _Samples | Source:
    """The samples that a sound is, or the file that they are still in. Raises AudioError, without the name."""
    content = _content(sound)
    if isinstance(content, Mapping):
        if not is_row(content) or "sampling_rate" not in content:
            has = ", ".join(map(str, content))
            raise AudioError(f"is a dict of {has}; expected array and sampling_rate, or bytes, or path, not None")
        return _at_rate(content["raw" if content.get("array") is None else "array"], content["sampling_rate"])
    if isinstance(content, bytes | bytearray | memoryview):
        return io.BytesIO(content)
    if isinstance(content, str | os.PathLike):
        if not (isinstance(content, str) and is_address(content)):
            return content
        if content is not sound:
            raise AudioError("its path is an address, and none is fetched that stands in a row; pass the address itself")
        return fetched(content)
    if hasattr(content, "read"):
        return content if _can_seek(content) else _whole(content)
    if _is_decoder(content):
        return _decoded(content)
    if (pair := _pair(content)) is not None:
        values, rate = pair
        rows = values.shape[0] if is_tensor(values) and values.ndim == 2 else None
        return _at_rate(values, rate, True if rows is not None and rows <= CHANNELS else None)
    if isinstance(content, tuple) and len(content) == 1:  # a row of torch's TensorDataset
        content = content[0]
    if content is None or (isinstance(content, Real) and math.isnan(content)):
        raise AudioError(f"is {content!r}; expected a sound")
    if isinstance(content, tuple) and sample_rate is None:
        raise no_pair(content)
    if sample_rate is None and not (hasattr(content, "shape") or isinstance(content, list | tuple)):
        raise AudioError(f"is a {type(content).__name__}; expected samples with their rate, a path, bytes or an open file")
    return _at_rate(content, sample_rate)


def _content(sound: Any) -> Any:
    """What dictionaries have around a sound taken off, down to samples with their rate."""
    while isinstance(sound, Mapping):
        if sound.get("array") is not None or sound.get("raw") is not None:
            return sound
        inner = sound.get("audio")
        for key in ("bytes", "path"):
            inner = sound.get(key) if inner is None else inner
        if inner is None:
            return sound
        sound = inner
    return as_row(sound)


def _at_rate(values: Any, rate: Any, channels_first: bool | None = None) -> _Samples:
    rate = rate.item() if is_number(rate) and hasattr(rate, "item") else rate
    if not (isinstance(rate, Real) and MIN_RATE <= float(rate) <= MAX_RATE):
        advice = "; pass sample_rate, or (samples, rate)" if rate is None else ""
        raise AudioError(f"is at {rate!r} Hz; expected {MIN_RATE:,} to {MAX_RATE:,} Hz{advice}")
    return _Samples(values, float(rate), channels_first)


def _pair(item: Any) -> tuple[Any, Any] | None:
    """The samples and the rate of an item ``with_rate``; None where it is none."""
    if not (isinstance(item, tuple) and len(item) >= 2):
        return None
    samples, rate = item[1::-1] if len(item) == 2 and is_number(item[0]) else item[:2]
    are_samples = isinstance(samples, list | array) or (hasattr(samples, "__array__") and getattr(samples, "ndim", 1) > 0)
    if not (are_samples and is_number(rate)):
        return None
    return samples, rate.item() if hasattr(rate, "item") else rate


def _is_decoder(item: Any) -> bool:
    """Whether an item is torchcodec's: a decoder, or the samples that it gives, with their rate."""
    return hasattr(item, "get_all_samples") or (hasattr(item, "sample_rate") and is_tensor(getattr(item, "data", None)))


def _decoded(decoder: Any) -> _Samples:
    """What torchcodec decodes: (channels, n), at the rate of the file unless whoever made it chose another."""
    try:
        with _locks[id(decoder) // 16 % len(_locks)]:
            samples = decoder.get_all_samples() if hasattr(decoder, "get_all_samples") else decoder
        return _at_rate(samples.data, samples.sample_rate, True)
    except AudioError:
        raise
    except Exception as error:  # of FFmpeg, through torchcodec
        said = str(error).strip().partition("\n")[0] or type(error).__name__
        raise AudioError(f"cannot be decoded ({type(decoder).__name__}: {said}); replace the file") from error


def _can_seek(file: Any) -> bool:
    try:
        return not isinstance(file, io.TextIOBase) and bool(file.seekable())
    except (AttributeError, ValueError):  # closed
        return False


def _whole(file: Any) -> BinaryIO:
    """What is in an open file, or comes out of a pipe. Raises AudioError, without the name."""
    try:
        if _can_seek(file):
            file.seek(0)
        return whole(file, "save it to a file, and pass its path")
    except AudioError:
        raise
    except (OSError, ValueError, TypeError) as error:
        raise AudioError(f"is a {type(file).__name__} that is text, closed or cannot be read; pass bytes") from error


def _named(error: AudioError, name: str) -> AudioError:
    return error if str(error).startswith(f"{name}: ") else AudioError(f"{name}: {error}")
