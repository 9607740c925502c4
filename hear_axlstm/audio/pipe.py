"""Sound from a pipe, as it comes: a WAV or samples without a header -> mono float32 samples at 16 kHz, block by block."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Literal

import numpy as np
import soxr

from hear_axlstm.audio.files import Wave
from hear_axlstm.audio.wav import CODINGS, CONVERT, FLOAT, PCM, PIECE, Header, Input, check_the_rest, read_header
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.errors import AudioError
from hear_axlstm.progress import several

Raw = Literal["s16le", "f32le"]  # FFmpeg's names
HEADERS = (b"RIFF", b"RF64", b"BW64", b"FORM", b"fLaC", b"OggS", b"ID3")  # what files that have one begin with
RAW = {"s16le": CODINGS[PCM, 16], "f32le": CODINGS[FLOAT, 32]}


class SoundPipe:
    """A sound that comes through a pipe. ``header`` says how; making one reads as far as that.

    header: of samples that come without one; None: a WAV comes. Raises AudioError, without a name, where that is no WAV, or
    its header cannot be true.
    """

    def __init__(self, file: Input, header: Header | None = None) -> None:
        self._file, self._is_raw = file, header is not None
        self.header = header or read_header(file)

    def blocks(self) -> Iterator[Wave]:
        """The samples as they come: channels are averaged, and any rate is resampled as ``read_audio`` does it.

        Joined, they are what ``read_audio`` gives of a file with the same bytes. soxr works in blocks, so that samples at
        other rates than 16 kHz come up to 0.12 s later, and below 8 kHz up to 1 s. A KeyboardInterrupt while it waits for
        sound is the end of that.

        Shape: -> (n_samples,) each, of which there may be none. Raises AudioError, without a name, on NaN, infinity, half a
        sample at the end, less sound than the header promises, or a header among samples that come without one; all samples
        before it came before.
        """
        rate = self.header.rate
        resampler = None if rate == SAMPLE_RATE else soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")
        with suppress(KeyboardInterrupt):
            for block in self._native_blocks():
                yield resampler.resample_chunk(block) if resampler else block
        if resampler:
            yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)

    def _native_blocks(self) -> Iterator[Wave]:
        """The mean of the channels at the sound's own rate."""
        length, frame = self.header.length, self.header.frame
        left, cut, count = sys.maxsize if length is None else length, b"", 0
        while left and (piece := self._file.read(min(PIECE, left))):
            left -= len(piece)
            data = cut + piece
            if self._is_raw and not count and data.startswith(HEADERS):
                raise AudioError(
                    f"has a header (it begins with {data[:4]!r}): leave --raw out if it is a WAV; else {CONVERT}"
                )
            whole = len(data) - len(data) % frame
            cut = data[whole:]
            block = self._mono(data[:whole])
            good = len(block) if np.isfinite(block).all() else int(np.isfinite(block).argmin())
            yield block[:good]
            count += good
            if good < len(block):
                raise AudioError(f"sample {count:,} is NaN or infinite; expected finite samples in [-1, 1]")
        if length is not None and left:
            raise AudioError(
                f"ends after {length - left:,} of the {length:,} bytes of sound that its header promises; get it again"
            )
        is_padding = cut == b"\0" and count * frame % 2  # by which sox makes the number of bytes even
        if cut and not is_padding:
            raise AudioError(
                f"ends in the middle of a sample: the last {several(len(cut), 'byte')} of {frame:,}, the channels "
                "together; see to what writes into the pipe"
            )
        if length is not None:
            check_the_rest(self._file, length)

    def _mono(self, data: bytes) -> Wave:
        samples = self.header.coding.decoded(data).reshape(-1, self.header.channels)
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused
            return samples.mean(axis=1)
