"""A folder of audio -> webdataset shards: 16 kHz mono clips as FLAC, or their log-mels."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from hear_axlstm.audio import Wave, audio_blocks, checked, write_flac
from hear_axlstm.config import SAMPLE_RATE, check_choice
from hear_axlstm.errors import AudioError, ConfigError, OutputError
from hear_axlstm.files.find import counted, find_files
from hear_axlstm.files.planning import told_apart
from hear_axlstm.files.sounds import FileSound, Given, Source, reason
from hear_axlstm.frontend import log_mel
from hear_axlstm.parallel import ordered_map
from hear_axlstm.pretraining import FILES_PER_SHARD, ShardFormat
from hear_axlstm.progress import Bar, progress_bar
from hear_axlstm.storage import changed_options, claim_folder, read_json, replacing, sweep, write_text

INDEX = "shards.json"
WORDS = {  # for settings that are others than those a folder was begun with
    **changed_options("format", "clip_seconds", "files_per_shard", "seed"),
    "files": lambda *_: (
        "the recordings were others: some have been added, removed or renamed since, or other folders are named"
    ),
}
WAITING = 64  # recordings decoded while one that takes long holds up the shard
HELD_BYTES = 8 << 20  # of a recording's clips in memory; more go to the disk
SHORTEST_SECONDS = 2.0  # a last piece shorter than this stays with the piece before it


@dataclass
class Packed:
    """The shards of a folder, by this run and earlier ones, and the reason why each file in ``failures`` is not in them.

    left_out: files in folders that have other suffixes than audio has.
    """

    shards: list[Path] = field(default_factory=list)
    clips: int = 0
    seconds: float = 0.0
    failures: dict[str, str] = field(default_factory=dict)
    left_out: list[Path] = field(default_factory=list)


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

    A shard appears when it is whole. A second run makes those that are missing or damaged, or of which a file has changed
    since: another path, size or time. A file that cannot be decoded is left out and is among the ``failures`` of the result.
    Where none can be decoded, nothing is written.

    Raises ConfigError when there is nothing to pack or a value does not fit, OutputError when ``out`` holds shards of other
    files or settings, or cannot be made, OSError when a shard cannot be written; what was finished by then is kept.
    """
    check_choice("format", format, ShardFormat)
    if not SHORTEST_SECONDS <= clip_seconds < math.inf:
        raise ConfigError(f"clip_seconds is {clip_seconds}; expected {SHORTEST_SECONDS:.0f} or more, the length of a crop")
    if files_per_shard < 1:
        raise ConfigError(f"files_per_shard is {files_per_shard}; expected 1 or more")
    packed = Packed()
    sounds = told_apart(find_files(inputs, packed.left_out))
    if not sounds:
        raise ConfigError(f"no audio files below {', '.join(map(str, inputs))}{counted(packed.left_out)}")
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
    ours = ["shard-*.json", "shard-*.tar"] if overwrite else ["*.tar"]
    claim_folder(folder / INDEX, settings, ours, words=WORDS, overwrite=overwrite)
    sweep(folder)

    def members(sound: Given) -> _Members | str:
        return _members(sound, format, clip_seconds, folder)

    with progress_bar(total=len(sounds), unit="file", shown=progress) as bar:
        for number, group in enumerate(groups):
            shard = folder / f"shard-{number:06d}.tar"
            sources = [_identity(sound) for sound in group]
            report = _read_report(shard, sources)
            if report is None:
                with closing(ordered_map(members, group, workers, limit=WAITING)) as made:
                    report = _write(shard, sources, number * files_per_shard, zip(group, made, strict=True), bar)
            else:
                bar.update(len(group))
            packed.shards.append(shard)
            packed.clips += report["clips"]
            packed.seconds += report["seconds"]
            packed.failures |= report["failures"]
    if not packed.clips:
        _leave(folder, packed)
    return packed


def _leave(folder: Path, packed: Packed) -> None:
    """Remove shards that hold nothing, and the folder with them where it has nothing else."""
    for shard in packed.shards:
        shard.unlink(missing_ok=True)
        shard.with_suffix(".json").unlink(missing_ok=True)
    packed.shards.clear()
    (folder / INDEX).unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


@dataclass
class _Members:
    """The clips of a recording as a shard has them. content: all of them, one after the other, on the disk where it is long.

    sizes: bytes of each one, by the end of its name. samples: at 16 kHz, in all.
    """

    content: IO[bytes]
    sizes: list[tuple[str, int]] = field(default_factory=list)
    samples: int = 0


def _members(sound: Given, format: ShardFormat, clip_seconds: float, scratch: Path) -> _Members | str:
    """The clips of a sound, or why there are none. Raises OSError when ``scratch`` cannot be written."""
    made = _Members(tempfile.SpooledTemporaryFile(HELD_BYTES, dir=str(scratch)))  # noqa: SIM115 - closed by who writes the shard
    suffix = "npy" if format == "log-mel" else format
    try:
        blocks = audio_blocks(sound.path) if isinstance(sound, FileSound) else [sound.load()]
        for piece, clip in enumerate(_cut(blocks, clip_seconds)):
            encoded = _encode(checked(clip, str(sound.path)), format)
            made.content.write(encoded)
            made.sizes.append((f"{piece:04d}.{suffix}", len(encoded)))
            made.samples += len(clip)
    except OSError:
        raise
    except Exception as error:  # whatever is wrong with a sound is that sound's failure
        made.content.close()
        return reason(error, sound.name)
    made.content.seek(0)
    return made


def _cut(blocks: Iterable[Wave], clip_seconds: float) -> Iterator[Wave]:
    """The pieces of ``clip_seconds`` that a recording is cut into; a short rest stays with the last.

    >>> [len(piece) / SAMPLE_RATE for piece in _cut([np.zeros(11 * SAMPLE_RATE, np.float32)], 5.0)]
    [5.0, 6.0]
    """
    length = round(clip_seconds * SAMPLE_RATE)
    waiting = np.zeros(0, np.float32)
    for block in blocks:
        waiting = np.concatenate([waiting, block])
        while len(waiting) >= length + SHORTEST_SECONDS * SAMPLE_RATE:
            yield waiting[:length]
            waiting = waiting[length:]
    yield waiting


def _encode(clip: Wave, format: ShardFormat) -> bytes:
    content = io.BytesIO()
    if format == "log-mel":
        np.save(content, log_mel(torch.from_numpy(clip.copy())[None])[0].numpy().astype(np.float16))
        return content.getvalue()
    write_flac(content, clip)
    return content.getvalue()


def _identity(sound: Given) -> list[Any] | None:
    """The path, size and time of a sound's file as it is now, None where it cannot be found."""
    try:
        return None if sound.path is None else list(astuple(Source.of(sound.path)))
    except AudioError:
        return None


def _read_report(shard: Path, sources: Sequence[list[Any] | None]) -> dict[str, Any] | None:
    """What is in a shard that is there, whole, and made of these files as they are now; otherwise None."""
    try:
        report = read_json(shard.with_suffix(".json"), OutputError, "it is made again")
        current = (report["sources"], report["bytes"]) == (list(sources), shard.stat().st_size)
        report["clips"] + report["seconds"], dict(report["failures"])
        return report if current else None
    except (OutputError, OSError, LookupError, TypeError, ValueError):
        return None


def _write(
    shard: Path,
    sources: Sequence[list[Any] | None],
    first: int,
    made: Iterator[tuple[Given, _Members | str]],
    bar: Bar,
) -> dict[str, Any]:
    """Write the tar file, after its report of sources, clips, seconds and failures, which is returned."""
    clips, samples, failures = 0, 0, {}
    with replacing(shard) as temporary:
        with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
            for number, (sound, result) in enumerate(made, start=first):
                bar.update()
                if isinstance(result, str):
                    failures[sound.name] = result
                    continue
                with result.content as content:
                    for piece, size in result.sizes:
                        member = tarfile.TarInfo(f"{number:09d}-{piece}")
                        member.size = size
                        tar.addfile(member, content)
                clips += len(result.sizes)
                samples += result.samples
        report = {
            "clips": clips,
            "seconds": round(samples / SAMPLE_RATE, 3),
            "failures": failures,
            "bytes": temporary.stat().st_size,
            "sources": list(sources),
        }
        shard.unlink(missing_ok=True)  # the one before, of which the report would not tell the truth
        write_text(shard.with_suffix(".json"), json.dumps(report, indent=1) + "\n")
    return report
