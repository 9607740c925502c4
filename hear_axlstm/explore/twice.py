"""A collection -> which of its sounds are there twice, and which are far from all others."""

from __future__ import annotations

import csv
import io
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hear_axlstm.centring import Array, load_pandas
from hear_axlstm.config import require
from hear_axlstm.explore.index import Index
from hear_axlstm.explore.scan import Places, tensors
from hear_axlstm.explore.search import open_index
from hear_axlstm.explore.store import is_index
from hear_axlstm.files.folder import valid_text
from hear_axlstm.files.settings import read_settings
from hear_axlstm.files.similar import Model
from hear_axlstm.progress import printable, progress_bar, several
from hear_axlstm.storage import write_text

ABOVE = 0.95
EACH = 100  # pairs of a sound with earlier ones, at most: a thousand silent files would make half a million
NEIGHBOURS = 20  # of each sound, where a graph finds them
COLUMNS = ["kind", "cosine", "name", "other", "path", "other_path"]
SHOWN = 20  # pairs in a table
ROWS = 1_024  # that are compared with a block at once


@dataclass(frozen=True, eq=False)
class Duplicates:
    """Pairs of sounds whose cosine is above a threshold, and how near the nearest other of each sound is.

    names, paths: of the N sounds. pairs: (P, 2), the places of two sounds, the lower first, and the most similar pair first.
    cosines: (P,), float32. nearest: (N,), the place of the most similar other, -1 where there is none; closeness: (N,),
    float32, its cosine, NaN there. A sound that has more than 100 such earlier ones is paired with the 100 most similar.
    """

    names: Sequence[str]
    paths: Sequence[str]
    above: float
    pairs: Places
    cosines: Array
    nearest: Places
    closeness: Array

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[tuple[str, str, float]]:
        """The two names and the cosine of each pair."""
        for (one, other), cosine in zip(self.pairs.tolist(), self.cosines.tolist(), strict=True):
            yield self.names[one], self.names[other], cosine

    def groups(self) -> list[list[int]]:
        """The places of sounds that pairs hang together, the largest group first: keep one sound of each."""
        root = list(range(len(self.names)))

        def find(place: int) -> int:
            while root[place] != place:
                root[place] = place = root[root[place]]
            return place

        for one, other in self.pairs.tolist():
            first, second = sorted((find(one), find(other)))
            root[second] = first
        found: dict[int, list[int]] = defaultdict(list)
        for place in np.unique(self.pairs).tolist():
            found[find(place)].append(place)
        return sorted(found.values(), key=len, reverse=True)

    def lonely(self, count: int = 10) -> list[int]:
        """The places of the sounds whose nearest other is farthest away, the most distant first."""
        order = np.argsort(self.closeness, kind="stable")  # NaN comes last
        return [place for place in order[:count].tolist() if self.nearest[place] >= 0]

    def rows(self, odd: int = 10) -> Iterator[tuple[str, float, int, int]]:
        """The pairs, as "twice", their cosine and places; then some lonely sounds, as "odd", each with its nearest other."""
        for (one, other), cosine in zip(self.pairs.tolist(), self.cosines.tolist(), strict=True):
            yield "twice", cosine, one, other
        for place in self.lonely(odd):
            yield "odd", float(self.closeness[place]), place, int(self.nearest[place])

    def to_frame(self, odd: int = 10) -> Any:
        """A pandas DataFrame of the same: kind, cosine, name, other, path, other_path. Raises ConfigError without pandas."""
        return load_pandas().DataFrame(self._table(odd), columns=COLUMNS)

    def write_csv(self, path: str | os.PathLike[str], odd: int = 10) -> None:
        """Write the same to a CSV file, which appears whole. Raises OSError."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([kind, f"{cosine:.4f}", *texts] for kind, cosine, *texts in self._table(odd))
        write_text(Path(os.path.expanduser(path)), text.getvalue())

    def _table(self, odd: int) -> list[tuple[Any, ...]]:
        return [
            (kind, cosine, *(valid_text(texts[place]) for texts in (self.names, self.paths) for place in (one, other)))
            for kind, cosine, one, other in self.rows(odd)
        ]

    def __repr__(self) -> str:
        lines = [f"{cosine:.3f}  {printable(one)}  {printable(other)}" for one, other, cosine in islice(self, SHOWN)]
        more = [f"and {several(len(self) - SHOWN, 'more pair')}"] if len(self) > SHOWN else []
        title = f"{several(len(self), 'pair')} of {several(len(self.names), 'sound')} above {self.above}"
        return "\n".join([title, *lines, *more])


def duplicates(collected: Any, above: float = ABOVE, *, model: Model = None, progress: bool | None = None) -> Duplicates:
    """Pairs of sounds in a collection that are nearly the same, and how far each sound is from all others.

    collected: an ``Index``, or the path of one; or what ``Index.build`` takes. above: the cosine of a pair, from -1 to 1.
    model: as in ``Index.build``. All pairs are compared up to 100,000 sounds; a graph finds the 20 nearest of each beyond.

    Raises ConfigError on a bad threshold, and as ``Index.build``.
    """
    is_cosine = isinstance(above, Real) and bool(-1 <= above < 1)
    require(is_cosine, f"above is {above!r}; expected a cosine, from -1 to below 1, such as {ABOVE}")
    index = _index(collected, model, progress)
    find = _all_pairs if index.is_exact else _near_pairs
    pairs, cosines, nearest, closeness = find(index, above, progress)
    order = np.lexsort((pairs[:, 1], pairs[:, 0], -cosines))
    return Duplicates(index.names, index.paths, above, pairs[order], cosines[order], nearest, closeness)


def _index(collected: Any, model: Model, progress: bool | None) -> Index:
    if isinstance(collected, Index):
        return collected
    if isinstance(collected, str | os.PathLike):
        folder = Path(os.path.expanduser(collected))
        if folder.is_dir() and (is_index(folder) or read_settings(folder) is not None):
            return open_index(folder, progress=progress)
    return Index.build(collected, model=model, progress=progress)


Pairs = tuple[Places, Array, Places, Array]  # pairs and their cosines; the nearest other of each sound and its cosine


def _all_pairs(index: Index, above: float, progress: bool | None) -> Pairs:
    """By comparing each sound with all before it, and the cosines of both in one go."""
    vectors = np.concatenate(list(index.segments()))
    nearest, closeness = torch.full((len(vectors),), -1), torch.full((len(vectors),), -torch.inf)
    found = list[Tensor]()
    with progress_bar(total=len(vectors), unit="sound", desc="pairs", shown=progress) as bar:
        for start in range(0, len(vectors), ROWS):
            rows = torch.from_numpy(vectors[start : start + ROWS]).float()
            own, here = torch.arange(start, start + len(rows)), list[Tensor]()
            for first, block in tensors(vectors[: start + len(rows)]):
                others = torch.arange(first, first + len(block))
                cosines = (rows @ block.T).nan_to_num_(-torch.inf)
                cosines[others >= own[:, None]] = -torch.inf
                for dim, mine, theirs in ((1, own, others), (0, others, own)):
                    best, place = cosines.max(dim)
                    is_nearer = best > closeness[mine]
                    closeness[mine[is_nearer]], nearest[mine[is_nearer]] = best[is_nearer], theirs[place[is_nearer]]
                here.append(_strongest(cosines, above, start, first))
            found.append(_most(torch.cat(here)))
            bar.update(len(rows))
    pairs = torch.cat(found)
    missing = closeness.isinf()
    closeness[missing] = torch.nan
    places = pairs[:, :2].long().flip(1).numpy()
    return places, pairs[:, 2].clamp(-1, 1).float().numpy(), nearest.numpy(), closeness.clamp(-1, 1).numpy()


def _strongest(cosines: Tensor, above: float, start: int, first: int) -> Tensor:
    """Place, place of the other and cosine of pairs above the threshold, (P, 3), float64: at most EACH for each row."""
    best = cosines.topk(min(EACH, cosines.shape[1]), dim=1) if int((cosines > above).sum(1).max()) > EACH else None
    values = cosines if best is None else best.values
    row, column = (values > above).nonzero(as_tuple=True)
    other = column if best is None else best.indices[row, column]
    return torch.stack([row.double() + start, other.double() + first, values[row, column].double()], 1)


def _most(pairs: Tensor) -> Tensor:
    """The pairs, of each first place the EACH most similar."""
    pairs = pairs[pairs[:, 2].argsort(descending=True, stable=True)]
    pairs = pairs[pairs[:, 0].argsort(stable=True)]
    _, counts = pairs[:, 0].unique_consecutive(return_counts=True)
    rank = torch.arange(len(pairs)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    return pairs[rank < EACH]


def _near_pairs(index: Index, above: float, progress: bool | None) -> Pairs:
    """By the nearest of each sound, as the graph finds them."""
    found = index.neighbours(NEIGHBOURS, progress=progress)
    one, rank = (found.cosines > above).nonzero()
    both = np.sort(np.stack([one, found.indices[one, rank]], 1), axis=1)
    pairs, first = np.unique(both, axis=0, return_index=True)
    return pairs, found.cosines[one, rank][first], found.indices[:, 0], found.cosines[:, 0]
