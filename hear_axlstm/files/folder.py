"""A folder of embeddings: whose each one is, whether it is up to date, and that no two sounds share one."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import unquote_to_bytes

from hear_axlstm.audio.addresses import LOCAL, is_address
from hear_axlstm.errors import OutputError
from hear_axlstm.files.outcomes import Array, Outcome
from hear_axlstm.files.sounds import Source

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"


@dataclass
class Stored:
    """An embedding as a folder holds it, or, in parquet, why there is none. path: of its sound. seconds: how long that is,
    NaN where unknown.
    """

    name: str
    path: str
    seconds: float
    embedding: Array | None
    timestamps: Array | None = None
    failure: str = ""


class EmbeddingFolder(ABC):
    """A folder of embeddings made with one set of settings. One thread may write while another asks what is done.

    Several runs may write to it at the same time. settings: what they are made with, and "centring", what similarity
    subtracts, which does not count. overwrite: whether what is there is removed.

    Raises OutputError when the folder must not be continued or cannot be written.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self.folder = folder
        self._lock = threading.RLock()

    @abstractmethod
    def is_done(self, name: str, source: Source) -> bool:
        """True if the folder has the whole embedding of ``name``, made of ``source`` as it is now.

        A size or time of -1 is any. Raises OutputError where the name is another file's.
        """

    def failure_of(self, name: str, source: Source) -> str:
        """Why there is no embedding of this source as it is now, if it was tried before and the folder says it; else ""."""
        return ""

    @abstractmethod
    def write(self, outcome: Outcome, embedding: Array) -> None:
        """Write the embedding of an outcome, or take it to be written with others.

        Raises OutputError where another run has given the name to another file.
        """

    def write_failure(self, outcome: Outcome) -> None:
        """Record why a sound has no embedding, where the folder has a place for that."""
        return

    @abstractmethod
    def close(self) -> list[Outcome]:
        """Write what is held back. Returns the outcomes that were taken and could not be written, with the reason."""

    @abstractmethod
    def gone(self) -> list[str]:
        """The names of embeddings whose sounds are not there any more, but for those that this run asked for."""

    @abstractmethod
    def prune(self) -> list[str]:
        """Remove the embeddings whose sounds are not there any more. Returns their names. Raises OSError."""


class OtherSettingsError(OutputError):
    """Another run, with other settings, was first to write to the folder."""


def source_of(outcome: Outcome) -> Source:
    """The file that an outcome is of. Raises OutputError where nothing says it."""
    if outcome.source is None:
        raise OutputError(f"{outcome.name}: nothing says which file it is of; encode the batches of a plan of files")
    return outcome.source


def is_gone(path: str) -> bool:
    """Whether no file is there any more; of what is at an address, nobody knows.

    path: a sound's, as a folder records it; a URI where it is not UTF-8.
    """
    if path.startswith(LOCAL):
        return not os.path.lexists(unquote_to_bytes(path.removeprefix(LOCAL)))
    return not is_address(path) and not os.path.lexists(path)


def taken(name: str, path: str, other: str) -> OutputError:
    advice = "embed it into another folder, pass the folder above both, or start anew (--overwrite)"
    if is_gone(other):
        other, advice = f"{other}, which is not there any more", "remove what is kept of such sounds (--prune)"
    return OutputError(f"{path} has the name {name} in the folder, which is that of {other}; {advice}")


def folder_of(name: str, path: str) -> str:
    """The folder that holds a sound: by its name, as in "birds/wren.wav", else by its path; empty for one in memory."""
    above = PurePath(name).parent
    return above.as_posix() if above.name else PurePath(path).parent.name


def valid_text(name: str) -> str:
    """A file's name as text that any program can read: bytes that are not UTF-8 become escapes.

    >>> print(valid_text("m\\udce4.wav"))
    m\\xe4.wav
    """
    try:
        return os.fsencode(name).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a name that no file has here
        return name.encode("utf-8", "backslashreplace").decode()


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Wait until no other run is in such a block with the same folder. Gives whether that is so: not all systems have locks.

    The folder itself is locked; where only what is open for writing can be, as on NFS, a file in it, removed in the end.
    Raises OSError when there is no such folder.
    """
    if fcntl is None:
        yield False
        return
    descriptor, file = os.open(folder, os.O_RDONLY), folder / LOCK
    is_alone, is_file = _wait(descriptor), False
    while not is_alone:
        os.close(descriptor)
        descriptor, is_file = os.open(file, os.O_RDWR | os.O_CREAT, 0o666), True
        if not _wait(descriptor):
            break  # nothing can be locked
        with suppress(OSError):  # else somebody has removed it since
            is_alone = os.path.samestat(os.fstat(descriptor), os.stat(file))
    try:
        yield is_alone
    finally:
        if is_file:
            file.unlink(missing_ok=True)
        if is_alone:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing is not enough where a child has the descriptor, too
        os.close(descriptor)


def _wait(descriptor: int) -> bool:
    """Wait for the lock on an open file or folder. Returns whether there is such a lock."""
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return True
    return False
