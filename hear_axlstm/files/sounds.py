"""What can be embedded, an audio file or an array in memory, and what was given as one and is none."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Number, Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hear_axlstm.audio import Wave, audio_seconds, prepare_array, read_audio
from hear_axlstm.errors import AudioError

ARRAYS = "expected an array (n_samples,) or (n_samples, channels), a pair (array, sample rate), or the path of a file"


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
        """The file as it is now. Raises AudioError when it is none, or may not be read."""
        try:
            status = os.stat(path)
        except (OSError, ValueError) as error:
            raise AudioError(f"{path}: {_why_not_found(path, error)}") from error
        if not stat.S_ISREG(status.st_mode):
            raise AudioError(f"{path}: is a {_kind(status.st_mode)}; expected a file: save the sound to one first")
        if not os.access(path, os.R_OK):
            raise AudioError(f"{path}: may not be read (permission denied); give yourself the right to, as chmod u+r does")
        return cls(os.path.abspath(path), status.st_size, status.st_mtime_ns)


def _why_not_found(path: str | os.PathLike[str], error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "is a link to a file that is not there" if os.path.islink(path) else "no such file"
    return f"cannot be read ({getattr(error, 'strerror', None) or error}); mend the path or its permissions"


def _kind(mode: int) -> str:
    """A word for what a path leads to that is no file."""
    kinds: list[tuple[Callable[[int], bool], str]] = [
        (stat.S_ISDIR, "folder"),
        (stat.S_ISFIFO, "pipe (FIFO)"),
        (stat.S_ISSOCK, "socket"),
    ]
    return next((word for is_kind, word in kinds if is_kind(mode)), "device")


@dataclass(frozen=True, eq=False)
class FileSound:
    """An audio file. name: what its outputs are called.

    The plan adds what it finds: index, the sound's place among those given; source, the file before it is decoded;
    seconds, its duration by its header.
    """

    name: str
    path: Path
    index: int = 0
    source: Source | None = None
    seconds: float = 0.0

    def measured(self) -> float:
        """The duration by the file's header, in seconds. Raises AudioError."""
        return audio_seconds(self.path)

    def load(self) -> Wave:
        """The samples, (n,), mono float32 at 16 kHz. Raises AudioError."""
        Source.of(self.path)  # opening a pipe would wait for ever
        return read_audio(self.path)


@dataclass(frozen=True, eq=False)
class ArraySound:
    """Samples in memory, (n,) or (n, channels) at ``sample_rate`` Hz. name: what results call them; the rest as above."""

    name: str
    samples: ArrayLike
    sample_rate: int
    index: int = 0
    seconds: float = 0.0
    path: None = None
    source: None = None

    def measured(self) -> float:
        """The duration, in seconds. Raises AudioError where there is none."""
        rate = self.sample_rate
        if not isinstance(rate, Real) or not math.isfinite(rate) or rate <= 0:
            raise AudioError(f"{self.name}: the sample rate is {rate!r}; expected a positive number of Hz")
        shape = np.shape(self.samples)
        if not shape:
            raise AudioError(f"{self.name}: is {described(self.samples)}; {ARRAYS}")
        return int(shape[0]) / float(rate)

    def load(self) -> Wave:
        """The samples, (n,), mono float32 at 16 kHz. Raises AudioError."""
        return prepare_array(self.samples, self.sample_rate, self.name)


@dataclass(frozen=True, eq=False)
class NoSound:
    """What was given, or found in a folder, and cannot be embedded. name: what failures call it. reason: why."""

    name: str
    reason: str
    path: Path | None = None

    def measured(self) -> float:
        """Raises AudioError."""
        raise AudioError(self.reason)

    def load(self) -> Wave:
        """Raises AudioError."""
        raise AudioError(self.reason)


Sound = FileSound | ArraySound
Given = FileSound | ArraySound | NoSound


def described(item: Any) -> str:
    """Words for what is no array: None, a single number, or an object of some type."""
    kind = type(item).__name__
    is_number = isinstance(item, Number) or hasattr(item, "ndim")
    return "None" if item is None else f"a single number ({kind})" if is_number else f"a {kind}"
