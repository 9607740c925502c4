"""Vectors of length 1 in half precision -> the most similar ones, by comparing with each of them.

The matrix may be longer than the memory: it is read in blocks, which are multiplied in single precision. numpy takes twenty
times as long to turn half precision into single.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hear_axlstm.centring import Array

Half = NDArray[np.float16]
Places = NDArray[np.int64]

BLOCK = 4_096  # rows that are multiplied at once: their block stays in the processor's cache
QUERIES = 256  # that are compared with a block at once


def tensors(vectors: Half) -> Iterator[tuple[int, Tensor]]:
    """Blocks of a matrix in single precision, with the place of the first row of each. Shape: (N, D) -> (rows, D)."""
    for start in range(0, len(vectors), BLOCK):
        yield start, torch.from_numpy(vectors[start : start + BLOCK]).float()


Found = tuple[Places, Array]  # places and cosines, (Q, k) each, the greatest cosine first


def in_batches(
    search: Callable[[Array, Places | None], Found], queries: Array, without: Places | None, size: int, k: int
) -> Found:
    """What a search finds for queries, (Q, D), that are given to it few at a time, each with its own ``without``."""
    starts = range(0, len(queries), size)
    parts = [search(queries[at : at + size], None if without is None else without[at : at + size]) for at in starts]
    if not parts:
        return np.zeros((0, k), np.int64), np.zeros((0, k), np.float32)
    return np.concatenate([places for places, _ in parts]), np.concatenate([cosines for _, cosines in parts])


def scan(segments: Sequence[tuple[int, Half]], queries: Array, k: int, without: Places | None = None) -> Found:
    """The k most similar vectors of each query: their places and cosines, the greatest first.

    segments: parts of the collection, (N, D), each with the place of its first vector. queries: (Q, D), of length 1.
    without: (Q,), the place of a vector that is no answer to a query. Rows of NaN are no answers either. Where there are
    fewer than k, the place is -1 and the cosine NaN. Returns (Q, k) and (Q, k).
    """
    return in_batches(lambda asked, own: _scan(segments, asked, k, own), queries, without, QUERIES, k)


def _scan(segments: Sequence[tuple[int, Half]], queries: Array, k: int, without: Places | None) -> Found:
    asked = torch.from_numpy(np.ascontiguousarray(queries, np.float32))
    cosines = torch.full((len(queries), k), -torch.inf)
    places = torch.full((len(queries), k), -1)
    for first, vectors in segments:
        for start, block in tensors(vectors):
            found = (asked @ block.T).nan_to_num_(-torch.inf)
            if without is not None:
                mine = torch.from_numpy(without) - first - start
                own = ((mine >= 0) & (mine < len(block))).nonzero()[:, 0]
                found[own, mine[own]] = -torch.inf
            best = found.topk(min(k, len(block)), dim=1)
            cosines, order = torch.cat([cosines, best.values], 1).topk(k, dim=1)
            places = torch.cat([places, best.indices + (first + start)], 1).gather(1, order)
    return ordered(places.numpy(), cosines.numpy())


def ordered(places: Places, cosines: Array) -> Found:
    """Answers in the order of their cosines, of equal ones in that of their places; -1 and NaN where there is none."""
    missing = ~np.isfinite(cosines)
    order = np.lexsort((places, np.where(missing, np.inf, -cosines)))
    places, cosines = (np.take_along_axis(values, order, 1) for values in (np.where(missing, -1, places), cosines))
    return places, np.where(places < 0, np.nan, np.clip(cosines, -1, 1)).astype(np.float32)
