"""``Index``: the embeddings of a collection, kept so that what is like a sound is found in milliseconds."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np

from hear_axlstm.centring import Array, Centring, Neighbours, require_count, settled
from hear_axlstm.config import require
from hear_axlstm.errors import ConfigError, OutputError
from hear_axlstm.explore.collection import Collection, Made, as_named, collection, matrices, result_collection, stored
from hear_axlstm.explore.graph import CANDIDATES_EACH, Graph
from hear_axlstm.explore.scan import Found, Half, Places, ordered, scan
from hear_axlstm.explore.store import Part, StoredIndex, read_index, write_graph, write_index
from hear_axlstm.explore.texts import Texts
from hear_axlstm.files import Embedded
from hear_axlstm.files.similar import Model, is_sound
from hear_axlstm.progress import progress_bar, several

SCANNED = 100_000  # vectors without a graph at most: comparing with all of them takes some 20 ms
ROWS = 16_384  # that are held at once while an index is written
BATCH = 1_024  # of the collection's own vectors whose neighbours are sought at once
NOTHING: Mapping[str, Any] = MappingProxyType({})

logger = logging.getLogger(__name__)


class Index:
    """Embeddings of N sounds, centred, of length 1 and in half precision, to find those that are like a sound.

    names, paths: N each, the paths empty where there is no file. centring: what is done to embeddings before their cosines
    are taken: that of their weights, or else the mean of the collection that the index was built from. weights: what they
    are called.

    Answers are exact up to 100,000 sounds. Beyond that a graph (usearch, extra [explore]) finds nearly all of them, much
    faster; ``exact=True`` compares with every sound instead. A sound without an embedding, or whose embedding is just what
    is subtracted, is nobody's neighbour and has none.
    """

    def __init__(self, centring: Centring, made: Made) -> None:
        """An index without sounds; ``build`` and ``load`` make one with some."""
        self.centring, self.made = centring, made
        self.names, self.paths = Texts.of([]), Texts.of([])
        self._segments: list[Half] = []
        self._graph: Graph | None = None
        self._covered = 0  # vectors that the graph is of: the first ones

    @classmethod
    def build(
        cls,
        collected: Any,
        path: str | os.PathLike[str] | None = None,
        *,
        names: Sequence[str] | None = None,
        model: Model = None,
        progress: bool | None = None,
    ) -> Self:
        """The index of a collection.

        collected: a folder that ``embed`` wrote; a result of ``embed``, or its file; embeddings, (N, D), of numpy or torch;
        or sounds as ``embed`` takes them. path: a folder to write the index to; a large one never is in memory then.
        names: of embeddings; their numbers when left out. model: which gave these, or is to embed the sounds, or its name;
        the bundled default when left out. progress: whether to show a bar; left out: in terminals and notebooks.

        Raises ConfigError when there is nothing to search, as with no embeddings, several layers, timestamps, fewer than 8
        sounds of weights without a centring, or sounds that are all equal; OutputError when something is damaged, or cannot
        be written.
        """
        given = collection(collected, names, model=model)
        if path is not None:
            return cls.written(given, _folder(path), progress=progress)
        index = cls(settled(given.centring, matrices(given.blocks())), given.made)
        for part in index._parts(given):
            index._take(*part)
        index._cover(progress)
        return index

    @classmethod
    def written(
        cls, given: Collection, folder: Path, facts: Mapping[str, Any] = NOTHING, *, progress: bool | None = None
    ) -> Self:
        """The index of a collection, written to a folder part by part. facts: others to be kept with it, under "facts".

        Raises OutputError also where another run has put an index with other facts there meanwhile.
        """
        index = cls(settled(given.centring, matrices(given.blocks())), given.made)
        wrote = write_index(folder, index._facts() | {"facts": dict(facts)}, index._parts(given))
        there = read_index(folder)
        if there.facts["files"] != wrote["files"] and not (facts and there.facts.get("facts") == facts):
            raise OutputError(f"{folder} was written by another run meanwhile; make the index again")
        return cls._with_graph(there, folder, progress)

    @classmethod
    def kept(cls, folder: Path, *, progress: bool | None = None) -> Self:
        """What ``written`` wrote, with the graph that a run did not come to that was killed. Raises OutputError."""
        return cls._with_graph(read_index(folder), folder, progress)

    @classmethod
    def _with_graph(cls, there: StoredIndex, folder: Path, progress: bool | None) -> Self:
        index = cls._of(there, folder)
        if index._cover(progress):
            assert index._graph is not None
            write_graph(folder, there.facts, index._graph, index._covered)
        return index

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """What ``save`` or ``build`` wrote, memory-mapped. Raises OutputError when it is damaged, or something else."""
        return cls._of(read_index(_folder(path)), path)

    @classmethod
    def _of(cls, there: StoredIndex, path: str | os.PathLike[str]) -> Self:
        """What was read from a path. Raises OutputError when it is damaged."""
        try:
            index = cls(Centring.from_facts(there.facts["centring"]), Made(dict(there.facts["made"])))
            fits = len(index.centring.mean) == there.facts["dimensions"]
        except (LookupError, TypeError, ValueError) as error:
            raise OutputError(f"{path} is damaged ({error}); make the index again") from error
        if not fits or there.covered > len(there.names):
            raise OutputError(f"{path} is damaged: its parts do not fit together; make the index again")
        index.names, index.paths = there.names, there.paths
        index._graph, index._covered = there.graph, there.covered
        parts = there.vectors[: there.covered], there.vectors[there.covered :]
        index._segments = [part for part in parts if len(part)]
        return index

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the index to a folder, in place of one that is there. Raises OutputError."""
        wrote = write_index(_folder(path), self._facts(), self._saved())
        if self._graph is not None:
            write_graph(_folder(path), wrote, self._graph, self._covered)

    def add(self, collected: Any, *, names: Sequence[str] | None = None, model: Model = None) -> None:
        """Add sounds behind those that are there; ``save`` keeps them. A name may come twice: the sound is there twice then.

        collected, names: as in ``build``. model: which embeds sounds; left out, the index's own, if it is bundled.
        Raises ConfigError when they are of other weights or settings, and as ``build`` does.
        """
        given = stored(collected)
        if given is None and is_sound(collected):
            given = stored(self.made.embed(collected, model, self.centring))
        if given is None:
            matrix, own = as_named(collected, names)
            given = Collection(lambda: iter([(own, [""] * len(own), matrix)]), Made(), None)
        else:
            self._check(given)
        if given.centring is not None and not given.centring.equals(self.centring):
            raise ConfigError("the embeddings are of other weights or settings than those of the index")
        for part in list(self._parts(given)):
            self._take(*part)
        self._cover(None)

    def query(self, asked: Any, k: int = 10, *, exact: bool = False, model: Model = None) -> Neighbours:
        """The k most similar sounds of the collection for each that is asked for; all where they are fewer.

        asked: sounds as ``embed`` takes them, a result of ``embed``, or embeddings as it gives them, (D,) or (N, D). A sound
        that is in the collection finds itself first, but for equal ones. exact: whether to compare with every sound,
        whatever their number. model: which embeds the sounds; needed where the index's own is not bundled.

        Iterating gives each one's name and the names and cosines of what was found; ``indices`` are places in ``names`` and
        ``paths``. Raises ConfigError on embeddings of another size or other weights, and unless k is 1 or more; AudioError
        when a single sound cannot be embedded. Several sounds that cannot be embedded find nothing.
        """
        require_count(k)
        if not isinstance(asked, Embedded) and is_sound(asked):
            asked = self.made.embed(asked, model, self.centring)
        if isinstance(asked, Embedded):
            self._check(result_collection(asked))
            matrix, names = asked.matrix, list(asked.names)
        else:
            matrix, names = as_named(asked)
        places, cosines = self._nearest(self._directed(matrix), k, exact)
        return Neighbours(names, places, cosines, self.centring.source, self.names)

    def neighbours(self, k: int = 5, *, exact: bool = False, progress: bool | None = None) -> Neighbours:
        """The k most similar others of each sound of the collection, as ``hear_axlstm.neighbours``, (N, k).

        Fewer columns where the others are fewer; -1 and NaN for sounds without an embedding. It takes seconds for 20,000
        sounds, minutes for 100,000, and by the graph an hour for a million. Raises ConfigError unless k is 1 or more.
        """
        require_count(k)
        found = list(self._all_nearest(min(int(k), max(0, len(self) - 1)), exact, progress))
        places, cosines = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
        return Neighbours(self.names, places, cosines, self.centring.source)

    def _all_nearest(self, k: int, exact: bool, progress: bool | None) -> Iterator[Found]:
        with progress_bar(total=len(self), unit="sound", desc="neighbours", shown=progress) as bar:
            for first, segment in self._placed():
                for start in range(0, len(segment), BATCH):
                    own = segment[start : start + BATCH].astype(np.float32)
                    yield self._nearest(own, k, exact, np.arange(len(own)) + first + start)
                    bar.update(len(own))

    @property
    def weights(self) -> str:
        """What the weights are called that the embeddings are of; empty where that is not known."""
        return self.made.weights

    @property
    def is_exact(self) -> bool:
        """Whether every answer comes from a comparison with all sounds."""
        return self._graph is None

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        how = "compared one by one" if self.is_exact else "found by a graph"
        return (
            f"Index: {several(len(self), 'sound')}, {len(self.centring.mean)} numbers each, {how}\n  weights: {self.weights}"
        )

    def segments(self) -> Iterator[Half]:
        """The vectors, (n, D) at a time, centred, of length 1, float16; rows of NaN where there is no embedding."""
        yield from self._segments

    def _nearest(self, queries: Array, k: int, exact: bool, without: Places | None = None) -> Found:
        """(Q, k) places and cosines. queries: directed, (Q, D). without: (Q,), the places of the queries themselves."""
        k = min(int(k), len(self))
        asked = np.isfinite(queries).all(1)
        places, cosines = np.full((len(queries), k), -1), np.full((len(queries), k), np.nan, np.float32)
        own = None if without is None else without[asked]
        if self._graph is None or exact or CANDIDATES_EACH * k >= self._covered:  # a graph does not reach all
            found = scan(list(self._placed()), queries[asked], k, own)
        else:
            found = self._graph.search(self._segments[0], queries[asked], k, own)
            rest = scan(list(self._placed())[1:], queries[asked], k, own)
            found = ordered(np.concatenate([found[0], rest[0]], 1), np.concatenate([found[1], rest[1]], 1))
        columns = min(k, found[0].shape[1])
        places[asked, :columns], cosines[asked, :columns] = (values[:, :columns] for values in found)
        return places, cosines

    def _placed(self) -> Iterator[tuple[int, Half]]:
        """The segments, each with the place of its first vector."""
        first = 0
        for segment in self._segments:
            yield first, segment
            first += len(segment)

    def _check(self, given: Collection) -> None:
        """Raise ConfigError where a folder's or a result's embeddings are of other weights or settings than the index's.

        A result does not say its layout or its layer, but that with which its weights have a centring is one alone.
        """
        self.made.check(given.made)
        is_of_weights = len(self.centring.directions) > 0  # and not the mean of the collection
        other = "the embeddings are of other weights, layout or layer than those of the index"
        require((given.centring is not None) == is_of_weights, f"{other}; expected those of one model")

    def _directed(self, matrix: Array) -> Array:
        directed = self.centring.directed(matrix)
        directed[~directed.any(1)] = np.nan  # just what is subtracted: it is like nothing, and nothing like it
        return directed

    def _parts(self, given: Collection) -> Iterator[Part]:
        """The collection's parts, centred. Raises ConfigError when there is nothing in it to search."""
        count = usable = 0
        for names, paths, matrix in _merged(given):
            vectors = self._directed(matrix).astype(np.float16)
            count, usable = count + len(vectors), usable + int(np.isfinite(vectors[:, 0]).sum())
            yield vectors, Texts.of(names), Texts.of(paths)
        require(count > 0, "there are no embeddings; expected some to search")
        equal = f"{several(count, 'sound')}, none with an embedding that differs from what they are centred on"
        require(usable > 0, f"{equal}; nothing is like another: are they all the same?")
        if usable < count:
            logger.warning("%s of %s have no embedding, or just the mean: they are not found", f"{count - usable:,}", count)

    def _take(self, vectors: Half, names: Texts, paths: Texts) -> None:
        if len(self._segments) > 1 and len(self._segments[-1]) < ROWS:
            vectors = np.concatenate([self._segments.pop(), vectors])
        self._segments.append(vectors)
        self.names, self.paths = self.names + names, self.paths + paths

    def _cover(self, progress: bool | None) -> bool:
        """Make a graph of all vectors when more than SCANNED are in none. Whether one was made."""
        if len(self) - self._covered <= SCANNED:
            return False
        self._segments = [self._segments[0] if len(self._segments) == 1 else np.concatenate(self._segments)]
        try:
            with progress_bar(total=len(self), unit="sound", desc="graph", shown=progress) as bar:
                graph = Graph.over(self._segments[0], bar.update)
            with progress_bar(total=len(self), unit="sound", desc="graph, looked over", shown=progress) as bar:
                graph.mend(self._segments[0], bar.update)
        except ConfigError as error:
            logger.warning("%s; without it, every sound is compared", error)
            return False
        self._graph, self._covered = graph, len(self)
        return True

    def _facts(self) -> dict[str, Any]:
        numbers = {"mean": self.centring.mean, "directions": self.centring.directions, "gains": self.centring.gains}
        centring = {name: array.tolist() for name, array in numbers.items()} | {"source": self.centring.source}
        return {"dimensions": len(self.centring.mean), "made": dict(self.made.facts), "centring": centring}

    def _saved(self) -> Iterator[Part]:
        for first, segment in self._placed():
            for start in range(0, len(segment), ROWS):
                rows = slice(first + start, first + min(start + ROWS, len(segment)))
                yield segment[start : start + ROWS], self.names[rows], self.paths[rows]


def _merged(given: Collection) -> Iterator[tuple[list[str], list[str], Array]]:
    """The blocks of a collection, several small ones together. Raises ConfigError where their sizes differ."""
    names, paths, held = list[str](), list[str](), list[Array]()
    for more_names, more_paths, matrix in chain(given.blocks(), [([], [], None)]):
        if held and (matrix is None or len(names) + len(matrix) > ROWS):
            yield names, paths, np.concatenate(held)
            names, paths, held = [], [], []
        if matrix is not None:
            names, paths = [*names, *more_names], [*paths, *more_paths]
            held.append(matrix)


def _folder(path: str | os.PathLike[str]) -> Path:
    return Path(os.path.expanduser(path))
