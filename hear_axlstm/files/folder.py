"""A folder of embeddings: whose each one is, whether it is up to date, and that no two sounds share one."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import unquote_to_bytes

from hear_axlstm.errors import OutputError
from hear_axlstm.files.outcomes import Array, Outcome
from hear_axlstm.files.settings import HEADER, OURS, WORDS
from hear_axlstm.files.sounds import Source
from hear_axlstm.storage import claim_folder, locked, sweep


@dataclass
class Stored:
    """An embedding as a folder holds it. path: of its sound. seconds: how long that is, NaN where unknown."""

    name: str
    path: str
    seconds: float
    embedding: Array
    timestamps: Array | None


class EmbeddingFolder(ABC):
    """A folder of embeddings made with one set of settings, which its header records. Writing and closing is one thread's.

    Several runs may write to it at the same time.

    Raises OutputError when the folder must not be continued or cannot be written.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self.folder = folder
        claim_folder(folder / HEADER, settings, OURS, words=WORDS, overwrite=overwrite)
        sweep(folder, below=True)
        self._sources: dict[str, Source] = {}  # of the embeddings that are there, by name
        self._planned: dict[str, str] = {}  # name -> path of the sounds that this run asked for

    def is_done(self, name: str, source: Source) -> bool:
        """True if the folder has the whole embedding of ``name``, made of ``source`` as it is now.

        Raises OutputError where the name is another file's.
        """
        name, source = self._recorded(name, source)
        self._check_free(name, source)
        if (other := self._planned.setdefault(name, source.path)) != source.path:
            raise taken(name, source.path, other)
        return self._sources.get(name) == source and self._is_whole(name)

    def _recorded_of(self, outcome: Outcome) -> tuple[str, Source]:
        if outcome.source is None:
            raise OutputError(f"{outcome.name}: nothing says which file it is of; encode the batches of a plan of files")
        return self._recorded(outcome.name, outcome.source)

    def _recorded(self, name: str, source: Source) -> tuple[str, Source]:
        """A name and a source as the folder's records have them."""
        return name, source

    def _check_free(self, name: str, source: Source) -> None:
        other = self._sources.get(name)
        if other is not None and other.path != source.path and self._is_there(name):
            raise taken(name, source.path, other.path)

    def gone(self) -> list[str]:
        """The names of embeddings whose sounds are not there any more."""
        unseen = (name for name in self._sources if name not in self._planned)
        return sorted(name for name in unseen if self._is_there(name) and is_gone(self._sources[name].path))

    def prune(self) -> list[str]:
        """Remove the embeddings whose sounds are not there any more. Returns their names. Raises OSError."""
        with locked(self.folder):
            self._catch_up()
            names = self.gone()
            self._remove(names)
        return names

    @abstractmethod
    def _is_there(self, name: str) -> bool:
        """Whether anything is really there of a name that is recorded."""

    @abstractmethod
    def _is_whole(self, name: str) -> bool:
        """Whether all that is recorded of a name is really there."""

    @abstractmethod
    def _catch_up(self) -> None:
        """Read what this run and others have recorded since the records were last read."""

    @abstractmethod
    def _remove(self, names: Iterable[str]) -> None:
        """Remove all that is kept under these names, while the folder is locked. Raises OSError."""

    @abstractmethod
    def write(self, outcome: Outcome, embedding: Array) -> None:
        """Write the embedding of an outcome, or take it to be written with others.

        Raises OutputError where another run has given the name to another file.
        """

    @abstractmethod
    def close(self) -> list[Outcome]:
        """Write what is held back. Returns the outcomes that were taken and could not be written, with the reason."""


def is_gone(path: str) -> bool:
    """Whether no file is there any more. path: a sound's, as a folder records it; a URI where it is not UTF-8."""
    return not os.path.lexists(unquote_to_bytes(path.removeprefix("file://")) if path.startswith("file://") else path)


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
