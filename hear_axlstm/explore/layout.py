"""Embeddings, centred, (N, D) -> places on a map, (N, 2), where sounds that are alike lie together: by t-SNE."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hear_axlstm.centring import Array
from hear_axlstm.errors import ConfigError

DIRECTIONS = 50  # in which sounds vary most, to which t-SNE's distances are reduced
FEW = 10  # sounds, below which the two directions in which they vary most show more than t-SNE
PERPLEXITY = 30.0  # how many neighbours a sound is drawn to
EQUAL = 1e-5  # of the largest number, by which no two embeddings differ where all are equal but for rounding
SEED = 0


def lay_out(directed: Array) -> Array:
    """Places of N sounds on a map, each of its two axes from 0 to 1. The same embeddings get the same places.

    directed: (N, D), centred, of length 1 (or 0), finite, N from 1 on. It takes a minute for 20,000 on two cores. Raises
    ConfigError without scikit-learn.
    """
    try:
        from sklearn.decomposition import PCA
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise ConfigError("a map needs scikit-learn: pip install 'hear-axlstm[explore]'") from error
    count = len(directed)
    directions = min(DIRECTIONS, *directed.shape)
    reduced = PCA(directions, random_state=SEED).fit_transform(directed.astype(np.float64))
    if count < FEW:
        flat = np.zeros((count, 2))
        flat[:, : min(2, directions)] = reduced[:, :2]
        return _into_unit(flat)
    perplexity = min(PERPLEXITY, (count - 1) / 3)
    start = reduced[:, :2] / max(reduced[:, 0].std(), np.finfo(np.float32).tiny) * 1e-4
    model = TSNE(2, perplexity=perplexity, init=start.astype(np.float32), random_state=SEED)
    return _into_unit(model.fit_transform(reduced.astype(np.float32)))


def are_equal(embeddings: Array) -> bool:
    """Whether embeddings, (N, D), are the same but for rounding."""
    return bool(np.ptp(embeddings, axis=0).max() <= EQUAL * np.abs(embeddings).max())


def kept(places: Array, neighbours: NDArray[np.int64]) -> float:
    """The share of neighbours by the embedding, (N, k), that are among as many on the map; 1 where there are none."""
    from sklearn.neighbors import NearestNeighbors

    k = neighbours.shape[1]
    if not k:
        return 1.0
    on_map = NearestNeighbors(n_neighbors=k).fit(places).kneighbors(return_distance=False)
    return float(np.mean([len(np.intersect1d(one, other)) for one, other in zip(on_map, neighbours, strict=True)])) / k


def spiral(count: int) -> Array:
    """Places for sounds that nothing tells apart: spread evenly over a disc, as the seeds of a sunflower lie."""
    order = np.arange(count)
    radius, angle = np.sqrt(order), order * np.pi * (3 - np.sqrt(5))
    return _into_unit(np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1))


def _into_unit(places: NDArray[np.floating]) -> Array:
    """Places from 0 to 1, in the middle, with the same scale in both directions."""
    low, high = places.min(0), places.max(0)
    span = float((high - low).max()) or 1.0
    return ((places - (low + high) / 2) / span + 0.5).astype(np.float32)
