"""Which sounds the parts of a data set hold, in 37 bytes a sound: by 64-bit hashes of names and paths, in sorted arrays."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hear_axlstm.files.sounds import Source

FACT = np.dtype([("path", "i8"), ("size", "i8"), ("modified", "i8"), ("part", "i4"), ("marks", "u1")])
NOWHERE = -1  # the part of what is not there any more
ASKED, FAILED, STALE = 1, 2, 4  # marks: this run asked for it; it has no embedding; its source has changed since

Numbers = NDArray[np.int64]
Facts = NDArray[Any]  # of FACT


class Fact(NamedTuple):
    """What is known of a sound. path: the hash of its path. size, modified: as its source has them. part: a number."""

    path: int
    size: int
    modified: int
    part: int
    marks: int

    def has_path(self, source: Source) -> bool:
        return self.path == hash(source.path)

    def is_of(self, source: Source) -> bool:
        """Whether it is of this source as it is now; a size or time of -1 is any."""
        return self.has_path(source) and source.size in (-1, self.size) and source.modified in (-1, self.modified)


class Known:
    """The sounds that are known, by the hash of their name. Of a million sounds, two share one once in ten million times."""

    def __init__(self) -> None:
        self._names: Numbers = np.zeros(0, np.int64)  # sorted
        self._facts: Facts = np.zeros(0, FACT)  # in their order

    def get(self, name: str) -> Fact | None:
        """What is known of a name, if it is in a part."""
        place = self._place(name)
        fact = None if place is None else Fact(*self._facts[place].item())
        return fact if fact is not None and fact.part != NOWHERE else None

    def mark(self, name: str, mark: int) -> None:
        """Add marks to what is known of a name."""
        if (place := self._place(name)) is not None:
            self._facts["marks"][place] |= mark

    def add(self, names: Numbers, facts: Facts) -> None:
        """Add what parts hold, names by their hashes. What this run asked for stays so where the path is the same."""
        names, first = np.unique(names, return_index=True)
        facts, places = facts[first], np.searchsorted(self._names, names)
        there = np.zeros(len(names), bool)
        inside = places < len(self._names)
        there[inside] = self._names[places[inside]] == names[inside]
        before = self._facts[places[there]]
        is_same = before["path"] == facts["path"][there]
        facts["marks"][there] |= np.where(is_same, before["marks"] & ASKED, 0).astype(np.uint8)
        self._facts[places[there]] = facts[there]
        at = places[~there]
        self._names, self._facts = np.insert(self._names, at, names[~there]), np.insert(self._facts, at, facts[~there])

    def forget(self, parts: Collection[int]) -> None:
        """What these parts held is not there any more."""
        self._facts["part"][np.isin(self._facts["part"], list(parts))] = NOWHERE

    def stale(self) -> dict[int, Numbers]:
        """The hashes of the names of what is stale, by part."""
        return self._by_part(self._facts["marks"] & STALE != 0)

    def not_asked(self) -> dict[int, Numbers]:
        """The hashes of the names of what this run did not ask for, by part."""
        return self._by_part(self._facts["marks"] & ASKED == 0)

    @property
    def nbytes(self) -> int:
        """The memory that it takes, in bytes."""
        return self._names.nbytes + self._facts.nbytes

    def _by_part(self, chosen: NDArray[np.bool_]) -> dict[int, Numbers]:
        chosen &= self._facts["part"] != NOWHERE
        parts, names = self._facts["part"][chosen], self._names[chosen]
        order = np.argsort(parts, kind="stable")
        numbers, starts = np.unique(parts[order], return_index=True)
        return dict(zip(numbers.tolist(), np.split(names[order], starts[1:]), strict=False))

    def _place(self, name: str) -> int | None:
        key = hash(name)
        place = int(np.searchsorted(self._names, key))
        return place if place < len(self._names) and self._names[place] == key else None


def hashes(column: Any) -> Numbers:
    """The hashes of a column of texts."""
    return np.fromiter(map(hash, column.to_numpy(zero_copy_only=False)), np.int64, len(column))


def known_in(table: Any, number: int) -> tuple[Numbers, Facts]:
    """The hashes of the names in a part, and what is known of each. table: columns name, path, size, modified and error."""
    facts = np.zeros(len(table), FACT)
    names, facts["path"] = hashes(table["name"].combine_chunks()), hashes(table["path"].combine_chunks())
    for column in ("size", "modified"):
        facts[column] = table[column].cast("int64").fill_null(-1).to_numpy()
    facts["part"] = number
    facts["marks"] = np.where(table["error"].is_valid().to_numpy(), FAILED, 0)
    return names, facts
