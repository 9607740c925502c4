"""Things to embed: files, found by path or folder, and arrays in memory."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from hear_axlstm.audio import Wave, audio_seconds, prepare_array, read_audio
from hear_axlstm.errors import AudioError, OutputError

SUFFIXES = frozenset(
    """.wav .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .snd .caf .w64 .rf64 .sph .nist .voc .sf .mat .paf .svx .xi .htk
    .wve .pvf .avr .sds .mpc2k""".split()
)


class Sound(ABC):
    """One thing to embed. name: what its outputs are called. path: its file, None when it is in memory."""

    name: str
    path: Path | None

    @abstractmethod
    def seconds(self) -> float:
        """Its duration, without decoding it. Raises AudioError."""

    @abstractmethod
    def load(self) -> Wave:
        """Mono float32 at 16 kHz. Raises AudioError."""


@dataclass(frozen=True, eq=False)
class FileSound(Sound):
    name: str
    path: Path

    def seconds(self) -> float:
        return audio_seconds(self.path)

    def load(self) -> Wave:
        return read_audio(self.path)


@dataclass(frozen=True, eq=False)
class ArraySound(Sound):
    """samples: (n,) or (n, channels) at ``sample_rate`` Hz."""

    name: str
    samples: ArrayLike
    sample_rate: int
    path: None = None

    def seconds(self) -> float:
        shape = np.shape(self.samples)
        if not shape:
            raise AudioError(f"{self.name}: a single number; expected (n_samples,) or (n_samples, channels)")
        return int(shape[0]) / self.sample_rate

    def load(self) -> Wave:
        return prepare_array(self.samples, self.sample_rate, self.name)


def find_files(inputs: Iterable[str | os.PathLike[str]]) -> list[FileSound]:
    """Every input file by its own name, and every audio file below an input folder by its path inside that folder.

    Hidden files are left out of folders. Raises OutputError when two files would get one name.
    """
    found: dict[str, FileSound] = {}
    for entry in map(Path, inputs):
        named = _inside(entry) if entry.is_dir() else [(entry.name, entry)]
        for name, path in named:
            other = found.setdefault(name, FileSound(name, path)).path
            if other.resolve() != path.resolve():
                raise OutputError(
                    f"{other} and {path} would both be called {name}; embed them into different folders, or pass the folder "
                    "above both"
                )
    return list(found.values())


def _inside(folder: Path) -> list[tuple[str, Path]]:
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES and path.is_file()]
    named = [(path.relative_to(folder), path) for path in files]
    return [(name.as_posix(), path) for name, path in named if not any(part.startswith(".") for part in name.parts)]
