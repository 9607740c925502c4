"""Webdataset shards, read at random: tar files of audio or log-mels -> standardised log-mels (N, 80)."""

from __future__ import annotations

import glob
import io
import os
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hear_axlstm.audio import read_audio
from hear_axlstm.config import N_MELS
from hear_axlstm.errors import AudioError, ConfigError
from hear_axlstm.files.find import SUFFIXES
from hear_axlstm.frontend import log_mel
from hear_axlstm.progress import several

LOG_MEL_SUFFIX = ".npy"


@dataclass(frozen=True)
class Member:
    """The place of a clip: its tar file, its name there, and its bytes."""

    shard: Path
    name: str
    offset: int
    size: int


def find_shards(sources: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The tar files in folders, and those that paths or patterns (*, ?, [...]) name, each once, in the order of their names.

    Raises ConfigError when a source has none.
    """
    found: set[Path] = set()
    for source in sources:
        here = Path(source)
        paths = here.glob("*.tar") if here.is_dir() else map(Path, glob.glob(str(source)))
        shards = {path.resolve() for path in paths}
        if not shards:
            raise ConfigError(f"no shards at {source}; expected a folder with .tar files, or a pattern of their names")
        found |= shards
    return sorted(found)


class ShardClips:
    """The clips of some shards, by number. Members that are neither audio nor .npy are left alone.

    Raises ConfigError when there are no shards, no clips in them, or a shard is damaged.
    """

    def __init__(self, sources: Iterable[str | os.PathLike[str]]) -> None:
        self.members: list[Member] = []
        shards = find_shards(sources)
        for shard in shards:
            try:
                with open(shard, "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
                    self.members += [Member(shard, m.name, m.offset_data, m.size) for m in tar if _is_clip(m)]
                    file.seek(tar.offset)
                    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile would take it for the end
                        raise ValueError(f"neither a member nor the end at byte {tar.offset:,}")
            except (tarfile.TarError, OSError, ValueError) as error:
                raise ConfigError(f"{shard}: not a whole tar file ({error}); make the shard again") from error
        if shards and not self.members:
            raise ConfigError(
                f"no clips in {several(len(shards), 'shard')} ({shards[0]}, ...); expected audio or log-mels (.npy)"
            )

    def __len__(self) -> int:
        return len(self.members)

    def log_mel(self, index: int) -> Tensor:
        """The log-mel of clip number ``index``, standardised over its whole length. Shape: -> (N, 80), float32.

        Raises AudioError, which names the shard and the member, when it cannot be decoded.
        """
        member = self.members[index]
        with open(member.shard, "rb") as file:
            file.seek(member.offset)
            content = io.BytesIO(file.read(member.size))
        try:
            if content.getbuffer().nbytes != member.size:
                raise AudioError(f"{content.getbuffer().nbytes:,} of {member.size:,} bytes are there")
            if member.name.endswith(LOG_MEL_SUFFIX):
                return torch.from_numpy(_log_mel(np.load(content, allow_pickle=False))).float()
            return log_mel(torch.from_numpy(read_audio(content, "audio").copy())[None])[0]
        except Exception as error:
            raise AudioError(f"{member.shard}: member {member.name}: {error}; make the shard again") from error


def _is_clip(member: tarfile.TarInfo) -> bool:
    return member.isfile() and Path(member.name).suffix.lower() in {*SUFFIXES, LOG_MEL_SUFFIX}


def _log_mel(mel: NDArray[np.floating]) -> NDArray[np.floating]:
    if mel.ndim != 2 or mel.shape[1] != N_MELS or not len(mel) or mel.dtype.kind != "f":
        raise AudioError(f"shape {mel.shape}, {mel.dtype}; expected floating point (frames, {N_MELS})")
    if not np.isfinite(mel).all():
        raise AudioError("holds NaN or infinity; expected finite numbers")
    return mel
