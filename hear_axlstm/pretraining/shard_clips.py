"""Webdataset shards, read at random: tar files of audio or log-mels, and what teachers say of them."""

from __future__ import annotations

import glob
import io
import os
import tarfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hear_axlstm.audio import Wave, read_audio
from hear_axlstm.config import N_MELS
from hear_axlstm.errors import AudioError, ConfigError
from hear_axlstm.files.find import SUFFIXES
from hear_axlstm.frontend import log_mel
from hear_axlstm.progress import several

LOG_MEL_SUFFIX = ".npy"
T = TypeVar("T")


@dataclass(frozen=True)
class Member:
    """A file in a tar file: its shard, its name there, and its bytes."""

    shard: Path
    name: str
    offset: int
    size: int

    @property
    def key(self) -> tuple[Path, str]:
        """What a clip and its targets have in common: the shard, and the name up to the first dot of its last part."""
        folder, slash, file = self.name.rpartition("/")
        return self.shard, folder + slash + file.partition(".")[0]

    @property
    def is_log_mel(self) -> bool:
        return self.name.endswith(LOG_MEL_SUFFIX)

    @property
    def teacher(self) -> str:
        """Whose targets it has, as KEY.TEACHER.npy says; empty for a clip."""
        suffixes = Path(self.name).suffixes
        return suffixes[-2][1:] if self.is_log_mel and len(suffixes) > 1 else ""


def find_shards(source: str | os.PathLike[str]) -> list[Path]:
    """The tar files in a folder, or those that a path or a pattern (*, ?, [...]) names. Raises ConfigError on none."""
    here = Path(source)
    paths = here.glob("*.tar") if here.is_dir() else map(Path, glob.glob(str(source)))
    shards = {path.resolve() for path in paths}
    if not shards:
        raise ConfigError(f"no shards at {source}; expected a folder with .tar files, or a pattern of their names")
    return sorted(shards)


class ShardClips:
    """The clips of some shards, by number, in the order of the shards' paths. Beside a clip KEY.flac or KEY.npy there may be
    targets KEY.TEACHER.npy; members of other kinds are left alone.

    groups: the numbers of the clips of each source.

    Raises ConfigError when there are no shards, no clips in them, or a shard is damaged.
    """

    def __init__(self, sources: Sequence[str | os.PathLike[str]]) -> None:
        self.members: list[Member] = []
        self.taught: dict[tuple[Path, str], dict[str, Member]] = {}
        found = [find_shards(source) for source in sources]
        shards = sorted({shard for group in found for shard in group})
        for shard in shards:
            for member in _members(shard):
                if member.teacher:
                    self.taught.setdefault(member.key, {})[member.teacher] = member
                else:
                    self.members.append(member)
        if shards and not self.members:
            raise ConfigError(
                f"no clips in {several(len(shards), 'shard')} ({shards[0]}, ...); expected audio or log-mels (.npy)"
            )
        self.groups = [[n for n, member in enumerate(self.members) if member.shard in group] for group in map(set, found)]

    def __len__(self) -> int:
        return len(self.members)

    def log_mel(self, index: int) -> Tensor:
        """The log-mel of clip number ``index``, standardised over its whole length. Shape: -> (N, 80), float32.

        Raises AudioError, which names the shard and the member, when it cannot be decoded.
        """
        if self.members[index].is_log_mel:
            return _read(self.members[index], _log_mel)
        return log_mel(torch.from_numpy(self.wave(index).copy())[None])[0]

    def wave(self, index: int) -> Wave:
        """The samples of clip number ``index``. Raises AudioError when it cannot be decoded, or is a log-mel."""
        if self.members[index].is_log_mel:
            raise AudioError(
                f"{self.members[index].shard}: {self.members[index].name} is a log-mel; expected audio, from which targets "
                "are learnt: make the shards with --format flac"
            )
        return _read(self.members[index], lambda content: read_audio(content, "audio"))

    def targets(self, index: int, teachers: Iterable[str]) -> dict[str, NDArray[np.floating]]:
        """What these teachers say of clip number ``index``, as far as they do. Shape: (moments, D), a moment being 40 ms.

        Raises AudioError when it cannot be read.
        """
        own = self.taught.get(self.members[index].key, {})
        return {teacher: _read(own[teacher], _target) for teacher in teachers if teacher in own}

    @cached_property
    def sizes(self) -> dict[str, int]:
        """The D of each teacher's targets, by the first of them."""
        first: dict[str, Member] = {}
        for own in self.taught.values():
            first = own | first
        return {teacher: _read(member, _target).shape[1] for teacher, member in sorted(first.items())}


def _members(shard: Path) -> list[Member]:
    try:
        with open(shard, "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            members = [Member(shard, m.name, m.offset_data, m.size) for m in tar if _is_of_clip(m)]
            file.seek(tar.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile would take it for the end
                raise ValueError(f"neither a member nor the end at byte {tar.offset:,}")
            return members
    except (tarfile.TarError, OSError, ValueError) as error:
        raise ConfigError(f"{shard}: not a whole tar file ({error}); make the shard again") from error


def _is_of_clip(member: tarfile.TarInfo) -> bool:
    return member.isfile() and Path(member.name).suffix.lower() in {*SUFFIXES, LOG_MEL_SUFFIX}


def _read(member: Member, decode: Callable[[io.BytesIO], T]) -> T:
    with open(member.shard, "rb") as file:
        file.seek(member.offset)
        content = io.BytesIO(file.read(member.size))
    try:
        if content.getbuffer().nbytes != member.size:
            raise AudioError(f"{content.getbuffer().nbytes:,} of {member.size:,} bytes are there")
        return decode(content)
    except Exception as error:
        raise AudioError(f"{member.shard}: member {member.name}: {error}; make the shard again") from error


def _log_mel(content: io.BytesIO) -> Tensor:
    return torch.from_numpy(_numbers(content, N_MELS, f"(frames, {N_MELS})")).float()


def _target(content: io.BytesIO) -> NDArray[np.floating]:
    return _numbers(content, None, "(moments, numbers)")


def _numbers(content: io.BytesIO, columns: int | None, expected: str) -> NDArray[np.floating]:
    array: NDArray[np.floating] = np.load(content, allow_pickle=False)
    if array.ndim != 2 or not array.size or array.dtype.kind != "f" or columns not in (None, array.shape[1]):
        raise AudioError(f"shape {array.shape}, {array.dtype}; expected floating point {expected}")
    if not np.isfinite(array).all():
        raise AudioError("holds NaN or infinity; expected finite numbers")
    return array
