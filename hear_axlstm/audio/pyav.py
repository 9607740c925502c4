"""FFmpeg's decoders in this process, through PyAV: from paths, open files and memory, as raw frames."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from threading import Lock
from typing import Any, BinaryIO

import av
import av.logging
import numpy as np
from numpy.typing import NDArray

from hear_axlstm.audio import containers
from hear_axlstm.audio.containers import NO_SOUND, STRICT, File, Track
from hear_axlstm.audio.sources import regular
from hear_axlstm.errors import AudioError

Samples = NDArray[np.float32]


def find_track(file: File, formats: str) -> Track:
    """As ``containers`` has it."""
    with _opened(file, formats) as container:
        return _track(container)


def decoded(file: File, formats: str) -> Iterator[tuple[int, Samples]]:
    """As ``containers`` has it."""
    with _opened(file, formats) as container:
        track, count = _track(container), 0.0
        blocks = _blocks(_frames(container))
        while True:
            with _heard():  # not while the caller works on a block
                block = next(blocks, None)
            if block is None:
                break
            count += len(block[1]) / block[0]
            yield block
        if not count:
            raise _refused(["it gives no sound"])
        track.check(count)


@contextmanager
def _opened(file: File, formats: str) -> Iterator[Any]:
    """The container that a file is, of these formats, with no way to other files or addresses."""
    options = {"format_whitelist": formats, "protocol_whitelist": "none", "err_detect": STRICT}
    with regular(file) if isinstance(file, str | os.PathLike) else nullcontext(file) as source:
        with _heard():
            try:
                container = av.open(_Bytes(source), options=options, metadata_errors="replace")
            except av.ArgumentError as error:
                raise AudioError(NO_SOUND) from error
        with container:
            yield container


def _track(container: Any) -> Track:
    if not container.streams.audio:
        raise AudioError("it has no audio track; leave it out")
    stream = container.streams.audio[0]
    if stream.codec_context is None:
        raise AudioError("its first audio track is in a coding that nothing here decodes; replace the file")

    def seconds(ticks: int | None, base: Any) -> float:
        return math.nan if ticks is None else float(ticks * base)

    said = {
        "track": seconds(stream.duration, stream.time_base),
        "container": seconds(container.duration, 1 / av.time_base),
        "start": seconds(stream.start_time, stream.time_base),
        "end": containers.in_seconds(stream.metadata.get("DURATION")),
    }
    rate, channels = stream.codec_context.sample_rate, stream.codec_context.channels
    return Track.of(container.format.name, len(container.streams), rate or 0, channels or 0, said)


def _frames(container: Any) -> Iterator[tuple[int, Samples]]:
    """The rate and the mean of the channels of each frame."""
    stream = container.streams.audio[0]
    stream.thread_type = "NONE"  # what other threads complain of is not heard
    stream.codec_context.options = {"err_detect": STRICT}
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise AudioError("cannot be decoded (PyAV: a packet is damaged); replace the file")
        for frame in packet.decode():
            if frame.is_corrupt:
                raise AudioError("cannot be decoded (PyAV: a frame is damaged); replace the file")
            samples = _floats(frame.to_ndarray())
            channels = samples.T if frame.format.is_planar else samples.reshape(-1, frame.layout.nb_channels)
            yield frame.sample_rate, np.ascontiguousarray(channels).mean(axis=1, dtype=np.float32)


def _floats(samples: NDArray[Any]) -> Samples:
    """Samples in [-1, 1] of integers of any width, or of floats."""
    if samples.dtype.kind == "f":
        return samples.astype(np.float32)
    half = np.float32(2 ** (8 * samples.dtype.itemsize - 1))
    return (samples.astype(np.float32) - (half if samples.dtype.kind == "u" else np.float32(0))) / half


def _blocks(frames: Iterator[tuple[int, Samples]]) -> Iterator[tuple[int, Samples]]:
    """Frames of one rate joined to blocks, which are a minute long at most."""
    waiting, count, rate = list[Samples](), 0, 0
    for its_rate, samples in frames:
        if waiting and its_rate != rate:
            yield rate, np.concatenate(waiting)
            waiting, count = [], 0
        rate = its_rate
        waiting.append(samples)
        count += len(samples)
        while count >= (size := containers.BLOCK_SECONDS * rate):
            joined = np.concatenate(waiting)
            yield rate, joined[:size]
            waiting, count = [joined[size:]], count - size
    if count:
        yield rate, np.concatenate(waiting)


class _Bytes:
    """A file as PyAV reads it. A damaged one asks for places before its start: it is told that there is nothing."""

    def __init__(self, file: BinaryIO) -> None:
        file.seek(0)
        self.read, self.tell, self._file = file.read, file.tell, file

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError):
            return -1


class _Listeners:
    """How many listen to FFmpeg's complaints, which PyAV keeps to itself unless it is told otherwise, for all threads."""

    def __init__(self) -> None:
        self._count, self._lock = 0, Lock()
        self._before: tuple[int | None, bool] = None, True

    def __enter__(self) -> None:
        with self._lock:
            self._count += 1
            if self._count == 1:
                self._before = av.logging.get_level(), av.logging.get_skip_repeated()
                av.logging.set_level(max(self._before[0] or 0, av.logging.ERROR))
                av.logging.set_skip_repeated(False)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._count -= 1
            if not self._count:
                av.logging.set_level(self._before[0])
                av.logging.set_skip_repeated(self._before[1])


_listeners = _Listeners()


@contextmanager
def _heard() -> Iterator[None]:
    """Raise AudioError, without the name, of what FFmpeg gives up over or complains of, in this thread."""
    with _listeners, av.logging.Capture() as said:
        try:
            yield
        except av.FFmpegError as error:
            raise _refused([*_complaints(said), error.strerror or str(error)]) from error
    if complaints := _complaints(said):
        raise _refused(complaints)


def _complaints(said: list[tuple[int, str, str]]) -> list[str]:
    return [message.strip() for level, _, message in said if level <= av.logging.ERROR]


def _refused(said: list[str]) -> AudioError:
    return AudioError(f"cannot be decoded (PyAV: {said[0]}); replace the file")
