"""A graph of neighbours for large collections: it finds candidates among few numbers of each vector, in bytes.

Most of what tells centred embeddings apart lies in a quarter of their directions. So the graph (HNSW, by usearch) holds
each vector in its DIMENSIONS strongest directions, in one byte a number, which makes it a tenth in size and quick to build.
Of vectors that have the same bytes it holds one: the copies of a sound would link to each other alone, and a search that
comes among them would not get out. What it finds is compared anew with the vectors themselves, which orders the answers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from hear_axlstm.centring import Array
from hear_axlstm.errors import ConfigError, OutputError
from hear_axlstm.explore.scan import Found, Half, Places, in_batches, ordered, tensors
from hear_axlstm.parallel import processors

Bytes = NDArray[np.int8]

DIMENSIONS = 256
SAMPLE = 50_000  # vectors that the directions are measured on
CONNECTIVITY, EXPANSION_ADD = 16, 128  # of usearch: links a vector has, and candidates for them
CANDIDATES = 100  # that are compared anew, and as many twins; or CANDIDATES_EACH for each answer where that is more
CANDIDATES_EACH = 4
EXPANSION_SEARCH = 1_024  # vectors that are looked at on the way, at least
EXPANSION_MEND = 64  # vectors that are looked at when one is looked up
QUERIES = 64  # whose candidates are in memory at once


class Graph:
    """Finds the most similar vectors of a matrix without comparing with each.

    projection: the directions that it works in, (D, DIMENSIONS) or fewer. inner: usearch's index of what lies in them.
    twins: (T, 2), in order: the place of a vector that is in the graph, and of one with the same bytes that is not.
    """

    def __init__(self, projection: Array, inner: Any, twins: Places) -> None:
        self.projection, self._inner, self.twins = projection, inner, twins

    @classmethod
    def over(cls, vectors: Half, step: Callable[[int], object] = lambda count: None) -> Self:
        """The graph of a matrix, (N, D), whose rows of NaN it leaves out. step: called with how many rows are done.

        Raises ConfigError when usearch is not installed.
        """
        sample = np.unique(np.linspace(0, len(vectors) - 1, SAMPLE).astype(np.int64))
        projection = _directions(np.ascontiguousarray(vectors[sample], np.float32))
        inner = _usearch().Index(
            ndim=projection.shape[1], metric="cos", dtype="i8", connectivity=CONNECTIVITY, expansion_add=EXPANSION_ADD,
            enable_key_lookups=False,
        )  # fmt: skip
        graph = cls(projection, inner, np.zeros((0, 2), np.int64))
        first, twins = dict[int, int](), [graph.twins]
        for places, coded, rows in graph._coded_parts(vectors):
            firsts = [
                first.setdefault(hash(code.tobytes()), place) for place, code in zip(places.tolist(), coded, strict=True)
            ]
            pairs = np.stack([np.array(firsts, np.int64), places], 1)
            is_new = pairs[:, 0] == places
            twins.append(pairs[~is_new])
            inner.add(places[is_new], coded[is_new], threads=processors())
            step(rows)
        pairs = np.concatenate(twins)
        graph.twins = pairs[np.argsort(pairs[:, 0], kind="stable")]
        return graph

    def mend(self, vectors: Half, step: Callable[[int], object] = lambda count: None) -> None:
        """Look up each vector of the graph, and add those anew, one by one, that are not found. Otherwise as ``over``.

        Where threads add at once, usearch may leave vectors that no link leads to (unum-cloud/USearch#735).
        """
        is_twin = np.zeros(len(vectors), np.bool_)
        is_twin[self.twins[:, 1]] = True
        for places, coded, rows in self._coded_parts(vectors):
            own, sought = places[~is_twin[places]], coded[~is_twin[places]]
            lost = self._nearest(sought, 1, EXPANSION_MEND)[:, 0] != own
            self._inner.add(own[lost], sought[lost], threads=1)
            step(rows)

    def search(self, vectors: Half, queries: Array, k: int, without: Places | None = None) -> Found:
        """As ``scan``, nearly always with the same answers. vectors: those that the graph is of."""
        return in_batches(lambda asked, own: self._search(vectors, asked, k, own), queries, without, QUERIES, k)

    def _search(self, vectors: Half, queries: Array, k: int, without: Places | None) -> Found:
        count = max(CANDIDATES, CANDIDATES_EACH * k)
        places = self._with_twins(self._nearest(self._coded(queries), count, max(EXPANSION_SEARCH, 2 * count)))
        places.sort(axis=1)
        places[:, 1:][places[:, 1:] == places[:, :-1]] = -1  # what was added anew may be found twice
        read, inverse = np.unique(np.maximum(places, 0), return_inverse=True)  # in the order in which they are on the disk
        rows = torch.from_numpy(vectors[read]).float()[torch.from_numpy(inverse.reshape(places.shape))]
        cosines = torch.einsum("qcd,qd->qc", rows, torch.from_numpy(queries)).numpy()
        cosines[(places < 0) if without is None else (places < 0) | (places == without[:, None])] = np.nan
        places, cosines = ordered(places, cosines)
        return places[:, :k], cosines[:, :k]

    def _nearest(self, coded: Bytes, count: int, expansion: int) -> Places:
        """The places that the graph finds, (Q, count), the nearest first; -1 where there are no more."""
        places = np.full((len(coded), count), -1)
        self._inner.expansion_search = expansion
        found = self._inner.search(coded, count, threads=processors())
        for row, match in zip(places, [found] if len(coded) == 1 else found, strict=True):
            row[: len(match.keys)] = match.keys
        return places

    def _with_twins(self, places: Places) -> Places:
        """Places, (Q, count), and as many of their twins at most, those of the nearest first."""
        first, last = (np.searchsorted(self.twins[:, 0], places, side) for side in ("left", "right"))
        more, most = np.full_like(places, -1), 0
        last = np.minimum(last, first + more.shape[1])  # one sound may have a million copies
        for row in np.flatnonzero((first < last).any(1)):
            twins = [self.twins[start:end, 1] for start, end in zip(first[row], last[row], strict=True)]
            found = np.concatenate(twins)[: more.shape[1]]
            more[row, : len(found)], most = found, max(most, len(found))
        return np.concatenate([places, more[:, :most]], 1)

    def _coded_parts(self, vectors: Half) -> Iterator[tuple[Places, Bytes, int]]:
        """The rows that are no NaN, a part at a time: their places and bytes, and how many rows the part has with NaN."""
        for start, block in tensors(vectors):
            there = block.isfinite().all(1).nonzero()[:, 0].numpy()
            yield there + start, self._coded(block.numpy()[there]), len(block)

    def _coded(self, vectors: Array) -> Bytes:
        projected = vectors @ self.projection
        greatest = np.maximum(np.abs(projected).max(1, keepdims=True), np.finfo(np.float32).tiny)
        return np.rint(127 * (projected / greatest)).astype(np.int8)

    def save(self, path: Path) -> None:
        """Write the graph to one file. Raises OSError."""
        try:
            self._inner.save(os.fspath(path))
        except RuntimeError as error:  # usearch's word for a full disk
            raise OSError(f"{path} cannot be written ({error})") from error

    @classmethod
    def load(cls, path: Path, projection: Array, twins: Places) -> Self:
        """What ``save`` wrote, memory-mapped. Raises OutputError when it is damaged, ConfigError without usearch."""
        usearch = _usearch()
        try:
            inner = usearch.Index.restore(os.fspath(path), view=True)
        except (RuntimeError, ValueError) as error:
            raise OutputError(f"{path} is damaged ({error})") from error
        if inner is None or inner.ndim != projection.shape[1]:
            raise OutputError(f"{path} is no graph of {projection.shape[1]} dimensions")
        return cls(projection, inner, twins)


def _directions(sample: Array) -> Array:
    """The directions in which vectors vary most, (D, DIMENSIONS), or all of them where they are fewer."""
    there = sample[np.isfinite(sample).all(1)]
    _, directions = np.linalg.eigh(there.T @ there)
    return np.ascontiguousarray(directions[:, ::-1][:, :DIMENSIONS], np.float32)


def _usearch() -> Any:
    try:
        import usearch.index
    except ImportError as error:
        raise ConfigError("an index of so many sounds needs usearch: pip install 'hear-axlstm[explore]'") from error
    return usearch.index
