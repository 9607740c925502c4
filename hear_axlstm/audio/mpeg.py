"""The streams in an MPEG audio file, found by walking from frame to frame: what its headers promise need not be there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO

from hear_axlstm.errors import AudioError

RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}  # by version; MPEG 1 is 3
KBITS = {  # by (MPEG 1, layer), for the indices 1 to 14
    (True, 1): range(32, 449, 32),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
ID3_HEAD, ID3_TAIL = 10, 128
PADDING = 2 * 4_095  # samples at both ends that an encoder adds, and its head counts, at most
RESYNC = 1_024  # bytes between frames that the decoder passes over
CHUNK = 1 << 20


@dataclass(frozen=True)
class Frame:
    """The facts in a frame's first four bytes. size: bytes, the header included. kind: what may not change in a stream."""

    size: int
    samples: int
    rate: int
    kind: tuple[int, int, int, bool]
    tag: int  # where a tag with the stream's length would be


@dataclass
class Stream:
    """Frames of one kind that lie one after the other: bytes ``start`` to ``end`` of the file, ``frames`` in number.

    head: a frame without sound before them, which says how long the stream is and where its sound begins; it may be empty.
    """

    rate: int
    samples_each: int
    start: int
    end: int
    head: bytes = b""
    frames: int = 0

    @property
    def samples(self) -> int:
        return self.frames * self.samples_each

    def promised(self) -> int | None:
        """The number of frames that ``head`` speaks of."""
        at = self._fields()
        return int.from_bytes(self.head[at : at + 4], "big") if at and self.head[at - 1] & 1 else None

    def mended_head(self) -> bytes:
        """``head``, with the number of frames that are there, unless the stream was cut: then its end has no padding."""
        at, promised = self._fields(), self.promised()
        if promised is None or not self.head[at - 1] & 2:
            return b""
        size, there = int.from_bytes(self.head[at + 4 : at + 8], "big"), self.end - self.start
        if promised > self.frames and size > there + len(self.head):
            return self.head
        counts = self.frames.to_bytes(4, "big") + (there + len(self.head)).to_bytes(4, "big")
        return self.head[:at] + counts + self.head[at + 8 :]

    def _fields(self) -> int:
        """Where the head has its numbers, after four bytes of flags; 0 without any."""
        at = max(self.head.find(tag, 0, 44) for tag in (b"Xing", b"Info"))
        return at + 8 if at > 0 and len(self.head) >= at + 16 else 0


def is_as_promised(file: BinaryIO, size: int, samples: int) -> bool:
    """Whether an MPEG file is one stream with a head that speaks of as many bytes as the file has. Quick.

    samples: as many as the decoder finds in a channel, which fit the head unless it did not take it for one.
    """
    file.seek(0)
    start, data = 0, file.read(256)
    if data[:1] != b"\xff":
        start = after_tags(file, 0)
        file.seek(start)
        data = file.read(256)
    frame = frame_at(data, 0)
    if frame is None or data[frame.tag : frame.tag + 4] not in (b"Xing", b"Info") or data[frame.tag + 7] & 3 != 3:
        return False
    frames, promised = (int.from_bytes(data[frame.tag + at : frame.tag + at + 4], "big") for at in (8, 12))
    if frames > promised // 24 + 1:  # no frame is shorter
        return False
    if not 0 <= frames * frame.samples - samples <= PADDING:
        return False
    lengths = start + promised, start + promised + frame.size
    return size in lengths or end_of_frames(file, size) in lengths


def streams(file: BinaryIO, size: int) -> list[Stream]:
    """The streams of an MPEG file, by walking over all of it; empty where the frames do not say how long they are.

    Raises AudioError on bytes among them that are neither frames nor tags.
    """
    found: list[Stream] = []
    kind = None
    end = end_of_frames(file, size)
    position = _next(file, 0, end, CHUNK)
    while position < end:
        for place, frame, data in _frames(file, position, end):
            head = data if frame.kind[1] == 3 and data[frame.tag : frame.tag + 4] in (b"Xing", b"Info", b"VBRI") else b""
            if head or frame.kind != kind or place != position:
                found.append(Stream(frame.rate, frame.samples, place, place, head))
            if head:
                found[-1].start = place + frame.size
            else:
                found[-1].frames += 1
            kind, position = frame.kind, place + frame.size
            found[-1].end = position
        if not found:
            return []
        position = _next(file, position, end)
        kind = None
    return [stream for stream in found if stream.frames]


def seconds(file: BinaryIO, size: int) -> float:
    """How long the streams of a file last together; 0 without any. Raises AudioError as ``streams`` does."""
    return sum(one.samples / one.rate for one in streams(file, size))


def _frames(file: BinaryIO, position: int, end: int) -> Iterator[tuple[int, Frame, bytes]]:
    """Place, facts and first bytes of each frame from a position on, as far as one follows the other, whole ones only."""
    data, base = b"", position
    while position + 4 <= end:
        at = position - base
        if at + 4_096 > len(data) and base + len(data) < end:
            file.seek(position)
            data, base, at = file.read(min(CHUNK, end - position)), position, 0
        frame = frame_at(data, at)
        if frame is None or position + frame.size > end:
            return
        yield position, frame, data[at : at + frame.size]
        position += frame.size


def frame_at(data: bytes, at: int) -> Frame | None:
    """The facts of the frame that begins there, if one does that says its length."""
    if at + 4 > len(data) or data[at] != 0xFF:
        return None
    return _facts(data[at + 1], data[at + 2], data[at + 3] >> 6 == 3)


@lru_cache(1 << 12)
def _facts(first: int, second: int, mono: bool) -> Frame | None:
    version, layer, rate = first >> 3 & 3, 4 - (first >> 1 & 3), second >> 2 & 3
    bits, padding = second >> 4, second >> 1 & 1
    if first < 0xE0 or version == 1 or layer == 4 or bits in (0, 15) or rate == 3:
        return None
    hertz, bits_a_second = RATES[version][rate], 1_000 * KBITS[version == 3, layer][bits - 1]
    samples = 384 if layer == 1 else 576 if layer == 3 and version != 3 else 1_152
    size = (12 * bits_a_second // hertz + padding) * 4 if layer == 1 else samples // 8 * bits_a_second // hertz + padding
    side = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    return Frame(size, samples, hertz, (version, layer, hertz, mono), 4 + side)


def after_tags(file: BinaryIO, position: int) -> int:
    """The position after the tags that begin there."""
    while True:
        file.seek(position)
        head = file.read(32)
        if head[:3] == b"ID3" and len(head) >= ID3_HEAD:
            length = sum((byte & 127) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
            position += ID3_HEAD + length + (ID3_HEAD if head[5] & 16 else 0)
        elif head[:3] == b"TAG":
            position += ID3_TAIL
        elif head[:8] == b"APETAGEX" and len(head) == 32:
            position += int.from_bytes(head[12:16], "little") + (32 if head[23] & 128 else 0)
        else:
            return position


def first_frame(file: BinaryIO) -> int:
    """Where the first frame is, if it follows tags at the file's beginning; 0 where something else does."""
    position = after_tags(file, 0)
    file.seek(position)
    return position if frame_at(file.read(4), 0) else 0


def end_of_frames(file: BinaryIO, size: int) -> int:
    """Where the frames of a file end: before the tags at its end."""
    file.seek(max(size - ID3_TAIL, 0))
    end = size - ID3_TAIL if file.read(3) == b"TAG" else size
    file.seek(max(end - 32, 0))
    foot = file.read(32)
    if foot[:8] == b"APETAGEX":
        end -= int.from_bytes(foot[12:16], "little") + (32 if foot[23] & 128 else 0)
    return max(end, 0)


def _next(file: BinaryIO, position: int, end: int, limit: int = RESYNC) -> int:
    """The place of the next frame after something else, or the end. Raises AudioError when over ``limit`` bytes away."""
    after = after_tags(file, position)
    file.seek(after)
    data = file.read(max(min(CHUNK, end - after), 0))
    at = data.find(b"\xff")
    while at >= 0:
        if _leads_on(data, at):
            if at > limit:
                raise AudioError(f"is damaged: {at:,} bytes from {after:,} on are no MPEG frames; replace the file")
            return after + at
        at = data.find(b"\xff", at + 1)
    if len(data) == CHUNK:
        raise AudioError(f"is damaged: what follows {after:,} bytes is no MPEG audio; replace the file")
    return end


def _leads_on(data: bytes, at: int) -> bool:
    """Whether three frames begin there, one after the other, or as many as end with the data."""
    for _ in range(3):
        frame = frame_at(data, at)
        if frame is None:
            return False
        at += frame.size
        if at == len(data):
            return True
    return True
