"""What can be embedded, an audio file or an array in memory, and what was given as one and is none."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from hear_axlstm.audio import Wave, audio_seconds, read_audio, sound_seconds, to_wave
from hear_axlstm.audio.convert import held
from hear_axlstm.audio.sources import status_of
from hear_axlstm.errors import AudioError


@dataclass(frozen=True)
class Source:
    """A file as it was before it was decoded: what tells whether an embedding is of it and still up to date.

    path: absolute, through links as they are. size: in bytes. modified: when it was last changed, ns since 1970.
    """

    path: str
    size: int
    modified: int

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> Source:
        """The file as it is now. Raises AudioError when there is none."""
        try:
            status = status_of(path)
        except AudioError as error:
            is_dangling = getattr(error.__cause__, "errno", None) == errno.ENOENT and os.path.islink(path)
            raise AudioError(f"{path}: {'a link to a file that is not there' if is_dangling else error}") from error
        return cls(os.path.abspath(path), status.st_size, status.st_mtime_ns)


@dataclass(frozen=True, eq=False)
class FileSound:
    """An audio file. name: what its outputs are called.

    The plan adds what it finds: index, the sound's place among those given; source, the file before it is decoded;
    seconds, its duration by its header; pad, whether it is padded where it is too short to embed.
    """

    name: str
    path: Path
    index: int = 0
    source: Source | None = None
    seconds: float = 0.0
    pad: bool = False

    @property
    def place(self) -> str:
        """Where it is found."""
        return str(self.path)

    def measured(self) -> float:
        """The duration by the file's header, in seconds. Raises AudioError."""
        return audio_seconds(self.path)

    def load(self) -> Wave:
        """The samples, (n,), mono float32 at 16 kHz. Raises AudioError."""
        return read_audio(self.path, pad=self.pad)


@dataclass(frozen=True, eq=False)
class ArraySound:
    """What ``to_wave`` takes, at ``sample_rate`` Hz where it says no rate. name: what results call it.

    address: where it is fetched from, as ``held`` does; empty for what is in memory.
    """

    name: str
    samples: Any
    sample_rate: float | None = None
    index: int = 0
    seconds: float = 0.0
    pad: bool = False
    address: str = ""
    path: None = None
    source: None = None

    @property
    def place(self) -> str:
        """Where it is found; empty in memory."""
        return self.address

    def held(self) -> Self:
        """The sound with what can be read twice, if it was at an address or in a pipe. Raises AudioError."""
        samples = held(self.samples)
        return self if samples is self.samples else replace(self, samples=samples)

    def measured(self) -> float:
        """The duration, in seconds, found out once. Raises AudioError where there is none."""
        return self.seconds or sound_seconds(self.samples, self.sample_rate, self.name)

    def load(self) -> Wave:
        """The samples, (n,), mono float32 at 16 kHz. Raises AudioError."""
        return to_wave(self.samples, self.sample_rate, self.name, pad=self.pad)


@dataclass(frozen=True, eq=False)
class NoSound:
    """What was given, or found in a folder, and cannot be embedded. name: what failures call it. reason: why."""

    name: str
    reason: str
    path: Path | None = None
    address: str = ""

    @property
    def place(self) -> str:
        """Where it was to be found; empty in memory."""
        return str(self.path) if self.path else self.address

    def measured(self) -> float:
        """Raises AudioError."""
        raise AudioError(self.reason)

    def load(self) -> Wave:
        """Raises AudioError."""
        raise AudioError(self.reason)


Sound = FileSound | ArraySound
Given = FileSound | ArraySound | NoSound
