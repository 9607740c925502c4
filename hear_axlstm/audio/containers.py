"""Sound that libsndfile does not read, such as AAC in .m4a and .mp4: decoded by PyAV, else by the program ffmpeg.

PyAV comes first, since it reads from memory and open files, too, and starts nothing. Either is as strict: a file that is cut
or damaged fails, and what is promised must be there.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from hear_axlstm.audio.sources import MAX_RATE, MIN_RATE
from hear_axlstm.errors import AudioError
from hear_axlstm.progress import several

SUFFIXES = frozenset(
    ".m4a .m4b .m4r .aac .mp4 .m4v .mov .3gp .3g2 .wma .asf .wmv .webm .weba .mka .mkv .amr .awb .ac3 .eac3 .ape .wv .tta "
    ".dts .mpc .avi .flv .ts .mpg .mpeg .vob".split()
)
# What such files hold. Play lists, which name other files or addresses, are none of these.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,aac,loas,asf,matroska,webm,amr,amrnb,amrwb,ac3,eac3,ape,wv,tta,dts,mpc,mpc8,avi,flv,mpegts,mpeg,"
    "mpegvideo"
)
OURS = "wav,mp3,ogg,flac,caf,aiff"  # which libsndfile reads, and which are found in files that are called otherwise
NO_SOUND = "it is of none of the kinds that hold sound; leave it out"
STRICT = "crccheck+bitstream+buffer+explode"  # what FFmpeg looks at, and that it gives up
MISSING_SECONDS = 0.25  # that may be missing of what a container promises
BLOCK_SECONDS, BLOCK_VALUES = 60, 1 << 25  # decoded at once
GET = (
    "it is read by PyAV or by the program ffmpeg: pip install 'hear-axlstm[av]', or apt, brew or conda install ffmpeg, or "
    "convert it to FLAC elsewhere"
)

OLDEST_PYAV = (17, 1)

File = str | os.PathLike[str] | BinaryIO


@dataclass(frozen=True)
class Track:
    """The first audio track of a file: rate in Hz, channels, seconds; NaN where nothing says how long it is.

    promised: seconds that must be there; NaN where the file only gives an estimate.
    """

    rate: int
    channels: int
    seconds: float
    promised: float

    @classmethod
    def of(cls, kind: str, tracks: int, rate: int, channels: int, said: dict[str, float]) -> Track:
        """What a container says of a track. Raises AudioError, without the name, where that cannot be true.

        kind: FFmpeg's name of the format. tracks: of any kind, in the container. said: seconds, NaN where they are not
        said: "track" and "container", how long these are; "end" and "start", when the track does that.
        """
        if not (MIN_RATE <= rate <= MAX_RATE and channels > 0):
            expected = f"expected {MIN_RATE:,} to {MAX_RATE:,} Hz"
            raise AudioError(f"its header says {rate:,} Hz and {several(channels, 'channel')}; {expected}")
        promised = said["track"] if "mov" in kind else math.nan
        if math.isnan(promised):  # matroska says when the track ends
            promised = said["end"] - max(0.0 if math.isnan(said["start"]) else said["start"], 0.0)
        if math.isnan(promised) and kind == "asf" and tracks == 1:
            promised = said["container"]
        known = [promised, said["track"], said["container"]]
        return cls(rate, channels, next((one for one in known if not math.isnan(one)), math.nan), promised)

    def check(self, seconds: float) -> None:
        """Raise AudioError, without the name, where fewer seconds were decoded than are promised."""
        if seconds < self.promised - MISSING_SECONDS:
            raise AudioError(f"holds {seconds:.1f} s of the {self.promised:.1f} s that it promises; replace the file")


def is_there(file: File = "") -> bool:
    """Whether there is anything that decodes a file: PyAV, or for one that has a path the program ffmpeg."""
    return _way(file) is not None


def is_needed(source: Any) -> bool:
    """Whether a source is a file of a kind that libsndfile does not read, by its suffix."""
    return isinstance(source, str | os.PathLike) and Path(source).suffix.lower() in SUFFIXES


def find_track(file: File, formats: str = f"{FORMATS},{OURS}") -> Track:
    """What a container says of its first audio track. Raises AudioError, without the name, when it cannot be read.

    formats: FFmpeg's names of those that the file may be of.
    """
    return _way(file).find_track(file, formats)


def decoded(file: File, formats: str = f"{FORMATS},{OURS}") -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The samples of a file's first audio track at its own rate, block by block, with the rate.

    Shape: -> Hz and (n_samples,) each, a minute at most, float32, mono. Raises AudioError, without the name, when anything
    is wrong with the file or missing in it.
    """
    yield from _way(file).decoded(file, formats)


def has_track(file: File, formats: str) -> bool:
    """Whether a file of any name, which libsndfile does not know, is of one of these formats and has an audio track."""
    try:
        return is_there(file) and find_track(file, formats) is not None
    except AudioError:
        return False


def in_seconds(text: str | None) -> float:
    """The number of "3.5" or "00:00:03.5"; NaN where there is none.

    >>> in_seconds("00:01:03.5"), in_seconds("N/A"), in_seconds(None)
    (63.5, nan, nan)
    """
    try:
        parts = [float(part) for part in (text or "").split(":")]
        return sum(part * 60**power for power, part in enumerate(reversed(parts)))
    except ValueError:
        return math.nan


def _way(file: File) -> Any:
    """The module that decodes a file; None where nothing does."""
    if has_pyav():
        return import_module("hear_axlstm.audio.pyav")
    program = import_module("hear_axlstm.audio.ffmpeg")
    return program if isinstance(file, str | os.PathLike) and program.is_there() else None


@cache
def has_pyav() -> bool:
    """Whether there is a PyAV that is new enough: earlier ones end the process over some damaged files."""
    try:
        major, minor = import_module("av").__version__.split(".")[:2]
    except (ImportError, OSError):
        return False
    return (int(major), int(minor)) >= OLDEST_PYAV
