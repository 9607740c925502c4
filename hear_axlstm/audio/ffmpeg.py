"""FFmpeg's decoders in a process of their own: the programs ffprobe and ffmpeg, which read files by path."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from threading import Timer
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from hear_axlstm.audio import containers
from hear_axlstm.audio.containers import NO_SOUND, STRICT, File, Track, in_seconds
from hear_axlstm.audio.sources import status_of
from hear_axlstm.errors import AudioError

SILENT_SECONDS = 120.0  # that a program may take to give something; then it is ended


def is_there() -> bool:
    """Whether the programs ffmpeg and ffprobe are on the PATH."""
    return bool(shutil.which("ffmpeg") and shutil.which("ffprobe"))


def find_track(path: File, formats: str) -> Track:
    """As ``containers`` has it; of a path alone."""
    assert isinstance(path, str | os.PathLike)
    status_of(path)
    entries = "stream=sample_rate,channels,duration,start_time:stream_tags=DURATION:format=duration,nb_streams,format_name"
    shown = ["-select_streams", "a:0", "-show_entries", entries, "-of", "json"]
    command: list[str | bytes] = ["ffprobe", *_safe(formats), *shown, _url(path)]
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
    said = {
        "track": in_seconds(stream.get("duration")),
        "container": in_seconds(container.get("duration")),
        "start": in_seconds(stream.get("start_time")),
        "end": in_seconds(stream.get("tags", {}).get("DURATION")),
    }
    rate, channels = int(stream["sample_rate"]), int(stream["channels"])
    return Track.of(container["format_name"], container["nb_streams"], rate, channels, said)


def decoded(path: File, formats: str) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """As ``containers`` has it; of a path alone."""
    assert isinstance(path, str | os.PathLike)
    track = find_track(path, formats)
    frames = min(containers.BLOCK_SECONDS * track.rate, containers.BLOCK_VALUES // track.channels)
    form = ["-f", "f32le", "-c:a", "pcm_f32le", "-ar", str(track.rate), "-ac", str(track.channels)]
    strict = ["-xerror", "-err_detect", STRICT]
    command: list[str | bytes] = ["ffmpeg", "-nostdin", "-hide_banner", *_safe(formats), *strict, "-i", _url(path)]
    command += ["-map", "0:a:0", *form, "pipe:1"]
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
    track.check(count / track.rate)


def _safe(formats: str) -> tuple[str, ...]:
    return ("-v", "error", "-protocol_whitelist", "file,pipe", "-format_whitelist", formats)


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


def _refused(path: str | os.PathLike[str], said: bytes) -> AudioError:
    """What ffmpeg complained of first, without the name and the address in it."""
    lines = said.decode(errors="replace").strip().splitlines() or ["it ended without a word"]
    if "not on whitelist" in lines[0]:
        return AudioError(NO_SOUND)
    first = lines[0].replace(_url(path).decode(errors="replace") + ": ", "")
    return AudioError(f"cannot be decoded (ffmpeg: {first[first.find('] ') + 1 :].strip()}); replace the file")
