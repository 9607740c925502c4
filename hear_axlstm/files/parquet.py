"""Embeddings as one parquet data set in parts, which several runs may write at the same time."""

from __future__ import annotations

import logging
import math
import os
import time
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from hear_axlstm.errors import OutputError
from hear_axlstm.files.folder import EmbeddingFolder, Stored, folder_of, valid_text
from hear_axlstm.files.outcomes import Array, Outcome
from hear_axlstm.files.settings import load_pyarrow, parts
from hear_axlstm.files.sounds import Source
from hear_axlstm.storage import locked, replacing

logger = logging.getLogger(__name__)

FLUSH_ROWS = 4_096  # a part is written when it has this many rows, or is this old:
SHORTEST, LONGEST, SHARE = 2.0, 60.0, 0.05  # seconds; between them, this share of the run so far
IDENTITY = ["name", "path", "size", "modified"]  # columns
COLUMNS = {
    "scene": ["name", "folder", "seconds", "path", "size", "modified", "embedding"],
    "timestamp": ["name", "folder", "seconds", "path", "size", "modified", "timestamp_ms", "embedding"],
}


class ParquetFolder(EmbeddingFolder):
    """embeddings-*.parquet: one data set, a row a scene or timestamp.

    COLUMNS says which columns. All rows of a sound are in one part, and a part's rows are ordered by name. Names that are
    not UTF-8 have escapes; their path is a URI.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self._arrow, self._parquet = load_pyarrow()
        super().__init__(folder, settings, overwrite=overwrite)
        self._parts: dict[str, Path] = {}  # name -> where its rows are
        self._known: set[Path] = set()  # parts that have been read
        self._changed: dict[str, Source] = {}  # names whose rows are to be removed, with the source that these were made of
        self._held: list[tuple[Outcome, Array]] = []
        self._rows = 0
        self._refused: list[Outcome] = []
        self._began = self._flushed = time.monotonic()
        with locked(folder):
            self._catch_up()

    def _recorded(self, name: str, source: Source) -> tuple[str, Source]:
        try:
            path = os.fsencode(source.path).decode()
        except UnicodeError:
            path = Path(source.path).as_uri()  # which is no other file's path, as one with escapes may be
        return valid_text(name), replace(source, path=path)

    def _is_there(self, name: str) -> bool:
        return True  # all parts have been read

    def _is_whole(self, name: str) -> bool:
        return True  # a part that is not is set aside

    def is_done(self, name: str, source: Source) -> bool:
        """As for any folder; the rows of a sound that has changed are removed before the first new ones are written."""
        if super().is_done(name, source):
            return True
        name, _ = self._recorded(name, source)
        if name in self._sources:
            self._changed[name] = self._sources[name]
        return False

    def write(self, outcome: Outcome, embedding: Array) -> None:
        self._check_free(*self._recorded_of(outcome))
        self._held.append((outcome, embedding))
        self._rows += 1 if outcome.timestamps is None else len(outcome.timestamps)
        now = time.monotonic()
        interval = min(max(SHARE * (now - self._began), SHORTEST), LONGEST)
        if self._rows >= FLUSH_ROWS or now - self._flushed >= interval:
            self._flush()

    def close(self) -> list[Outcome]:
        """Write what is held back. Returns the outcomes whose names other runs have given to other files meanwhile."""
        self._flush()
        refused, self._refused = self._refused, []
        return refused

    def _flush(self) -> None:
        """Write what is held as one part, but for what other runs have written since it was planned."""
        if self._held:
            with locked(self.folder):
                self._catch_up()
                new = [(outcome, embedding) for outcome, embedding in self._held if self._is_new(outcome)]
                changed = [name for name, source in self._changed.items() if self._sources.get(name) == source]
                self._remove(changed)  # but not what another run has written since
                self._changed.clear()
                if new:
                    self._write_part(new)
        self._held.clear()
        self._rows = 0
        self._flushed = time.monotonic()

    def _is_new(self, outcome: Outcome) -> bool:
        name, source = self._recorded_of(outcome)
        try:
            self._check_free(name, source)
        except OutputError as error:
            self._refused.append(replace(outcome, embedding=None, timestamps=None, failure=str(error)))
            return False
        there = self._sources.get(name)
        if there is not None and there != source:
            self._changed[name] = there
        return there != source

    def _catch_up(self) -> None:
        """Read what the parts hold that this run does not know yet."""
        for part in sorted(set(self.folder.glob("embeddings-*.parquet")) - self._known):
            table = self._read(part, IDENTITY)
            if table is not None:
                self._known.add(part)
                for name, path, size, modified in _distinct(table):
                    self._sources[name], self._parts[name] = Source(path, size, modified), part

    def _read(self, part: Path, columns: list[str] | None = None) -> Any:
        """A part as a table; None where it is no longer there, or is damaged and therefore set aside."""
        try:
            with self._parquet.ParquetFile(part) as file:
                table = file.read(columns=columns)
            if set(IDENTITY) <= set(table.column_names):
                return self._counted(table)
            cause: object = f"it has no columns {', '.join(IDENTITY)}"
        except FileNotFoundError:
            return None
        except (self._arrow.ArrowException, ValueError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            cause = error
        aside = part.with_name(f"_{part.stem}.damaged")
        part.replace(aside)
        logger.warning("%s is damaged (%s): set aside as %s, its sounds are embedded again", part, cause, aside.name)
        return None

    def _remove(self, names: Iterable[str]) -> None:
        """Take the rows of these names out of the parts, each of which is written anew at most once."""
        names_in: dict[Path, list[str]] = defaultdict(list)
        for name in names:
            names_in[self._parts[name]].append(name)
        for part, removed in names_in.items():
            table = self._read(part)
            if table is not None:
                is_removed = self._arrow.compute.is_in(table["name"], value_set=self._arrow.array(removed))
                others = table.filter(self._arrow.compute.invert(is_removed))
                if len(others):
                    with replacing(part) as temporary:
                        self._parquet.write_table(others, temporary)
                else:
                    part.unlink(missing_ok=True)
            for name in removed:
                del self._sources[name], self._parts[name]

    def _counted(self, table: Any) -> Any:
        """The table with times of change as numbers of ns, which Python has no time for."""
        index = table.column_names.index("modified")
        return table.set_column(index, "modified", table["modified"].cast(self._arrow.int64()))

    def _write_part(self, new: Sequence[tuple[Outcome, Array]]) -> None:
        arrow = self._arrow
        rows = [row for outcome, embedding in new for row in self._rows_of(outcome, embedding)]
        rows.sort(key=lambda row: row["name"])  # and by time: the order of equal ones stays
        vectors = np.stack([row["embedding"] for row in rows])
        embeddings = arrow.array(vectors.ravel())
        for length in reversed(vectors.shape[1:]):
            embeddings = arrow.FixedSizeListArray.from_arrays(embeddings, length)
        kinds = {"seconds": arrow.float64(), "size": arrow.int64(), "modified": arrow.timestamp("ns")}
        kinds["timestamp_ms"] = arrow.float32()
        names = [name for name in rows[0] if name != "embedding"]
        columns = [arrow.array([row[name] for row in rows], kinds.get(name, arrow.string())) for name in names]
        table = arrow.table([*columns, embeddings], [*names, "embedding"])
        part = self.folder / f"embeddings-{len(self._known):05}-{uuid.uuid4().hex[:8]}.parquet"
        with replacing(part) as temporary:
            self._parquet.write_table(table, temporary)
        self._known.add(part)
        for name, path, size, modified in _distinct(self._counted(table)):
            self._sources[name], self._parts[name] = Source(path, size, modified), part

    def _rows_of(self, outcome: Outcome, embedding: Array) -> Iterator[dict[str, Any]]:
        """A row for the scene or for each timestamp, with COLUMNS in order."""
        name, source = self._recorded_of(outcome)
        facts = {"name": name, "folder": folder_of(name, source.path), "seconds": outcome.seconds, **asdict(source)}
        if outcome.timestamps is None:
            yield facts | {"embedding": embedding}
        else:
            for ms, vector in zip(outcome.timestamps.tolist(), np.moveaxis(embedding, -2, 0), strict=True):
                yield facts | {"timestamp_ms": ms, "embedding": vector}


def read_parquet(folder: Path, timestamps: bool) -> Iterator[Stored]:
    """What the parts in a folder hold. Raises OutputError without pyarrow, and what that raises."""
    _, parquet = load_pyarrow()
    for part in parts(folder):
        with parquet.ParquetFile(part) as file:
            table = file.read()
        names = table["name"].to_pylist()
        rows: dict[str, list[int]] = defaultdict(list)
        for row, name in enumerate(names):
            rows[name].append(row)
        vectors = vectors_of(table["embedding"].combine_chunks())
        paths = table["path"].to_pylist()
        seconds = table["seconds"].to_pylist() if "seconds" in table.column_names else [math.nan] * len(names)
        for name, own in rows.items():
            times = np.array(table["timestamp_ms"].take(own).to_pylist(), np.float32) if timestamps else None
            embedding = np.moveaxis(vectors[own], 0, -2) if timestamps else vectors[own[0]]
            yield Stored(name, paths[own[0]], seconds[own[0]], embedding, times)


def vectors_of(column: Any) -> Array:
    """The embeddings in a column, (n, D) or (n, layers, D), without those that are null."""
    shape = []
    values, kind = column, column.type
    while hasattr(kind, "list_size"):
        shape.append(kind.list_size)
        values, kind = values.flatten(), kind.value_type
    return np.asarray(values.to_numpy(zero_copy_only=False), np.float32).reshape(-1, *shape)


def _distinct(table: Any) -> Iterator[tuple[str, str, int, int]]:
    """The name and source of each sound in a part."""
    sounds = table.select(IDENTITY).group_by(IDENTITY).aggregate([])
    yield from zip(*(sounds[column].to_pylist() for column in IDENTITY), strict=True)
