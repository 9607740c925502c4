"""Embeddings as npy files, which hear-eval-kit reads, and the ledger of what they were made of."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from hear_axlstm.errors import OutputError
from hear_axlstm.files.folder import EmbeddingFolder, Stored, is_gone, locked, source_of, taken
from hear_axlstm.files.outcomes import Array, Outcome
from hear_axlstm.files.settings import HEADER, LEDGER, claim
from hear_axlstm.files.sounds import Source
from hear_axlstm.storage import replacing, sweep, write_text

# Errors that are about the name or the place of one file; all others, such as a full disk, would meet the next one, too.
ONE_TARGET = {
    *(errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY),
    *(errno.EACCES, errno.EPERM, errno.ELOOP, errno.EINVAL, errno.EILSEQ),
}


class NpyFolder(EmbeddingFolder):
    """NAME.embedding.npy and, with timestamps, NAME.timestamps.json, as hear-eval-kit names them.

    The ledger has a line for each sound that was written: its name, its source, and the bytes of its files. The last line
    of a name counts.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, overwrite: bool = False) -> None:
        super().__init__(folder, settings, overwrite=overwrite)
        claim(folder, settings, overwrite=overwrite)
        sweep(folder, below=True)
        self._sources: dict[str, Source] = {}  # of the embeddings that are there, by name
        self._planned: dict[str, str] = {}  # name -> path of the sounds that this run asked for
        self._ledger = folder / LEDGER
        self._suffixes = (
            [".timestamps.json", ".embedding.npy"] if settings["embeddings"] == "timestamp" else [".embedding.npy"]
        )
        self._folds_case = ignores_case(folder)
        self._bytes: dict[str, list[int]] = {}  # of each one's files
        self._seconds: dict[str, float] = {}
        self._lines = 0
        self._inode, self._read, self._is_cut = 0, 0, False
        with locked(folder):
            self._catch_up()
            if self._lines > 2 * len(self._sources):
                self._compact()

    def _recorded(self, name: str, source: Source) -> tuple[str, Source]:
        return (name.casefold() if self._folds_case else name), source

    def is_done(self, name: str, source: Source) -> bool:
        with self._lock:
            name, source = self._recorded(name, source)
            self._check_free(name, source)
            if (other := self._planned.setdefault(name, source.path)) != source.path:
                raise taken(name, source.path, other)
            there = self._sources.get(name)
            is_current = there is not None and source.path == there.path and source.is_as(there.size, there.modified)
            return is_current and self._is_whole(name)

    def _check_free(self, name: str, source: Source) -> None:
        other = self._sources.get(name)
        if other is not None and other.path != source.path and self._is_there(name):
            raise taken(name, source.path, other.path)

    def _paths(self, name: str) -> list[Path]:
        return [self.folder / f"{name}{suffix}" for suffix in self._suffixes]

    def _is_there(self, name: str) -> bool:
        return self._paths(name)[-1].exists()

    def _is_whole(self, name: str) -> bool:
        paths = self._paths(name)
        try:
            return self._bytes[name] == [os.stat(path).st_size for path in paths] and all(map(_is_written, paths))
        except OSError:
            return False

    def write(self, outcome: Outcome, embedding: Array) -> None:
        name, source = self._recorded(outcome.name, source_of(outcome))
        with self._lock, locked(self.folder):
            self._catch_up()
            self._check_free(name, source)
            if self._sources.get(name, source) != source:
                self._record(outcome, source, [])  # if this ends here, what is there counts for neither
            try:
                sizes = self._write_files(outcome, embedding)
            except (OSError, UnicodeError) as error:
                if isinstance(error, OSError) and error.errno not in ONE_TARGET:
                    raise
                cause = getattr(error, "strerror", None) or str(error)
                advice = "rename the sound, or embed it into another folder or to parquet"
                raise OutputError(f"{source.path}: its embedding cannot be written ({cause}); {advice}") from error
            self._record(outcome, source, sizes)

    def _write_files(self, outcome: Outcome, embedding: Array) -> list[int]:
        paths = self._paths(outcome.name)
        if outcome.timestamps is not None:
            write_text(paths[0], json.dumps(outcome.timestamps.tolist()))
        with replacing(paths[-1]) as temporary, open(temporary, "w+b") as file:  # "wb" lets numpy hide why writing fails
            np.save(file, embedding)
        return [os.stat(path).st_size for path in paths]

    def close(self) -> list[Outcome]:
        """Nothing is held back."""
        return []

    def gone(self) -> list[str]:
        with self._lock:
            unseen = (name for name in self._sources if name not in self._planned)
            return sorted(name for name in unseen if self._is_there(name) and is_gone(self._sources[name].path))

    def prune(self) -> list[str]:
        with self._lock, locked(self.folder):
            self._catch_up()
            names = self.gone()
            self._remove(names)
        return names

    def _record(self, outcome: Outcome, source: Source, sizes: list[int]) -> None:
        line = ("\n" if self._is_cut else "") + _line(outcome.name, source, sizes, outcome.seconds)
        with open(self._ledger, "ab", buffering=0) as file:
            if file.write(line.encode()) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._ledger))
        self._catch_up()

    def _catch_up(self) -> None:
        """Read what this run and others have added to the ledger. A line that was cut, or is damaged, is passed over."""
        with suppress(FileNotFoundError), open(self._ledger, "rb") as file:
            status = os.fstat(file.fileno())
            if status.st_ino != self._inode or status.st_size < self._read:  # another run has compacted it
                self._inode, self._read, self._lines = status.st_ino, 0, 0
                self._sources.clear()
                self._bytes.clear()
            file.seek(self._read)
            added = file.read()
            whole = added[: added.rfind(b"\n") + 1]
            self._read += len(whole)
            self._is_cut = len(whole) < len(added)
            for line in whole.splitlines():
                self._lines += 1
                if entry := _entry(line):
                    name, source, sizes, seconds = entry
                    name, source = self._recorded(name, source)
                    self._sources[name], self._bytes[name], self._seconds[name] = source, sizes, seconds

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            for path in self._paths(name):
                path.unlink(missing_ok=True)
            del self._sources[name], self._bytes[name], self._seconds[name]
        self._compact()

    def _compact(self) -> None:
        lines = [_line(name, source, self._bytes[name], self._seconds[name]) for name, source in self._sources.items()]
        write_text(self._ledger, "".join(lines))
        self._catch_up()


def read_npy(folder: Path, timestamps: bool) -> Iterator[Stored]:
    """What a folder of npy files holds: all that its ledger records and that is there. Raises OSError and ValueError."""
    entries: dict[str, tuple[Source, float]] = {}
    for line in (folder / LEDGER).read_bytes().splitlines() if (folder / LEDGER).exists() else []:
        if entry := _entry(line):
            entries[entry[0]] = entry[1], entry[3]
    for name, (source, seconds) in sorted(entries.items()):
        path = folder / f"{name}.embedding.npy"
        if path.exists():
            times = folder / f"{name}.timestamps.json"
            own = np.array(json.loads(times.read_text(encoding="utf-8")), np.float32) if timestamps else None
            yield Stored(name, source.path, seconds, np.load(path, allow_pickle=False), own)


def _line(name: str, source: Source, sizes: list[int], seconds: float) -> str:
    """A line of the ledger, in ASCII, which bears names that are not UTF-8."""
    facts = {"name": name, "path": source.path, "size": source.size, "modified": source.modified}
    return json.dumps(facts | {"seconds": seconds if math.isfinite(seconds) else None, "bytes": sizes}) + "\n"


def _entry(line: bytes) -> tuple[str, Source, list[int], float] | None:
    """A line's name, source, bytes and seconds, which are NaN where it does not say; None for one that is damaged."""
    with suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
        entry = json.loads(line)
        source = Source(os.fspath(entry["path"]), entry["size"], entry["modified"])
        seconds = entry.get("seconds")
        hash((entry["name"], source))
        return entry["name"], source, entry["bytes"], math.nan if seconds is None else float(seconds)
    return None


def _is_written(path: Path) -> bool:
    """Whether a file has content: where power was lost before it reached the disk, it may have its size, and zeros in it."""
    with open(path, "rb") as file:
        return file.read(1) != b"\0"


def ignores_case(folder: Path) -> bool:
    """Whether names that differ only in case are one file's, as on macOS and Windows."""
    return (folder / HEADER.upper()).exists()
