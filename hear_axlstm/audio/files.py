"""Audio files -> mono float32 samples at 16 kHz: all that is in them, whatever their headers say."""

from __future__ import annotations

import logging
import math
import os
from array import array
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import BinaryIO

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from hear_axlstm.audio import containers
from hear_axlstm.audio.parts import check_the_count
from hear_axlstm.audio.sources import Stream, header_facts, headless_facts, headless_streams, regular, streams
from hear_axlstm.config import MIN_SAMPLES, SAMPLE_RATE
from hear_axlstm.errors import AudioError
from hear_axlstm.progress import several

Wave = NDArray[np.float32]
Source = str | os.PathLike[str] | BinaryIO  # a path, or a file that is open for reading and can seek
UNREADABLE = (soundfile.SoundFileError, OSError, TypeError, ValueError, RuntimeError)  # what libsndfile and soxr raise
UNKNOWN = "Format not recognised."  # libsndfile's word for what is no sound, or coded otherwise
UNKNOWN_FORMAT, UNKNOWN_CODING = 1, 4  # libsndfile's codes
BLOCK_SECONDS = 60  # decoded and resampled at once: long recordings need little more than their 16 kHz samples
BLOCK_VALUES = 1 << 25  # decoded at once, all channels counted
TOO_SHORT = "too short to embed"  # in the reason, by which advice is given
LOUD = 8.0  # a peak that samples in [-1, 1] do not have

logger = logging.getLogger(__name__)


def audio_seconds(source: Source, name: str = "") -> float:
    """The duration of a file: by its header, or counted where that does not say or is wrong.

    name: what errors call it; the path when left out. Raises AudioError, which names the file and the cause.
    """
    return audio_facts(source, name)[0]


def audio_facts(source: Source, name: str = "") -> tuple[float, float]:
    """The duration of a file as ``audio_seconds`` gives it, and its sample rate in Hz: of its first stream.

    Both are found in one reading of the header. Raises AudioError as ``audio_seconds`` does.
    """
    try:
        if _is_for_others(source):
            seconds, rate = _track_facts(source)
        else:
            with _file(source) as file:
                seconds, rate = _header_facts(source, file)
    except UNREADABLE as error:
        raise _named(source, name, error) from error
    if seconds is not None and not math.isnan(seconds):
        return seconds, rate
    seconds = 0.0
    for block_rate, block in native_blocks(source, name):
        rate, seconds = rate or block_rate, seconds + len(block) / block_rate
    return seconds, rate


def read_audio(source: Source, name: str = "", pad: bool = False) -> Wave:
    """Decode a file of any format, rate and channel count that libsndfile or FFmpeg reads. Channels are averaged.

    name: what errors call it; the path when left out. pad: whether a sound too short to embed is padded with zeros.

    Shape: -> (n_samples,), float32, 16 kHz. Raises AudioError, which names the file and the cause.
    """
    wave = read_unless_longer(source, math.inf, pad, name)
    assert wave is not None
    return wave


def read_unless_longer(source: Source, seconds: float, pad: bool = False, name: str = "") -> Wave | None:
    """The samples as ``read_audio`` gives them; None when there are more than ``seconds`` of them. Raises AudioError."""
    samples = array("f")  # grows in place: a long recording is held once
    for block in audio_blocks(source, name):
        samples.frombytes(block.data.cast("B"))
        if len(samples) > seconds * SAMPLE_RATE:
            return None
    return checked(np.frombuffer(samples, np.float32), name or str(source), pad)


def audio_blocks(source: Source, name: str = "") -> Iterator[Wave]:
    """The samples of a file, piece by piece: all that is there, whatever the header says, in bounded memory.

    Nothing is checked but that it can be decoded: see ``checked``. name: what errors call it; the path when left out.

    Shape: -> (n_samples,) each, about a minute at most, float32, 16 kHz. Raises AudioError, which names the file and the
    cause.
    """
    rate, resampler = SAMPLE_RATE, None
    for its_rate, block in native_blocks(source, name):
        if its_rate != rate:
            if resampler:
                yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)
            rate = its_rate
            resampler = None if rate == SAMPLE_RATE else soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")
        yield resampler.resample_chunk(block) if resampler else block
    if resampler:
        yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)


def native_blocks(source: Source, name: str = "") -> Iterator[tuple[int, Wave]]:
    """The samples of a file at its own rate, block by block, with the rate, which may change in joined files.

    Shape: -> Hz and (n_samples,) each, a minute at most, float32, mono. Raises AudioError with name and cause.
    """
    try:
        if _is_for_others(source):
            yield from containers.decoded(source)
            return
        with _file(source) as file:
            found, other = streams(file), None
            try:
                stream = next(found, None)
            except soundfile.LibsndfileError as error:
                other = _others(source, error)
                found = headless_streams(file)
                stream = None if other else next(found, None)
                if not (other or stream):
                    raise
            while stream is not None:
                for block in _mono(stream):
                    yield stream.samplerate, block
                stream = next(found, None)
        if other:
            yield from containers.decoded(source, other)
    except UNREADABLE as error:
        raise _named(source, name, error) from error


def _header_facts(source: Source, file: BinaryIO) -> tuple[float | None, int]:
    """How long a file lasts by its header, None where that does not say it, and its rate."""
    try:
        return header_facts(file)
    except soundfile.LibsndfileError as error:
        if other := _others(source, error):
            return _track_facts(source, other)
        return headless_facts(file)


def _track_facts(source: Source, *formats: str) -> tuple[float | None, int]:
    track = containers.find_track(source, *formats)
    return track.seconds, track.rate


def _others(source: Source, error: soundfile.LibsndfileError) -> str:
    """The formats of others of which one is that of a file that libsndfile refuses; empty for one that is nobody's."""
    formats = {UNKNOWN_FORMAT: containers.FORMATS, UNKNOWN_CODING: f"{containers.FORMATS},{containers.OURS}"}
    wanted = formats.get(error.code, "")
    return wanted if wanted and containers.has_track(source, wanted) else ""


def _mono(stream: Stream) -> Iterator[Wave]:
    """The mean of the channels, block by block, until nothing more comes."""
    length = min(BLOCK_SECONDS * stream.samplerate, BLOCK_VALUES // stream.channels)
    buffer = np.empty((length, stream.channels), np.float32)
    left = stream.expected
    while left is None or left:
        asked = length if left is None else min(length, left)
        block = stream.read(asked, out=buffer)  # as many as there are
        if len(block):
            yield block.mean(axis=1)
        if len(block) < asked:
            check_the_count(stream.frames, (left or 0) - len(block), stream.format)
            return
        left = left and left - asked


def checked(wave: Wave, name: str, pad: bool = False) -> Wave:
    """The wave unchanged, if the front end can take it; one that is far too loud gets a warning in the log.

    pad: whether one that is too short, but not empty, is padded with zeros.

    Raises AudioError, which starts with ``name``.
    """
    if pad and 0 < len(wave) < MIN_SAMPLES:
        wave = np.pad(wave, (0, MIN_SAMPLES - len(wave)))
    if len(wave) < MIN_SAMPLES:
        raise AudioError(f"{name}: {too_few(len(wave))}")
    low, high = wave.min(), wave.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise AudioError(f"{name}: holds NaN or infinity; expected finite samples in [-1, 1]")
    warn_if_loud(max(-low, high), name)
    return wave


def too_few(samples: int) -> str:
    """Why a sound of so many samples at 16 kHz has no embedding, fewer than MIN_SAMPLES."""
    return f"{several(samples, 'sample')} at 16 kHz; expected {MIN_SAMPLES} or more: {TOO_SHORT}"


def warn_if_loud(peak: float, name: str) -> None:
    """A line in the log of samples that are beyond [-1, 1] by far."""
    if peak > LOUD:
        logger.warning("%s: peaks at %.0f; expected samples in [-1, 1]: divide those of 16 bits by 32768", name, peak)


def write_flac(target: str | os.PathLike[str] | BinaryIO, wave: Wave) -> None:
    """Write samples, (n,), mono at 16 kHz, as 16-bit FLAC to a file that is open or named. Raises what libsndfile raises."""
    soundfile.write(target, wave, SAMPLE_RATE, format="FLAC", subtype="PCM_16")


def _is_for_others(source: Source) -> bool:
    """Whether a file is decoded by others than libsndfile at once, by its suffix."""
    return containers.is_needed(source) and containers.is_there(source)


def _file(source: Source) -> AbstractContextManager[BinaryIO]:
    return regular(source) if isinstance(source, str | os.PathLike) else nullcontext(source)


def _named(source: Source, name: str, error: Exception) -> AudioError:
    """An error that begins with the name of the sound."""
    if not name and isinstance(source, str | os.PathLike):
        name = os.fspath(source)
    said = str(error)
    if not isinstance(error, AudioError):
        said = said.partition(": ")[2] or said
        advice = ""
        if containers.is_needed(source) and not containers.is_there(source):
            advice = f"; {containers.GET}"
        elif said == UNKNOWN:
            others = "" if containers.is_there(source) else "PyAV may read it, pip install 'hear-axlstm[av]'; or "
            advice = f"; {others}convert it to FLAC"
        said = f"cannot be decoded ({said}){advice}"
    return AudioError(f"{name}: {said}" if name else said)
