"""A graph of neighbours for large collections: it finds candidates among few numbers of each vector, in bytes.

Most of what tells centred embeddings apart lies in a quarter of their directions. So the graph (HNSW, by usearch) holds
each vector in its DIMENSIONS strongest directions, in one byte a number, which makes it a tenth in size and quick to build.
What it finds is compared anew with the vectors themselves, which puts the answers in their order.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from hear_axlstm.centring import Array
from hear_axlstm.errors import ConfigError, OutputError
from hear_axlstm.explore.scan import Found, Half, Places, in_batches, ordered, tensors
from hear_axlstm.parallel import processors

DIMENSIONS = 256
SAMPLE = 50_000  # vectors that the directions are measured on
CONNECTIVITY, EXPANSION_ADD = 16, 128  # of usearch: links a vector has, and candidates for them
CANDIDATES = 100  # that are compared anew, or CANDIDATES_EACH for each answer where that is more
CANDIDATES_EACH = 4
EXPANSION_SEARCH = 1_024  # vectors that are looked at on the way, at least
QUERIES = 64  # whose candidates are in memory at once


class Graph:
    """Finds the most similar vectors of a matrix without comparing with each.

    projection: the directions that it works in, (D, DIMENSIONS) or fewer. inner: usearch's index of what lies in them.
    """

    def __init__(self, projection: Array, inner: Any) -> None:
        self.projection, self._inner = projection, inner

    @classmethod
    def over(cls, vectors: Half, step: Callable[[int], object] = lambda count: None) -> Self:
        """The graph of a matrix, (N, D), whose rows of NaN it leaves out. step: called with how many rows are done.

        Raises ConfigError when usearch is not installed.
        """
        sample = np.unique(np.linspace(0, len(vectors) - 1, SAMPLE).astype(np.int64))
        projection = _directions(np.ascontiguousarray(vectors[sample], np.float32))
        graph = cls(projection, _usearch().Index(
            ndim=projection.shape[1], metric="cos", dtype="i8", connectivity=CONNECTIVITY, expansion_add=EXPANSION_ADD,
            enable_key_lookups=False,
        ))  # fmt: skip
        for start, block in tensors(vectors):
            there = block.isfinite().all(1).nonzero()[:, 0].numpy()
            graph._inner.add(there + start, graph._projected(block.numpy()[there]), threads=processors())
            step(len(block))
        return graph

    def search(self, vectors: Half, queries: Array, k: int, without: Places | None = None) -> Found:
        """As ``scan``, nearly always with the same answers. vectors: those that the graph is of."""
        return in_batches(lambda asked, own: self._search(vectors, asked, k, own), queries, without, QUERIES, k)

    def _search(self, vectors: Half, queries: Array, k: int, without: Places | None) -> Found:
        count = min(max(CANDIDATES, CANDIDATES_EACH * k), len(self))
        self._inner.expansion_search = max(EXPANSION_SEARCH, 2 * count)
        found = self._inner.search(self._projected(queries), count, threads=processors())
        places = np.full((len(queries), count), -1)
        for row, keys in zip(places, found.keys.reshape(len(queries), -1), strict=True):
            row[: len(keys)] = keys
        if len(queries) > 1:
            places[np.arange(count) >= found.counts[:, None]] = -1
        read, inverse = np.unique(np.maximum(places, 0), return_inverse=True)  # in the order in which they are on the disk
        rows = torch.from_numpy(vectors[read]).float()[torch.from_numpy(inverse.reshape(places.shape))]
        cosines = torch.einsum("qcd,qd->qc", rows, torch.from_numpy(queries)).numpy()
        cosines[(places < 0) if without is None else (places < 0) | (places == without[:, None])] = np.nan
        places, cosines = ordered(places, cosines)
        return places[:, :k], cosines[:, :k]

    def _projected(self, vectors: Array) -> Array:
        projected = vectors @ self.projection
        return projected / np.maximum(np.linalg.norm(projected, axis=1, keepdims=True), np.finfo(np.float32).tiny)

    def save(self, path: Path) -> None:
        """Write the graph to one file. Raises OSError."""
        try:
            self._inner.save(os.fspath(path))
        except RuntimeError as error:  # usearch's word for a full disk
            raise OSError(f"{path} cannot be written ({error})") from error

    @classmethod
    def load(cls, path: Path, projection: Array) -> Self:
        """What ``save`` wrote, memory-mapped. Raises OutputError when it is damaged, ConfigError without usearch."""
        usearch = _usearch()
        try:
            inner = usearch.Index.restore(os.fspath(path), view=True)
        except (RuntimeError, ValueError) as error:
            raise OutputError(f"{path} is damaged ({error})") from error
        if inner is None or inner.ndim != projection.shape[1]:
            raise OutputError(f"{path} is no graph of {projection.shape[1]} dimensions")
        return cls(projection, inner)

    def __len__(self) -> int:
        return len(self._inner)


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
