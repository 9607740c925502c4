"""The header of a WAV that comes through a pipe: how its samples are coded, and how many bytes of them it promises.

Files are read by libsndfile, which seeks. Here nothing does, and a length that the writer could not know is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from hear_axlstm.audio.sources import MAX_RATE, MIN_RATE
from hear_axlstm.errors import AudioError
from hear_axlstm.progress import several

PIECE = 1 << 16  # bytes that are taken at once, at most: as many as a pipe mostly holds
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE  # kinds of coding in the chunk "fmt "
SUBFORMAT = bytes.fromhex("000000001000800000aa00389b71")  # what follows the kind where that is EXTENSIBLE
LARGEST = 1 << 16  # bytes that the chunks "fmt " and "ds64" may have
SLACK = 4_096  # bytes after the last chunk that may be anything, as in files
CONVERT = "`ffmpeg -i IN -f wav -` converts it"
# A writer that cannot go back to fill in how long a sound was has to write something: 0 or 2**32 - 1 (FFmpeg, flac, lame),
# 2**31 (arecord), 2**31 - 1 (oboe), 2**31 - 256 (older arecord), 2**31 - 4,096 (sox, mpv), 2**31 - 65,536 (GStreamer), which
# may be rounded down to whole samples, or less the header's 36 or 44. So no length is believed that is as near as this below
# 2**31 or 2**32.
DOUBT = 1 << 16
LIMITS = (1 << 31, 1 << 32, 1 << 63, 1 << 64)  # the latter two where lengths have 64 bits


class Input(Protocol):
    """Bytes as they come: ``read(most)`` returns what is there, waits only where nothing is, and gives none at the end."""

    def read(self, most: int, /) -> bytes: ...


class Coding(NamedTuple):
    """How a sample is coded. name: for people. dtype: numpy's, of little-endian numbers; those of 24 bits have none."""

    name: str
    width: int
    dtype: str

    def decoded(self, data: bytes) -> NDArray[np.float32]:
        """Whole samples as floats in [-1, 1], scaled as libsndfile does. Shape: -> (n_samples,)."""
        if self.width == 3:
            padded = np.zeros((len(data) // 3, 4), np.uint8)
            padded[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
            values = padded.reshape(-1).view("<i4")
        else:
            values = np.frombuffer(data, self.dtype)
        if values.dtype.kind == "u":
            values = (values ^ 0x80).view(np.int8)
        with np.errstate(over="ignore"):  # it becomes infinite, which is refused
            floats = values.astype(np.float32)
        return floats if values.dtype.kind == "f" else floats / -float(np.iinfo(values.dtype).min)


CODINGS = {  # by kind and bits
    (PCM, 8): Coding("8 bits", 1, "u1"),
    (PCM, 16): Coding("16 bits", 2, "<i2"),
    (PCM, 24): Coding("24 bits", 3, ""),
    (PCM, 32): Coding("32 bits", 4, "<i4"),
    (FLOAT, 32): Coding("32-bit floats", 4, "<f4"),
    (FLOAT, 64): Coding("64-bit floats", 8, "<f8"),
}


@dataclass(frozen=True)
class Header:
    """What is known of a sound before its first sample: coding, rate in Hz and channels.

    length: bytes of samples; None where they go on to the end of the input. Raises AudioError, without the name, on a rate
    or a number of channels that cannot be.
    """

    coding: Coding
    rate: int
    channels: int
    length: int | None = None

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise AudioError(f"has {several(self.channels, 'channel')}; expected 1 or more: see to what writes it")
        if not MIN_RATE <= self.rate <= MAX_RATE:
            raise AudioError(f"is at {self.rate:,} Hz; expected {MIN_RATE:,} to {MAX_RATE:,} Hz: see to what writes it")

    @property
    def frame(self) -> int:
        """Bytes of one sample of every channel."""
        return self.coding.width * self.channels


def read_header(file: Input) -> Header:
    """The header of a WAV, or of an RF64 or BW64, up to the first sample.

    Raises AudioError, without the name, where there is none, or it cannot be true.
    """
    start = taken(file, 12)
    if not start:
        raise AudioError("nothing came; expected a WAV: see to what writes into the pipe")
    if start[:4] not in (b"RIFF", b"RF64", b"BW64") or start[8:] != b"WAVE":
        raise AudioError(
            f"is no WAV (it begins with {start[:4]!r}); {CONVERT}; or say how samples without a header are coded: --raw"
        )
    said, long_length = None, 0
    while True:
        name, size = _chunk(file)
        if name == b"data":
            break
        padded = size + size % 2
        if name not in (b"fmt ", b"ds64"):
            skipped(file, padded)
            continue
        content = taken(file, padded) if size <= LARGEST else b""
        if len(content) < padded or len(content) < 16:
            raise AudioError(f"its header is cut or damaged: {size:,} bytes of {name.decode()!r}; {CONVERT}")
        if name == b"fmt ":
            said = content
        else:
            long_length = int.from_bytes(content[8:16], "little")
    if said is None:
        raise AudioError(f"its header does not say how samples are coded; {CONVERT}")
    coding, rate, channels = _coding(said)
    if start[:4] != b"RIFF" and size == (1 << 32) - 1:
        size = long_length
    is_known = size and all(not 0 <= limit - size <= DOUBT for limit in LIMITS)
    return Header(coding, rate, channels, size if is_known else None)


def check_the_rest(file: Input, length: int) -> None:
    """Read what follows ``length`` bytes of samples to the end of the input.

    Raises AudioError, without the name, if it may be sound.
    """
    head = taken(file, 8)
    if length % 2 and head[:1] == b"\0":  # it makes the number of bytes even
        head = head[1:] + taken(file, 1)
    while len(head) == 8:
        if head[:4] in (b"RIFF", b"RF64", b"BW64", b"data") or not head[:4].decode("latin-1").strip().isalnum():
            left = len(head) + skipped(file)
            if left > SLACK:
                raise AudioError(
                    f"its header promises less than there is: {left:,} bytes follow; mend the header, or {CONVERT}"
                )
            return
        size = int.from_bytes(head[4:], "little")
        skipped(file, size + size % 2)
        head = taken(file, 8)


def taken(file: Input, count: int) -> bytes:
    """As many bytes as ``count``, or less at the end of the input."""
    data = b""
    while len(data) < count and (piece := file.read(count - len(data))):
        data += piece
    return data


def skipped(file: Input, count: int | None = None) -> int:
    """How many bytes were passed over: ``count``, or less at the end of the input; None: all."""
    left, passed = count, 0
    while (left is None or left) and (piece := file.read(PIECE if left is None else min(PIECE, left))):
        passed += len(piece)
        left = left and left - len(piece)
    return passed


def _chunk(file: Input) -> tuple[bytes, int]:
    """The name and the length of the next chunk of a header."""
    head = taken(file, 8)
    if len(head) < 8:
        raise AudioError(f"ends before the first sample; {CONVERT}")
    if not (head[:4].isascii() and head[:4].decode().isprintable()):
        raise AudioError(f"its header is damaged: {head[:4]!r} is the name of no chunk; {CONVERT}")
    return head[:4], int.from_bytes(head[4:], "little")


def _coding(said: bytes) -> tuple[Coding, int, int]:
    """The coding, the rate and the channels that the chunk "fmt " says."""
    kind, channels, bits = (int.from_bytes(said[place : place + 2], "little") for place in (0, 2, 14))
    rate, block = int.from_bytes(said[4:8], "little"), int.from_bytes(said[12:14], "little")
    if kind == EXTENSIBLE and said[26:40] == SUBFORMAT:
        kind = int.from_bytes(said[24:26], "little")
    coding = CODINGS.get((kind, bits))
    if coding is None:
        raise AudioError(
            f"its samples have {several(bits, 'bit')} in coding {kind:#x}; expected 8, 16, 24 or 32, or floats of 32 or 64, "
            f"uncompressed: {CONVERT}"
        )
    if block != coding.width * channels and channels:
        raise AudioError(
            f"its header says {several(block, 'byte')} for {several(channels, 'channel')} of {coding.name}; expected "
            f"{coding.width * channels:,}: {CONVERT}"
        )
    return coding, rate, channels
