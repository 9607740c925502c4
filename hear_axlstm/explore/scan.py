"""Vectors of length 1 in half precision -> the most similar ones, by comparing with each of them.

The matrix may be longer than the memory: it is read in blocks, which are multiplied in single precision. numpy takes twenty
times as long to turn half precision into single.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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


def scan(segments: Sequence[tuple[int, Half]], queries: Array, k: int, without: Places | None = None) -> tuple[Places, Array]:
    """The k most similar vectors of each query, or all where they are fewer: their places and cosines, the greatest first.

    segments: parts of the collection, (N, D), each with the place of its first vector. queries: (Q, D), of length 1.
    without: (Q,), the place of a vector that is no answer to a query. Rows of NaN are none either, and have none: the place
    is -1 there, and the cosine NaN. Returns (Q, k) and (Q, k).
    """
    parts = [_scan(segments, queries[at : at + QUERIES], k, None if without is None else without[at : at + QUERIES])
             for at in range(0, len(queries), QUERIES)]  # fmt: skip
    if not parts:
        return np.zeros((0, k), np.int64), np.zeros((0, k), np.float32)
    return np.concatenate([places for places, _ in parts]), np.concatenate([cosines for _, cosines in parts])


def _scan(segments: Sequence[tuple[int, Half]], queries: Array, k: int, without: Places | None) -> tuple[Places, Array]:
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


def ordered(places: Places, cosines: Array) -> tuple[Places, Array]:
    """Answers in the order of their cosines, of equal ones in that of their places; -1 and NaN where there is none."""
    missing = ~np.isfinite(cosines)
    order = np.lexsort((places, np.where(missing, np.inf, -cosines)))
    places, cosines = (np.take_along_axis(values, order, 1) for values in (np.where(missing, -1, places), cosines))
    return places, np.where(places < 0, np.nan, np.clip(cosines, -1, 1)).astype(np.float32)
