"""Embeddings -> cosines that mean something: raw ones all point the same way, so what all sounds share is removed first.

``Centring`` holds the numbers for it. Those of the bundled weights come from the sound that they were trained on, and are in
the header of their file. Without such numbers, embeddings are centred on their own mean, if there are enough of them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hear_axlstm.config import require
from hear_axlstm.embedder import Embedder
from hear_axlstm.errors import ConfigError
from hear_axlstm.progress import printable, several
from hear_axlstm.weights.find import find_weights
from hear_axlstm.weights.load import read_header
from hear_axlstm.weights.save import valid_centring, weights_digest

logger = logging.getLogger(__name__)

Array = NDArray[np.float32]
LEVELLED = 10  # directions that are brought down: more of them gained little on recordings, and took more room
DECIMALS = 3  # of the numbers in a header: more made no difference
ENOUGH = 8  # sounds whose own mean says what sounds share
ROWS = 1024  # of cosines that are in memory at once when neighbours are sought
NO_CENTRING = "these embeddings are of weights, a layout or a layer without a centring"
TRAP = "raw embeddings of any two sounds have a cosine near 0.9"


@dataclass(frozen=True, eq=False)
class Centring:
    """What is done to embeddings before their cosines are taken.

    mean: (D,), which is subtracted. directions: (K, D), in which sounds vary most, orthogonal and of length 1. gains: (K,),
    from 0 to 1, the share of each direction that is left. source: what the numbers were measured on, in a phrase.
    """

    mean: Array
    directions: Array
    gains: Array
    source: str

    @classmethod
    def measured(cls, embeddings: Array, source: str) -> Self:
        """The centring by a sample of sounds, (N, D), whose ten strongest directions are brought down to the eleventh.

        Raises ConfigError on fewer than 12 embeddings.
        """
        require(len(embeddings) > LEVELLED + 1, f"there are {len(embeddings)} embeddings; expected {LEVELLED + 2} or more")
        mean = embeddings.mean(0, dtype=np.float64)
        _, strengths, directions = np.linalg.svd(embeddings - mean, full_matrices=False)
        gains = strengths[LEVELLED] / strengths[:LEVELLED]
        return cls(_rounded(mean), _rounded(directions[:LEVELLED]), _rounded(gains), source)

    @classmethod
    def own(cls, parts: Iterable[Array]) -> Self:
        """The centring on the mean of embeddings alone, which come in parts, (n, D) each. Rows of NaN do not count.

        Raises ConfigError when there are fewer than 8 others.
        """
        count, total = 0, np.zeros(0)
        for part in parts:
            there = part[np.isfinite(part).all(1)]
            count, total = count + len(there), there.sum(0, dtype=np.float64) + (total if count else 0)
        few = f"{several(count, 'sound')} {'is' if count == 1 else 'are'} too few to centre on their mean"
        trap = f"{NO_CENTRING}, and {few}; {TRAP}, which says nothing"
        advice = f"give {ENOUGH} or more, or use weights with a centring in their own layout, such as the bundled ones"
        require(count >= ENOUGH, f"{trap}: {advice}")
        nothing = np.zeros((0, len(total)), np.float32), np.zeros(0, np.float32)
        return cls((total / count).astype(np.float32), *nothing, f"the mean of these {count} sounds")

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        """The centring that a weights file or a saved result holds as plain lists. Raises ConfigError on what is none."""
        try:
            mean, directions, gains = (np.array(facts[key], np.float32) for key in ("mean", "directions", "gains"))
            return cls(mean, directions.reshape(len(gains), len(mean)), gains, str(facts["source"]))
        except (LookupError, TypeError, ValueError) as error:
            raise ConfigError(f"this is no centring ({error}); embed the sounds again") from error

    def facts(self, model: Embedder) -> dict[str, Any]:
        """The same as plain lists, for the header of a file that holds the weights of ``model``."""
        numbers = {"mean": self.mean, "directions": self.directions, "gains": self.gains}
        plain = {name: np.round(array.astype(np.float64), DECIMALS).tolist() for name, array in numbers.items()}
        weights = weights_digest(model.encoder.config, model.encoder.state_dict())
        return {**plain, "source": self.source, "weights": weights}

    def apply(self, embeddings: Array) -> Array:
        """Embeddings, centred. Shape: (N, D) -> (N, D), float32; their cosines are the similarities.

        Raises ConfigError on embeddings of another size.
        """
        found, expected = np.shape(embeddings), len(self.mean)
        fits = len(found) == 2 and found[1] == expected
        require(fits, f"embeddings have shape {found}; expected (sounds, {expected}), as these weights give them")
        centred = embeddings - self.mean
        return (centred - (centred @ self.directions.T * (1 - self.gains)) @ self.directions).astype(np.float32)

    def directed(self, embeddings: Array) -> Array:
        """Embeddings, centred, with length 1; 0 where nothing is left. Shape: (N, D) -> (N, D)."""
        centred = self.apply(embeddings)
        return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), np.finfo(np.float32).tiny)

    def equals(self, other: Centring) -> bool:
        """Whether both do the same to embeddings."""
        pairs = ((self.mean, other.mean), (self.directions, other.directions), (self.gains, other.gains))
        return all(np.array_equal(one, two) for one, two in pairs)


def _rounded(numbers: NDArray[np.floating[Any]]) -> Array:
    return np.round(numbers, DECIMALS).astype(np.float32)


def centring_of(model: Embedder) -> Centring | None:
    """The centring of a model's scene embeddings, of the last layer.

    None when the file of its weights has none for its layout, or when the weights have changed since they were loaded.
    """
    facts = valid_centring(model.encoder, model.layout)
    return None if facts is None else Centring.from_facts(facts)


def centring_named(model: str) -> Centring | None:
    """The centring in the file of the weights that ``load_model`` finds under this name; empty: the bundled default.

    Raises WeightsError when there are no such weights.
    """
    facts = read_header(find_weights(model)).get("centring")
    return None if facts is None else Centring.from_facts(facts)


def settled(centring: Centring | None, parts: Iterable[Array]) -> Centring:
    """The centring, or that on the mean of embeddings, (n, D) a part, which is said once.

    Raises ConfigError when they are fewer than 8.
    """
    if centring is None:
        centring = Centring.own(parts)
        _say_own_mean()
    return centring


@cache
def _say_own_mean() -> None:
    logger.warning("%s: what is compared is centred on its own mean", NO_CENTRING)


def cosines(a: Array, b: Array, centring: Centring) -> Array:
    """Cosines of embeddings, centred; NaN for rows of NaN. Shape: (N, D), (M, D) -> (N, M), float32."""
    return np.clip(centring.directed(a) @ centring.directed(b).T, -1, 1)


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The most similar other sounds of each of N sounds, the most similar first.

    names: of the N sounds. indices: (N, k), the places of the neighbours among them, or in the collection that was searched;
    -1 where there is none, as for a sound without an embedding. cosines: (N, k), float32, NaN there. centred_on: what the
    embeddings were centred on. collection: the names of the sounds that were searched; left out, ``names``.
    """

    names: Sequence[str]
    indices: NDArray[np.int64]
    cosines: Array
    centred_on: str
    collection: Sequence[str] | None = None

    def __iter__(self) -> Iterator[tuple[str, list[tuple[str, float]]]]:
        """Each sound's name, and the names and cosines of its neighbours."""
        others = self.names if self.collection is None else self.collection
        for name, places, values in zip(self.names, self.indices, self.cosines, strict=True):
            found = zip(places.tolist(), values.tolist(), strict=True)
            yield name, [(others[place], value) for place, value in found if place >= 0]

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        shown = 20
        width = max((len(printable(name)) for name in self.names[:shown]), default=0)
        rows = []
        for name, found in islice(self, shown):
            texts = [f"{printable(other)} {value:.2f}" for other, value in found]
            rows.append(f"{printable(name):{width}}  {', '.join(texts) or 'no neighbours'}")
        more = [f"and {several(len(self) - shown, 'more sound')}"] if len(self) > shown else []
        return "\n".join([*rows, *more, f"cosines, centred on {self.centred_on}"])

    def to_frame(self) -> Any:
        """A pandas DataFrame with the columns name, rank (1 the most similar), neighbour and cosine.

        Raises ConfigError when pandas is not installed.
        """
        columns = ["name", "rank", "neighbour", "cosine"]
        rows = [(name, 1 + rank, *pair) for name, found in self for rank, pair in enumerate(found)]
        return load_pandas().DataFrame(rows, columns=columns)


def load_pandas() -> Any:
    """The package pandas, in whose tables results are given. Raises ConfigError when it is not installed."""
    try:
        import pandas
    except ImportError as error:
        raise ConfigError("to_frame needs pandas: pip install pandas") from error
    return pandas


def require_count(k: Any) -> None:
    """Raise ConfigError unless this is a number of neighbours."""
    is_count = isinstance(k, int | np.integer) and not isinstance(k, bool) and bool(k >= 1)
    require(is_count, f"k is {k!r}; expected a number of neighbours, 1 or more")


def nearest(embeddings: Array, names: Sequence[str], centring: Centring, k: int) -> Neighbours:
    """The k most similar others of each embedding, or all others where they are fewer. Shape: (N, D).

    A row of NaN has no neighbours and is nobody's. Raises ConfigError unless k is 1 or more.
    """
    require_count(k)
    directed = centring.directed(embeddings)
    there = np.asarray(np.isfinite(directed).all(axis=1))
    k = min(k, max(0, int(there.sum()) - 1))
    indices = np.full((len(directed), k), -1)
    values = np.full((len(directed), k), np.nan, np.float32)
    for start in range(0, len(directed), ROWS):
        rows = np.arange(start, min(start + ROWS, len(directed)))
        found = np.clip(directed[rows] @ directed.T, -1, 1)
        found[:, ~there] = -np.inf
        found[rows - start, rows] = -np.inf
        order = np.sort(np.argpartition(-found, k, axis=1)[:, :k], axis=1)  # in whole they would take long to sort
        order = np.take_along_axis(order, np.argsort(-np.take_along_axis(found, order, 1), axis=1, kind="stable"), 1)
        ours = there[rows]
        indices[rows[ours]] = order[ours]
        values[rows[ours]] = np.take_along_axis(found, order, 1)[ours]
    return Neighbours(list(names), indices, values, centring.source)
