"""Which sounds the parts of a data set hold, in 37 bytes a sound: by 64-bit hashes of names and paths, in sorted arrays."""

from __future__ import annotations

from collections.abc import Callable, Collection
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
        return self.has_path(source) and source.is_as(self.size, self.modified)


class Known:
    """The sounds that are known, by the hash of their name. Of a million sounds, two share one once in ten million times.

    They are in runs, each sorted and more than twice as long as the next, so that what is added is seldom merged with all.
    """

    def __init__(self) -> None:
        self._runs: list[tuple[Numbers, Facts]] = []  # names, sorted, each in one run, and their facts

    def get(self, name: str) -> Fact | None:
        """What is known of a name, if it is in a part."""
        facts, place = self._place(name)
        fact = None if facts is None else Fact(*facts[place].item())
        return fact if fact is not None and fact.part != NOWHERE else None

    def mark(self, name: str, mark: int) -> None:
        """Add marks to what is known of a name."""
        facts, place = self._place(name)
        if facts is not None:
            facts["marks"][place] |= mark

    def add(self, names: Numbers, facts: Facts) -> None:
        """Add what parts hold, names by their hashes. What this run asked for stays so where the path is the same."""
        names, first = np.unique(names, return_index=True)
        facts = facts[first]
        for known, before in self._runs:
            there, places = _found(names, known)
            old, new = before[places], facts[there]
            new["marks"] |= np.where(old["path"] == new["path"], old["marks"] & ASKED, 0).astype(np.uint8)
            before[places] = new
            names, facts = names[~there], facts[~there]
        if len(names):
            self._runs.append((names, facts))
        while len(self._runs) > 1 and len(self._runs[-2][0]) <= 2 * len(self._runs[-1][0]):
            (names, facts), (more, own) = self._runs[-2:]
            at = np.searchsorted(names, more)
            self._runs[-2:] = [(np.insert(names, at, more), np.insert(facts, at, own))]

    def forget(self, parts: Collection[int]) -> None:
        """What these parts held is not there any more."""
        for _, facts in self._runs:
            facts["part"][np.isin(facts["part"], list(parts))] = NOWHERE

    def stale(self) -> dict[int, Numbers]:
        """The hashes of the names of what is stale, by part."""
        return self._by_part(lambda marks: marks & STALE != 0)

    def not_asked(self) -> dict[int, Numbers]:
        """The hashes of the names of what this run did not ask for, by part."""
        return self._by_part(lambda marks: marks & ASKED == 0)

    @property
    def nbytes(self) -> int:
        """The memory that it takes, in bytes."""
        return sum(names.nbytes + facts.nbytes for names, facts in self._runs)

    def _by_part(self, is_chosen: Callable[[NDArray[np.uint8]], NDArray[np.bool_]]) -> dict[int, Numbers]:
        parts, names = [np.zeros(0, np.int32)], [np.zeros(0, np.int64)]
        for own, facts in self._runs:
            chosen = is_chosen(facts["marks"]) & (facts["part"] != NOWHERE)
            parts.append(facts["part"][chosen])
            names.append(own[chosen])
        order = np.argsort(np.concatenate(parts), kind="stable")
        numbers, starts = np.unique(np.concatenate(parts)[order], return_index=True)
        return dict(zip(numbers.tolist(), np.split(np.concatenate(names)[order], starts[1:]), strict=False))

    def _place(self, name: str) -> tuple[Facts | None, int]:
        """The facts of the run that has a name, and its place there; None where no run has it."""
        key = hash(name)
        for names, facts in self._runs:
            place = int(names.searchsorted(key))
            if place < len(names) and names[place] == key:
                return facts, place
        return None, 0


def _found(names: Numbers, known: Numbers) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Which names are known, and where these are. Both are sorted."""
    places = np.searchsorted(known, names)
    there = np.zeros(len(names), bool)
    inside = places < len(known)
    there[inside] = known[places[inside]] == names[inside]
    return there, places[there]


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
