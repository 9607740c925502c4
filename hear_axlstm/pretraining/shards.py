"""A folder of audio -> webdataset shards: 16 kHz mono clips as FLAC, or their log-mels."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from hear_axlstm.audio import Wave, write_flac
from hear_axlstm.config import SAMPLE_RATE, check_choice
from hear_axlstm.errors import AudioError, ConfigError, OutputError
from hear_axlstm.files.find import find_files, told_apart
from hear_axlstm.files.sounds import Given
from hear_axlstm.frontend import log_mel
from hear_axlstm.parallel import ordered_map
from hear_axlstm.progress import Bar, progress_bar
from hear_axlstm.storage import claim_folder, read_json, replacing, sweep, write_text

ShardFormat = Literal["flac", "log-mel"]
INDEX = "shards.json"
FILES_PER_SHARD = 1_000
SHORTEST_SECONDS = 2.0  # a last piece shorter than this stays with the piece before it


@dataclass
class Packed:
    """The shards of a folder, by this run and earlier ones, and the reason why each file in ``failures`` is not in them."""

    shards: list[Path] = field(default_factory=list)
    clips: int = 0
    seconds: float = 0.0
    failures: dict[str, str] = field(default_factory=dict)


def write_shards(
    inputs: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    format: ShardFormat = "flac",
    clip_seconds: float = 10.0,
    files_per_shard: int = FILES_PER_SHARD,
    workers: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = False,
) -> Packed:
    """Pack audio files, and all audio files below folders, into ``out``/shard-000000.tar and so on.

    Files are shuffled by ``seed``, read at any rate and channel count, and cut into clips of ``clip_seconds``; each clip is
    one member NUMBER-PIECE.SUFFIX of its shard, as webdataset reads it. format: "flac" keeps 16 bits at 16 kHz; "log-mel"
    keeps standardised log-mels (frames, 80), float16, .npy, which train faster and cannot be listened to. workers: threads,
    as many as processors when left out. overwrite: remove the folder's shards first. progress: a bar on stderr.

    A shard appears when it is whole, and a second run makes those that are missing. A file that cannot be decoded is left
    out and is among the ``failures`` of the result.

    Raises ConfigError when there is nothing to pack or a value does not fit, OutputError when ``out`` holds shards of other
    files or settings, or cannot be made, OSError when a shard cannot be written; what was finished by then is kept.
    """
    check_choice("format", format, ShardFormat)
    if clip_seconds < SHORTEST_SECONDS:
        raise ConfigError(f"clip_seconds is {clip_seconds}; expected {SHORTEST_SECONDS:.0f} or more, the length of a crop")
    if files_per_shard < 1:
        raise ConfigError(f"files_per_shard is {files_per_shard}; expected 1 or more")
    sounds = told_apart(find_files(inputs))
    if not sounds:
        raise ConfigError(f"no audio files below {', '.join(map(str, inputs))}")
    order = np.random.default_rng(seed).permutation(len(sounds))
    groups = [[sounds[i] for i in order[start : start + files_per_shard]] for start in range(0, len(order), files_per_shard)]
    settings = {
        "format": format,
        "clip_seconds": clip_seconds,
        "files_per_shard": files_per_shard,
        "seed": seed,
        "files": hashlib.sha256("\0".join(sound.name for sound in sounds).encode("utf-8", "surrogateescape")).hexdigest(),
    }
    folder = Path(out)
    # Any tar file: training would read somebody else's beside ours.
    claim_folder(folder / INDEX, settings, ["shard-*.json", "shard-*.tar"] if overwrite else ["*.tar"], overwrite=overwrite)
    sweep(folder)
    packed = Packed()
    with progress_bar(total=len(sounds), unit="file", shown=progress) as bar:
        for number, group in enumerate(groups):
            shard = folder / f"shard-{number:06d}.tar"
            report = shard.with_suffix(".json")
            if not shard.is_file():
                with closing(ordered_map(lambda sound: _members(sound, format, clip_seconds), group, workers)) as made:
                    _write(shard, report, number * files_per_shard, zip(group, made, strict=True), bar)
            else:
                bar.update(len(group))
            counts = read_json(report, OutputError, f"delete {shard}, and repeat: it is then made again")
            packed.shards.append(shard)
            packed.clips += counts["clips"]
            packed.seconds += counts["seconds"]
            packed.failures |= counts["failures"]
    return packed


Members = tuple[list[tuple[str, bytes]], float]  # (suffix of the name, content) of each clip; seconds in all


def _members(sound: Given, format: ShardFormat, clip_seconds: float) -> Members | AudioError:
    try:
        wave = sound.load()
    except AudioError as error:
        return error
    suffix = "npy" if format == "log-mel" else format
    clips = [(f"{piece:04d}.{suffix}", _encode(clip, format)) for piece, clip in enumerate(_cut(wave, clip_seconds))]
    return clips, len(wave) / SAMPLE_RATE


def _cut(wave: Wave, clip_seconds: float) -> list[Wave]:
    """The pieces of ``clip_seconds`` that a recording is cut into; a short rest stays with the last.

    >>> [len(piece) / SAMPLE_RATE for piece in _cut(np.zeros(11 * SAMPLE_RATE, np.float32), 5.0)]
    [5.0, 6.0]
    """
    length = round(clip_seconds * SAMPLE_RATE)
    starts = list(range(0, len(wave), length))
    if len(starts) > 1 and len(wave) - starts[-1] < SHORTEST_SECONDS * SAMPLE_RATE:
        starts.pop()
    return np.split(wave, starts[1:])


def _encode(clip: Wave, format: ShardFormat) -> bytes:
    content = io.BytesIO()
    if format == "log-mel":
        np.save(content, log_mel(torch.from_numpy(clip.copy())[None])[0].numpy().astype(np.float16))
        return content.getvalue()
    write_flac(content, clip)
    return content.getvalue()


def _write(shard: Path, report: Path, first: int, made: Iterator[tuple[Given, Members | AudioError]], bar: Bar) -> None:
    """Write the tar file, after its report of clips, seconds and failures, which every shard that is there has."""
    clips, seconds, failures = 0, 0.0, {}
    with replacing(shard) as temporary:
        with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
            for number, (sound, result) in enumerate(made, start=first):
                bar.update()
                if isinstance(result, AudioError):
                    failures[sound.name] = str(result)
                    continue
                for piece, content in result[0]:
                    member = tarfile.TarInfo(f"{number:09d}-{piece}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
                clips += len(result[0])
                seconds += result[1]
        counts = {"clips": clips, "seconds": round(seconds, 3), "failures": failures}
        write_text(report, json.dumps(counts, indent=2) + "\n")
