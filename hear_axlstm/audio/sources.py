"""Regular files, opened by path, and the streams of sound in them, opened for decoding from start to end."""

from __future__ import annotations

import errno
import io
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import soundfile

from hear_axlstm.audio import mpeg
from hear_axlstm.audio.parts import Part, check_the_end, find_parts, mpeg_parts, part_seconds
from hear_axlstm.errors import AudioError

MIN_RATE, MAX_RATE = 1_000, 1_000_000  # Hz; a sound at 1 Hz would become 16,000 times as long
FRAMES_A_BYTE = 16  # at most, in codings of a fixed rate
PACKED_FRAMES_A_BYTE = 128  # where there are more in those that pack, of silence perhaps, they are counted
SDS_BYTES, SDS_FRAMES = 127, {"PCM_S8": 60, "PCM_16": 40, "PCM_24": 30}  # a packet
PACKED = {"FLAC", "OGG", "CAF"}
PIECE = 1 << 16  # bytes that go through a pipe at once
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
CAUSES = {
    errno.ENOENT: "no such file",
    errno.ENOTDIR: "no such file",
    errno.EACCES: "permission denied; make it readable to you",
    errno.EPERM: "permission denied; make it readable to you",
    errno.ELOOP: "a link that leads back to itself",
    errno.ENAMETOOLONG: "a name that is too long for the file system",
}


class Stream(soundfile.SoundFile):  # type: ignore[misc]
    """A sound that is read from start to end. Nothing seeks, which some codings cannot and wrong lengths make fail.

    size: bytes in the file. expected: how many samples of a channel to ask for; None where the header does not say, or
    cannot be believed.
    """

    size: int = 0
    expected: int | None = None

    def seekable(self) -> bool:
        return False


def status_of(path: str | os.PathLike[str]) -> os.stat_result:
    """The facts of a file as it is now. Raises AudioError, without the name, when it is none that has an end."""
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        unknown = f"cannot be found ({getattr(error, 'strerror', error)}); mend the path"
        raise AudioError(CAUSES.get(getattr(error, "errno", None) or 0, unknown)) from error
    if not stat.S_ISREG(status.st_mode):
        kind = KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise AudioError(f"{kind}; expected a regular file: save the sound to one first")
    return status


@contextmanager
def regular(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file, open for reading. Raises AudioError, without the name, when it is none that can be read to its end."""
    status_of(path)  # opening a pipe would wait for a writer
    try:
        file = open(path, "rb", buffering=0)  # noqa: SIM115
    except OSError as error:
        raise AudioError(CAUSES.get(error.errno or 0, f"cannot be opened ({error.strerror})")) from error
    with file:
        yield file


@contextmanager
def opened(file: BinaryIO) -> Iterator[Stream]:
    """The first stream of a file. Raises AudioError, without the name, on a header that cannot be true.

    Raises LibsndfileError on what libsndfile does not know.
    """
    size = file.seek(0, os.SEEK_END)
    if not size:
        raise AudioError("the file is empty")
    file.seek(0)
    handle: object = file
    if isinstance(file, io.FileIO):  # quicker; but SD2 has its header in another file, which is found by the name
        file.seek(mpeg.first_frame(file))  # past tags, on which the decoder would print notes that name no file
        handle = file.name if os.fsdecode(file.name).lower().endswith(".sd2") else file.fileno()
    with Stream(handle, closefd=False) as stream:
        stream.size = size
        _check_rate(stream)
        packs = stream.format in PACKED
        if stream.format == "SDS":  # frames that are not there would be read as the last ones again
            stream.expected = min(stream.frames, size // SDS_BYTES * SDS_FRAMES[stream.subtype])
        elif 0 < stream.frames <= size * (PACKED_FRAMES_A_BYTE if packs else FRAMES_A_BYTE):
            stream.expected = stream.frames
        elif stream.frames and not packs and stream.format != "MP3":
            raise AudioError(
                f"its header promises {stream.frames:,} samples, which {size:,} bytes cannot hold; mend the header, or "
                "replace the file"
            )
        yield stream


def header_facts(file: BinaryIO) -> tuple[float | None, int]:
    """How long a file lasts, None where its header does not say, or is wrong; and its rate in Hz. Raises as ``opened``."""
    with opened(file) as stream:
        if stream.format == "MP3" and not mpeg.is_as_promised(file, stream.size, stream.frames):
            return mpeg.seconds(file, stream.size) or None, stream.samplerate
        if stream.format not in ("MP3", "OGG"):
            for part in find_parts(file, stream.size, stream.format, stream.frames, stream.samplerate):
                return part_seconds(part), stream.samplerate
        return stream.expected and stream.expected / stream.samplerate, stream.samplerate


def streams(file: BinaryIO) -> Iterator[Stream]:
    """The streams of a file, one after the other: several in joined files. Raises as ``opened`` does."""
    with opened(file) as stream:
        parts = find_parts(file, stream.size, stream.format, stream.frames, stream.samplerate)
        if not parts:
            yield stream
            check_the_end(file, stream.size, stream.format)
    yield from _streams_of(file, parts)


def headless_facts(file: BinaryIO) -> tuple[float | None, int]:
    """As ``header_facts``, of a broadcast, which begins in the middle of a frame of MPEG audio; None and 0 of others."""
    found = mpeg.streams(file, file.seek(0, os.SEEK_END))
    return sum(one.samples / one.rate for one in found) or None, found[0].rate if found else 0


def headless_streams(file: BinaryIO) -> Iterator[Stream]:
    """The streams of MPEG audio in a file that libsndfile does not know; none where there are none."""
    yield from _streams_of(file, mpeg_parts(file, file.seek(0, os.SEEK_END)))


def _streams_of(file: BinaryIO, parts: list[Part]) -> Iterator[Stream]:
    for part in parts:
        with _piped(file, part) as handle, Stream(handle, closefd=False) as stream:
            _check_rate(stream)
            yield stream


@contextmanager
def _piped(file: BinaryIO, part: Part) -> Iterator[int]:
    """The reading end of a pipe through which a part of a file goes: of what cannot seek, libsndfile decodes everything."""
    reader, writer = os.pipe()
    failures: list[OSError] = []

    def feed() -> None:
        head, start, end = part
        try:
            file.seek(start)
            piece = head or file.read(min(PIECE, end - start))
            while piece:
                piece = piece[os.write(writer, piece) :] or file.read(min(PIECE, end - file.tell()))
        except BrokenPipeError:
            pass  # the rest is not wanted
        except OSError as error:
            failures.append(error)
        finally:
            os.close(writer)

    thread = threading.Thread(target=feed, daemon=True)
    thread.start()
    try:
        yield reader
    finally:
        os.close(reader)
        thread.join()
    for failure in failures:
        raise failure


def _check_rate(stream: Stream) -> None:
    if not MIN_RATE <= stream.samplerate <= MAX_RATE:
        raise AudioError(
            f"its header says {stream.samplerate:,} Hz; expected {MIN_RATE:,} to {MAX_RATE:,}: mend the header or resample"
        )
