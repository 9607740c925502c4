"""What a file holds beside what its header says: joined streams, a length never written, sound after the end."""

from __future__ import annotations

import zlib
from typing import BinaryIO, Literal

from hear_axlstm.audio import mpeg
from hear_axlstm.errors import AudioError

Part = tuple[bytes, int, int]  # what goes before, and the place in the file of what is decoded: from, to
PIECE = 1 << 16
OGG_HEAD = 27  # bytes of a page before the lengths of its pieces, 255 at most
OPUS_CLOCK = 48_000  # Hz, in which a page says where its sound ends, whatever the rate is
OGG_ADVICE = "get it again, or save what is left with `ffmpeg -i IN OUT.flac`"
MIRROR = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))  # each byte's bits the other way round
OPEN_ENDED = 8  # the length by which libsndfile knows a WAV file that was not closed
FLAC_AHEAD = 1 << 14  # bytes that its decoder reads ahead, at most
SLACK = 4_096  # bytes after the sound that may be anything, or samples by which the length of an Ogg file may be off


def find_parts(file: BinaryIO, size: int, format: str, frames: int, rate: int) -> list[Part]:
    """What to decode, part by part, where a file holds more than its header says; else nothing. The place is kept.

    file: as libsndfile left it when it had read the header. size: in bytes. format, frames, rate in Hz: by the header.
    """
    place = file.tell()
    try:
        if format == "MP3":
            return [] if mpeg.is_as_promised(file, size, frames) else mpeg_parts(file, size, frames)
        if format == "OGG":
            return _ogg_parts(file, size, frames / rate)
        if format in ("WAV", "WAVEX") or (format == "RF64" and not frames):
            return _wav_parts(file, size, place)
        if format == "AU" and not frames and size > place:
            return [(_bytes(file, 0, 8) + b"\xff" * 4 + _bytes(file, 12, place), place, size)]
        return []
    finally:
        file.seek(place)


def mpeg_parts(file: BinaryIO, size: int, frames: int | None = None) -> list[Part]:
    """The streams in a file that are MPEG audio, unless there is one of ``frames`` samples, as the header says."""
    found = mpeg.streams(file, size)
    if [one.samples for one in found if not one.head] == [frames]:
        return []
    return [(one.mended_head(), one.start, one.end) for one in found]


def check_the_end(file: BinaryIO, size: int, format: str) -> None:
    """Look at what follows when all was read that a header promises. Raises AudioError, without the name, if it is sound."""
    place, left = file.tell(), 0
    if format == "MP3":
        left = mpeg.end_of_frames(file, size) - place
    elif format == "FLAC":
        left = mpeg.end_of_frames(file, size) - place
        start = max(mpeg.after_tags(file, 0) + 4, place - FLAC_AHEAD)
        if b"fLaC" in _bytes(file, start, start + PIECE):
            raise AudioError(
                "holds two FLAC streams, one after the other; split it, or join their sound: flac -d, then flac"
            )
        left = left if left > PIECE else 0
    elif format in ("WAV", "WAVEX", "AIFF") and size - place > SLACK:
        head = _bytes(file, 0, 8)
        order: Literal["big", "little"] = "little" if head[:4] == b"RIFF" else "big"
        left = int.from_bytes(head[4:], order) + 8 - place
        left = 0 if _is_chunk(file, size, place + place % 2, order) else min(left, size - place)
    elif format == "AU":
        left = size - place
    if left > SLACK:
        raise AudioError(f"its header promises less than there is: {left:,} bytes follow; mend the header, or convert it")


def check_the_count(frames: int, missing: int, format: str) -> None:
    """Look at the end of a stream of which samples are missing. Raises AudioError, without the name, unless it was cut.

    frames: as many as its header promises. A cut Ogg file promises no more than it holds.
    """
    if format == "OGG" and missing > SLACK:
        raise AudioError(f"{missing:,} of its {frames:,} samples are missing; {OGG_ADVICE}")


def _ogg_parts(file: BinaryIO, size: int, seconds: float) -> list[Part]:
    """The streams that are chained in an Ogg file, one after the other, where there is more than one.

    seconds: of sound, as the decoder found. Raises AudioError on damage before the end, which it would pass over: the sound
    of a page would be missing, or made up.
    """
    starts: list[int] = []
    position, begins, last = 0, False, 0
    while position < size:
        head = _bytes(file, position, position + OGG_HEAD + 255)
        if head[:4] != b"OggS" or len(head) < OGG_HEAD:
            following = _find(file, b"OggS", position + 1)
            if following and starts:
                raise AudioError(f"its pages are damaged from byte {position:,} on; {OGG_ADVICE}")
            position = following or size
            continue
        end = position + OGG_HEAD + head[26] + sum(head[OGG_HEAD : OGG_HEAD + head[26]])
        if end <= size and _ogg_checksum(_bytes(file, position, end)) != head[22:26]:
            raise AudioError(f"its page at byte {position:,} is damaged; {OGG_ADVICE}")
        if head[5] & 2 and not begins:
            starts.append(position)
        begins = bool(head[5] & 2)
        last = max(last, int.from_bytes(head[6:14], "little", signed=True))
        position = end
    if len(starts) > 1:
        return [(b"", *link) for link in zip(starts, [*starts[1:], size], strict=True)]
    if starts and b"OpusHead" in _bytes(file, starts[0], starts[0] + OGG_HEAD + 255) and seconds * OPUS_CLOCK > last + 1:
        raise AudioError(
            f"its last page ends after {last / OPUS_CLOCK:.1f} s, its packets after {seconds:.1f} s; {OGG_ADVICE}"
        )
    return []


def _ogg_checksum(page: bytes) -> bytes:
    """The four bytes of a page from its 22nd on: zlib's CRC-32 with each byte's bits turned round, and none inverted."""
    mirrored = (page[:22] + bytes(4) + page[26:]).translate(MIRROR)
    return (zlib.crc32(mirrored, 0xFFFFFFFF) ^ 0xFFFFFFFF).to_bytes(4, "big").translate(MIRROR)


def _find(file: BinaryIO, mark: bytes, position: int) -> int | None:
    """Where a mark stands next in a file."""
    file.seek(position)
    data = b""
    while piece := file.read(PIECE):
        data = data[-len(mark) + 1 :] + piece
        if (at := data.find(mark)) >= 0:
            return file.tell() - len(data) + at
    return None


def _wav_parts(file: BinaryIO, size: int, place: int) -> list[Part]:
    """The sound of a WAV file, from ``place`` to its end, where its length was never written or is over 4 GB."""
    head = _bytes(file, place - 8, place)
    length = int.from_bytes(head[4:], "little")
    if size - place - length <= 8 and length < (1 << 32) - 1:
        return []
    kind = _bytes(file, 0, 4)
    if kind == b"RF64":
        length = 0  # said in another chunk, where it is 0 or it would not be asked for
    left = size - place - length
    if kind not in (b"RIFF", b"RF64") or head[:4] != b"data" or left <= 8:
        return []
    if (length or _is_chunk(file, size, place, "little")) and left % (1 << 32):
        return []
    chunks = _bytes(file, 8, place - 4).replace(b"ds64", b"JUNK", 1)
    start = b"RIFF" + OPEN_ENDED.to_bytes(4, "little") + chunks + bytes(4)
    return [(start, place, size)]


def part_seconds(part: Part) -> float | None:
    """How long the sound of a WAV file lasts by the bytes a second that its header names; None without any."""
    head, start, end = part
    place = head.find(b"fmt ") + 16
    speed = int.from_bytes(head[place : place + 4], "little") if place > 16 else 0
    return (end - start) / speed if speed else None


def _is_chunk(file: BinaryIO, size: int, place: int, order: Literal["big", "little"]) -> bool:
    """Whether a chunk of a RIFF or an AIFF file begins there: a name and a length."""
    head = _bytes(file, place, place + 8)
    return head[:4].decode("latin-1").strip().isalnum() and int.from_bytes(head[4:], order) <= size - place


def _bytes(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(end - start)
