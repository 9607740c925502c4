"""Embeddings as one parquet data set in parts, which several runs may write at the same time."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hear_axlstm.errors import OutputError
from hear_axlstm.files.folder import EmbeddingFolder, Stored, is_gone, locked, taken
from hear_axlstm.files.known import ASKED, FAILED, STALE, Fact, Known, Numbers, hashes, known_in
from hear_axlstm.files.outcomes import Array, Outcome
from hear_axlstm.files.parts import IDENTITY, Parts, Stamp
from hear_axlstm.files.rows import New, in_order, new, recorded, table_of, vectors_of
from hear_axlstm.files.settings import claim, load_pyarrow, parts
from hear_axlstm.files.sounds import Source

FLUSH_ROWS = 4_096  # of a part that is full; the last one is written anew with what came since
SHORTEST, LONGEST = 2.0, 10.0  # seconds of work between; within them,
SHARE = 0.05  # of the run so far; and no more than this goes to writing


@dataclass
class Part:
    """A part as it was read last. rows: in it."""

    path: Path
    stamp: Stamp
    rows: int


class ParquetFolder(EmbeddingFolder):
    """embeddings-*.parquet: one data set, a row a scene or timestamp, or one that says why a sound has none.

    All rows of a sound are in one part. The last part grows until it is full: it is written anew, and takes the place of
    the one before in one step. A run that is killed loses what came since.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self._files = Parts(folder, settings)
        super().__init__(folder, settings, overwrite=overwrite)
        claim(folder, settings, overwrite=overwrite)
        self._known = Known()
        self._parts: dict[int, Part] = {}  # by number
        self._last = 0  # number
        self._own: set[Path] = set()  # parts that this run began
        self._asked: dict[
            int, str
        ] = {}  # the paths of sounds that this run asked for and that are not there, by hash of name
        self._reasons: dict[int, dict[str, str]] = {}  # name -> why it failed, of parts that were asked for it
        self._held: list[New] = []
        self._rows = 0
        self._refused: list[Outcome] = []
        self._began = self._flushed = time.monotonic()
        self._pause = SHORTEST
        with locked(folder):
            self._files.sweep()
            self._catch_up()

    def is_done(self, name: str, source: Source) -> bool:
        """As for any folder; the rows of a sound that has changed are removed before the first new ones are written."""
        with self._lock:
            name, source = recorded(name, source)
            fact = self._ask(name, source)
            if fact is None:
                return False
            self._known.mark(name, ASKED if fact.is_of(source) else ASKED | STALE)
            return fact.is_of(source) and not fact.marks & FAILED

    def failure_of(self, name: str, source: Source) -> str:
        with self._lock:
            name, source = recorded(name, source)
            fact = self._known.get(name)
            return self._reason(name, fact) if fact and fact.marks & FAILED and fact.is_of(source) else ""

    def _ask(self, name: str, source: Source) -> Fact | None:
        """What is known of a name, for this source. Raises OutputError where it is another's."""
        fact = self._known.get(name)
        if fact and fact.has_path(source):
            return fact
        there = self._path_in(fact.part, name) if fact and (fact.marks & ASKED or not fact.marks & FAILED) else None
        if (other := there or self._asked.setdefault(hash(name), source.path)) != source.path:
            raise taken(name, source.path, other)
        return None

    def write(self, outcome: Outcome, embedding: Array) -> None:
        sound = new(outcome, embedding)
        with self._lock:
            self._ask(sound.name, sound.source)
            self._hold(sound, 1 if outcome.timestamps is None else len(outcome.timestamps))

    def write_failure(self, outcome: Outcome) -> None:
        """Record why a sound has no embedding, unless nothing says which file it is, or the name is another's."""
        with self._lock:
            if outcome.source is not None and self._is_free(new(outcome, None)):
                self._hold(new(outcome, None), 1)

    def _is_free(self, sound: New) -> bool:
        try:
            self._ask(sound.name, sound.source)
        except OutputError:
            return False
        return True

    def _hold(self, sound: New, rows: int) -> None:
        self._held.append(sound)
        self._rows += rows
        if self._rows >= FLUSH_ROWS or time.monotonic() - self._flushed >= self._pause:
            self._flush()

    def close(self) -> list[Outcome]:
        """Write what is held back. Returns the outcomes whose names other runs have given to other files meanwhile."""
        with self._lock:
            self._flush()
            refused, self._refused = self._refused, []
            return refused

    def gone(self) -> list[str]:
        with self._lock:
            return sorted(name for name, failed in self._gone() if not failed)

    def prune(self) -> list[str]:
        """As for any folder; sounds that failed go, too, unnamed."""
        with self._lock, locked(self.folder):
            self._catch_up()
            names = dict(self._gone())
            for name in names:
                self._known.mark(name, STALE)
            self._replace_stale()
        return sorted(name for name, failed in names.items() if not failed)

    def _gone(self) -> Iterator[tuple[str, bool]]:
        """The names of what this run did not ask for and whose sounds are gone, and whether each had failed."""
        for number, keys in self._known.not_asked().items():
            table = self._files.read(self._parts[number].path, ["name", "path", "error"])
            if table is not None:
                rows = table.filter(np.isin(hashes(table["name"].combine_chunks()), keys)).to_pylist()
                yield from {row["name"]: row["error"] is not None for row in rows if is_gone(row["path"])}.items()

    def _flush(self) -> None:
        """Write what is held, but for what other runs have written since it was planned."""
        began = time.monotonic()
        if self._held:
            with locked(self.folder) as is_alone:
                self._catch_up()
                if not self._parts:
                    self._files.check_first()
                if sounds := self._still_new():
                    self._replace_stale(sounds, is_alone=is_alone)
            for sound in self._held:
                if self._known.get(sound.name) is not None:
                    self._known.mark(sound.name, ASKED)
                    self._asked.pop(hash(sound.name), None)
        self._held.clear()
        self._rows = 0
        self._flushed = now = time.monotonic()
        self._pause = max(min(max(SHARE * (now - self._began), SHORTEST), LONGEST), (now - began) / SHARE)

    def _still_new(self) -> list[New]:
        """What is held and is not there, one of a name; what it takes the place of becomes stale."""
        found: dict[str, New] = {}
        for sound in self._held:
            fact, failed = self._known.get(sound.name), sound.embedding is None
            if fact is not None:
                has_failed = bool(fact.marks & FAILED)
                if fact.has_path(sound.source):
                    is_there = fact.is_of(sound.source) and (not has_failed or (failed and self._is_told(sound, fact)))
                else:
                    is_there = failed or not has_failed
                    if is_there and not failed:
                        self._refuse(sound, fact)
                if is_there:
                    continue
                self._known.mark(sound.name, STALE)
            if not (failed and sound.name in found):
                found[sound.name] = sound
        return list(found.values())

    def _refuse(self, sound: New, fact: Fact) -> None:
        other = self._path_in(fact.part, sound.name) or "another sound"
        why = str(taken(sound.name, sound.source.path, other))
        self._refused.append(replace(sound.outcome, embedding=None, timestamps=None, failure=why))

    def _is_told(self, sound: New, fact: Fact) -> bool:
        return self._reason(sound.name, fact) == sound.outcome.failure

    def _replace_stale(self, sounds: Sequence[New] = (), *, is_alone: bool = True) -> None:
        """Take what is stale out of the parts, each of which is written anew at most once, and put sounds into one."""
        stale = self._known.stale()
        added = table_of(sounds, self._files.schema) if sounds else None
        growing = None if added is None or len(added) >= FLUSH_ROWS else self._growing(is_alone)
        for number in stale.keys() - {growing}:
            path, table = self._parts[number].path, self._without(number, stale)
            if table is not None and len(table):
                self._files.write(path, table)
            elif table is not None:
                path.unlink(missing_ok=True)
        if added is not None:
            if growing is None:
                path = self._files.new([part.path for part in self._parts.values()])
                self._own.add(path)
            else:
                path = self._parts[growing].path
                if (there := self._without(growing, stale)) is not None:
                    added = in_order([there, added])
            self._files.write(path, added)
        self._catch_up()

    def _growing(self, is_alone: bool) -> int | None:
        """The last part that is not full; without locks, of those that this run began."""
        parts = ((part.path, number) for number, part in self._parts.items() if part.rows < FLUSH_ROWS)
        return max(((path, number) for path, number in parts if is_alone or path in self._own), default=(None, None))[1]

    def _without(self, number: int, removed: Mapping[int, Numbers]) -> Any:
        """A part as a table, without what is to be removed from it; None where it is not there any more."""
        table = self._files.read(self._parts[number].path)
        if table is None or number not in removed:
            return table
        return table.filter(~np.isin(hashes(table["name"].combine_chunks()), removed[number]))

    def _catch_up(self) -> None:
        """Read what the parts hold that this run does not know yet: new ones, and those that were written anew."""
        seen = self._files.seen()
        changed = [number for number, part in self._parts.items() if seen.get(part.path) != part.stamp]
        if changed:
            self._known.forget(changed)
            for number in changed:
                del self._parts[number]
                self._reasons.pop(number, None)
        there = {part.path for part in self._parts.values()}
        found = []
        for path in seen.keys() - there:
            table = self._files.read(path, IDENTITY)
            if table is not None:
                self._last += 1
                self._parts[self._last] = Part(path, seen[path], len(table))
                found.append(known_in(table, self._last))
        if found:
            names, facts = zip(*found, strict=True)
            self._known.add(np.concatenate(names), np.concatenate(facts))

    def _path_in(self, number: int, name: str) -> str | None:
        """The path that a part has of a name; None where it has none, but one of the same hash."""
        return self._column(number, "path").get(name)

    def _reason(self, name: str, fact: Fact) -> str:
        if fact.part not in self._reasons:
            reasons = self._column(fact.part, "error")
            self._reasons[fact.part] = {name: reason for name, reason in reasons.items() if reason is not None}
        return self._reasons[fact.part].get(name, "")

    def _column(self, number: int, column: str) -> dict[str, Any]:
        table = self._files.read(self._parts[number].path, ["name", column])
        return {} if table is None else dict(zip(*(table[name].to_pylist() for name in ("name", column)), strict=True))


def read_parquet(folder: Path, timestamps: bool) -> Iterator[Stored]:
    """What the parts in a folder hold. Raises OutputError without pyarrow, and what that raises."""
    _, parquet = load_pyarrow()
    for part in parts(folder):
        with parquet.ParquetFile(part) as file:
            table = file.read()
        kept = {name: table[name].to_pylist() for name in table.column_names if name != "embedding"}
        rows: dict[str, list[int]] = defaultdict(list)
        for row, name in enumerate(kept["name"]):
            rows[name].append(row)
        whole = table["embedding"].is_valid().to_numpy()
        vectors, place = vectors_of(table["embedding"].combine_chunks()), np.cumsum(whole) - 1
        for name, own in rows.items():
            path, seconds = kept["path"][own[0]], kept["seconds"][own[0]]
            stored = Stored(name, path, math.nan if seconds is None else seconds, None)
            if not whole[own[0]]:
                stored.failure = kept["error"][own[0]]
            elif timestamps:
                stored.embedding = np.moveaxis(vectors[place[own]], 0, -2)
                stored.timestamps = np.array([kept["timestamp_ms"][row] for row in own], np.float32)
            else:
                stored.embedding = vectors[place[own[0]]]
            yield stored
