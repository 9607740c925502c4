"""Sound that libsndfile does not read, such as AAC in .m4a and .mp4, decoded by the program ffmpeg where there is one."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from hear_axlstm.audio.sources import MAX_RATE, MIN_RATE, status_of
from hear_axlstm.errors import AudioError
from hear_axlstm.progress import several

SUFFIXES = frozenset(
    ".m4a .m4b .m4r .aac .mp4 .m4v .mov .3gp .3g2 .wma .asf .wmv .webm .weba .mka .mkv .amr .awb .ac3 .eac3 .ape .wv .tta "
    ".dts .mpc .avi .flv .ts .mpg .mpeg .vob".split()
)
# What such files hold. Play lists, which name other files or addresses, are none of these.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,aac,loas,asf,matroska,webm,amr,amrnb,amrwb,ac3,eac3,ape,wv,tta,dts,mpc,mpc8,avi,flv,mpegts,mpeg,"
    "mpegvideo,wav,mp3,ogg,flac,caf,aiff"
)
SAFE = ("-v", "error", "-protocol_whitelist", "file,pipe", "-format_whitelist", CONTAINERS)
STRICT = ("-err_detect", "crccheck+bitstream+buffer+explode")
SILENT_SECONDS = 120.0  # that a program may take to give something; then it is ended
MISSING_SECONDS = 0.25  # that may be missing of what a container promises
BLOCK_SECONDS, BLOCK_VALUES = 60, 1 << 25  # decoded at once
GET = "it is read by the program ffmpeg: install that (apt, brew or conda install ffmpeg), or convert it to FLAC elsewhere"


@dataclass(frozen=True)
class Track:
    """The first audio track of a file: rate in Hz, channels, seconds; NaN where nothing says how long it is.

    promised: seconds that must be there; NaN where the file only gives an estimate.
    """

    rate: int
    channels: int
    seconds: float
    promised: float


def is_there() -> bool:
    """Whether the programs ffmpeg and ffprobe are on the PATH."""
    return bool(shutil.which("ffmpeg") and shutil.which("ffprobe"))


def is_needed(source: Any) -> bool:
    """Whether a source is a file of a kind that only ffmpeg reads, by its suffix."""
    return isinstance(source, str | os.PathLike) and Path(source).suffix.lower() in SUFFIXES


def find_track(path: str | os.PathLike[str]) -> Track:
    """What ffprobe says of a file. Raises AudioError, without the name, when it has no audio track or cannot be read."""
    status_of(path)
    entries = "stream=sample_rate,channels,duration,start_time:stream_tags=DURATION:format=duration,nb_streams,format_name"
    command: list[str | bytes] = [
        "ffprobe",
        *SAFE,
        "-select_streams",
        "a:0",
        "-show_entries",
        entries,
        "-of",
        "json",
        _url(path),
    ]
    try:
        done = subprocess.run(  # noqa: S603 - our own arguments
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SILENT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise AudioError(f"ffprobe says nothing about it in {SILENT_SECONDS:.0f} s; replace the file") from error
    if done.returncode:
        raise _refused(path, done.stderr)
    found = json.loads(done.stdout)
    if not found.get("streams"):
        raise AudioError("it has no audio track; leave it out")
    stream, container = found["streams"][0], found["format"]
    rate, channels = int(stream["sample_rate"]), int(stream["channels"])
    if not (MIN_RATE <= rate <= MAX_RATE and channels > 0):
        raise AudioError(
            f"its header says {rate:,} Hz and {several(channels, 'channel')}; expected {MIN_RATE:,} to {MAX_RATE:,} Hz"
        )
    own = _seconds(stream.get("duration")) if "mov" in container["format_name"] else math.nan
    if math.isnan(own):  # matroska says when the track ends
        own = _seconds(stream.get("tags", {}).get("DURATION")) - max(_seconds(stream.get("start_time"), 0.0), 0.0)
    if math.isnan(own) and container["format_name"] == "asf" and container["nb_streams"] == 1:
        own = _seconds(container.get("duration"))
    whole = _seconds(stream.get("duration"), _seconds(container.get("duration")))
    return Track(rate, channels, whole if math.isnan(own) else own, own)


def decoded(path: str | os.PathLike[str]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The samples of a file's first audio track at its own rate, block by block, with the rate.

    Shape: -> Hz and (n_samples,) each, a minute at most, float32, mono. Raises AudioError, without the name, when anything
    is wrong with the file or missing in it.
    """
    track = find_track(path)
    frames = min(BLOCK_SECONDS * track.rate, BLOCK_VALUES // track.channels)
    form = ["-f", "f32le", "-c:a", "pcm_f32le", "-ar", str(track.rate), "-ac", str(track.channels)]
    command: list[str | bytes] = [
        "ffmpeg",
        "-nostdin",
        "-hide_banner",
        *SAFE,
        "-xerror",
        *STRICT,
        "-i",
        _url(path),
        "-map",
        "0:a:0",
        *form,
        "pipe:1",
    ]
    count = 0
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(  # noqa: S603 - our own arguments
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said
        ) as process,
    ):
        try:
            assert process.stdout is not None
            while data := _read(process.stdout, frames * track.channels * 4, process):
                block = np.frombuffer(data, "<f4", len(data) // (4 * track.channels) * track.channels)
                count += len(block) // track.channels
                yield track.rate, block.reshape(-1, track.channels).mean(axis=1, dtype=np.float32)
            code = process.wait(SILENT_SECONDS)
        finally:
            process.kill()
        said.seek(0)
        complaints = said.read()
    if code or complaints.strip():
        raise _refused(path, complaints)
    if count / track.rate < track.promised - MISSING_SECONDS:
        raise AudioError(
            f"holds {count / track.rate:.1f} s of the {track.promised:.1f} s that it promises; replace the file"
        )


def _read(pipe: BinaryIO | Any, size: int, process: subprocess.Popen[bytes]) -> bytes:
    """As many bytes as there are, up to ``size``, from a program that is ended when it says nothing for long."""
    timer = Timer(SILENT_SECONDS, process.kill)
    timer.daemon = True
    timer.start()
    try:
        return bytes(pipe.read(size))
    finally:
        timer.cancel()


def _url(path: str | os.PathLike[str]) -> bytes:
    """A path as ffmpeg takes it, whatever characters are in it."""
    return b"file:" + os.fsencode(path)


def _seconds(text: str | None, otherwise: float = math.nan) -> float:
    """The number of "3.5" or "00:00:03.5"."""
    try:
        parts = [float(part) for part in (text or "").split(":")]
        return sum(part * 60**power for power, part in enumerate(reversed(parts)))
    except ValueError:
        return otherwise


def _refused(path: str | os.PathLike[str], said: bytes) -> AudioError:
    """What ffmpeg complained of first, without the name and the address in it."""
    lines = said.decode(errors="replace").strip().splitlines() or ["it ended without a word"]
    if "not on whitelist" in lines[0]:
        return AudioError("it is of none of the kinds that hold sound; leave it out")
    first = lines[0].replace(_url(path).decode(errors="replace") + ": ", "")
    return AudioError(f"cannot be decoded (ffmpeg: {first[first.find('] ') + 1 :].strip()}); replace the file")
