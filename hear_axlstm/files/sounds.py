"""What can be embedded, an audio file or an array in memory, and what was given as one and is none."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from hear_axlstm.audio import Wave, audio_facts, read_audio, sound_facts, to_wave
from hear_axlstm.audio.convert import held
from hear_axlstm.audio.sources import status_of
from hear_axlstm.errors import AudioError, OutputError

UNKNOWN = -1  # a size or a time that nothing says


@dataclass(frozen=True, slots=True)
class Source:
    """A file as it was before it was decoded: what tells whether an embedding is of it and still up to date.

    path: absolute, through links as they are; or an address. size: in bytes. modified: when it was last changed, ns since
    1970. Both are -1 where nothing says them.
    """

    path: str
    size: int = UNKNOWN
    modified: int = UNKNOWN

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> Source:
        """The file as it is now. Raises AudioError when there is none."""
        try:
            status = status_of(path)
        except AudioError as error:
            is_dangling = getattr(error.__cause__, "errno", None) == errno.ENOENT and os.path.islink(path)
            raise AudioError(f"{path}: {'a link to a file that is not there' if is_dangling else error}") from error
        return cls(os.path.abspath(path), status.st_size, status.st_mtime_ns)

    def is_as(self, size: int, modified: int) -> bool:
        """Whether a record of this size and time is of the file as it is now; what nothing says of the file is any."""
        return self.size in (UNKNOWN, size) and self.modified in (UNKNOWN, modified)


@dataclass(frozen=True, eq=False, slots=True)
class FileSound:
    """An audio file. name: what its outputs are called.

    The plan adds what it finds: index, the sound's place among those given; source, the file before it is decoded;
    seconds and source_rate, its duration and its sample rate in Hz by its header; pad, whether it is padded where it is too
    short to embed.
    """

    name: str
    path: Path
    index: int = 0
    source: Source | None = None
    seconds: float = 0.0
    source_rate: float = 0.0
    pad: bool = False

    @property
    def place(self) -> str:
        """Where it is found."""
        return str(self.path)

    def measured(self) -> Self:
        """The sound with its duration and its rate, by the file's header. Raises AudioError."""
        seconds, rate = audio_facts(self.path)
        return replace(self, seconds=seconds, source_rate=rate)

    def load(self) -> Wave:
        """The samples, (n,), mono float32 at 16 kHz. Raises AudioError."""
        return read_audio(self.path, pad=self.pad)


@dataclass(frozen=True, eq=False, slots=True)
class ArraySound:
    """What ``to_wave`` takes, at ``sample_rate`` Hz where it says no rate. name: what results call it.

    address: where it is fetched from, as ``held`` does; empty for what is in memory. source: for one at an address, as far
    as a listing says it. index, seconds, source_rate, pad: as ``FileSound`` has them.
    """

    name: str
    samples: Any
    sample_rate: float | None = None
    index: int = 0
    seconds: float = 0.0
    source_rate: float = 0.0
    pad: bool = False
    address: str = ""
    source: Source | None = None
    path: None = None

    @property
    def place(self) -> str:
        """Where it is found; empty in memory."""
        return self.address

    @property
    def is_elsewhere(self) -> bool:
        """Whether it is at an address, and nobody has fetched it yet."""
        return bool(self.address) and isinstance(self.samples, str)

    def held(self) -> Self:
        """The sound with what can be read twice, if it was at an address or in a pipe. Raises AudioError."""
        samples = held(self.samples)
        if samples is self.samples:
            return self
        source = self.source
        if source and source.size == UNKNOWN:
            size = samples.seek(0, os.SEEK_END)
            samples.seek(0)
            source = replace(source, size=size)
        return replace(self, samples=samples, source=source)

    def measured(self) -> Self:
        """The sound with its duration and its own rate, found out once. Raises AudioError where there is none."""
        if self.seconds:
            return self
        seconds, rate = sound_facts(self.samples, self.sample_rate, self.name)
        return replace(self, seconds=seconds, source_rate=rate)

    def load(self) -> Wave:
        """The samples, (n,), mono float32 at 16 kHz. Raises AudioError."""
        return to_wave(self.samples, self.sample_rate, self.name, pad=self.pad)


@dataclass(frozen=True, eq=False, slots=True)
class NoSound:
    """What was given, or found in a folder, and cannot be embedded. name: what failures call it. reason: why.

    index and source: as ``FileSound`` has them; what is not there has neither size nor time.
    """

    name: str
    reason: str
    path: Path | None = None
    address: str = ""
    index: int = 0
    source: Source | None = None

    @property
    def place(self) -> str:
        """Where it was to be found; empty in memory."""
        return str(self.path) if self.path else self.address

    def measured(self) -> Self:
        """Raises AudioError."""
        raise AudioError(self.reason)

    def load(self) -> Wave:
        """Raises AudioError."""
        raise AudioError(self.reason)


Sound = FileSound | ArraySound
Given = FileSound | ArraySound | NoSound


def reason(error: BaseException, name: object) -> str:
    """Why a sound has no embedding, without its name, which stands before it wherever it is told."""
    if isinstance(error, AudioError | OutputError):
        return unnamed(str(error), str(name))
    return "ran out of memory" if isinstance(error, MemoryError) else f"cannot be read ({type(error).__name__}: {error})"


def unnamed(text: str, name: str) -> str:
    """A message without the name that it begins with, or the path that ends in that name.

    >>> unnamed("/data/birds/wren.wav: the file is empty", "birds/wren.wav")
    'the file is empty'
    """
    path, found, rest = text.partition(f"{name}: ")
    return rest if found and (not path or path.endswith("/")) else text
