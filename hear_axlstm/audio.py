"""Audio files and arrays -> mono float32 samples at 16 kHz."""

from __future__ import annotations

import os
from array import array
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr
from numpy.typing import ArrayLike, NDArray

from hear_axlstm.config import MIN_SAMPLES, SAMPLE_RATE
from hear_axlstm.errors import AudioError

Wave = NDArray[np.float32]
UNREADABLE = (soundfile.SoundFileError, OSError, TypeError, ValueError, RuntimeError)  # what libsndfile and soxr raise
BLOCK_SECONDS = 60  # decoded and resampled at once: long recordings need little more than their 16 kHz samples


def audio_seconds(path: str | os.PathLike[str]) -> float:
    """The duration of a file by its header. Raises AudioError when libsndfile cannot read it."""
    try:
        return float(soundfile.info(os.fspath(path)).duration)
    except UNREADABLE as error:
        raise AudioError(f"{path}: {_reason(path, error)}") from error


def read_audio(path: str | os.PathLike[str]) -> Wave:
    """Decode a file of any format, rate and channel count that libsndfile reads. Channels are averaged.

    Shape: -> (n_samples,), float32, 16 kHz. Raises AudioError, which names the file and the cause.
    """
    try:
        wave = decode(os.fspath(path))
    except UNREADABLE as error:
        raise AudioError(f"{path}: {_reason(path, error)}") from error
    return checked(wave, str(path))


def decode(source: str | BinaryIO) -> Wave:
    """The samples of a file that is open or named, (n,), mono float32 at 16 kHz. Raises what libsndfile and soxr raise."""
    with soundfile.SoundFile(source) as file:
        samples = array("f")  # grows in place: a long recording is held once
        resampler = soxr.ResampleStream(file.samplerate, SAMPLE_RATE, 1, dtype="float32")
        for block in file.blocks(BLOCK_SECONDS * file.samplerate, dtype="float32", always_2d=True):
            mono = block.mean(axis=1)
            piece = mono if file.samplerate == SAMPLE_RATE else resampler.resample_chunk(mono)
            samples.frombytes(piece.tobytes())
        if file.samplerate != SAMPLE_RATE:
            samples.frombytes(resampler.resample_chunk(np.zeros(0, np.float32), last=True).tobytes())
    return np.frombuffer(samples, np.float32)


def write_flac(target: str | os.PathLike[str] | BinaryIO, wave: Wave) -> None:
    """Write samples, (n,), mono at 16 kHz, as 16-bit FLAC to a file that is open or named. Raises what libsndfile raises."""
    soundfile.write(target, wave, SAMPLE_RATE, format="FLAC", subtype="PCM_16")


def prepare_array(samples: ArrayLike, sample_rate: int, name: str) -> Wave:
    """Mono float32 at 16 kHz from samples in memory: (n,) or (n, channels), floats in [-1, 1] or signed integers.

    Integers are scaled by their type's range. Raises AudioError, which starts with ``name``.
    """
    array = np.asarray(samples)
    if array.ndim not in (1, 2) or (array.ndim == 2 and array.shape[1] > array.shape[0]):
        raise AudioError(f"{name}: has shape {array.shape}; expected (n_samples,) or (n_samples, channels)")
    if np.issubdtype(array.dtype, np.signedinteger):
        array = array / -float(np.iinfo(array.dtype).min)
    elif not np.issubdtype(array.dtype, np.floating):
        raise AudioError(f"{name}: is {array.dtype}; expected floats in [-1, 1] or signed integers")
    mono = array.astype(np.float32).reshape(len(array), -1).mean(axis=1, dtype=np.float32)
    if sample_rate != SAMPLE_RATE:
        mono = soxr.resample(mono, sample_rate, SAMPLE_RATE)
    return checked(mono, name)


def checked(wave: Wave, name: str) -> Wave:
    """The wave unchanged, if the front end can take it. Raises AudioError, which starts with ``name``."""
    if len(wave) < MIN_SAMPLES:
        raise AudioError(f"{name}: {len(wave)} samples at 16 kHz; expected {MIN_SAMPLES} or more: too short to embed")
    low, high = wave.min(), wave.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise AudioError(f"{name}: holds NaN or infinity; expected finite samples in [-1, 1]")
    return wave


def _reason(path: str | os.PathLike[str], error: Exception) -> str:
    if not Path(path).exists():
        return "no such file"
    if Path(path).stat().st_size == 0:
        return "the file is empty"
    return f"cannot be decoded ({str(error).partition(': ')[2] or error})"
