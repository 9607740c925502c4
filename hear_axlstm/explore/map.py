"""A collection -> a map of its sounds: where each lies, what it is coloured by, and its neighbours; as one HTML page."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hear_axlstm.centring import Array, nearest, settled
from hear_axlstm.config import require
from hear_axlstm.errors import ConfigError
from hear_axlstm.explore import layout
from hear_axlstm.explore.colours import Colouring, colour
from hear_axlstm.explore.columns import joined, values_of
from hear_axlstm.explore.page import to_page, writable
from hear_axlstm.explore.sample import sample_of
from hear_axlstm.files.result import Embedded
from hear_axlstm.progress import several
from hear_axlstm.storage import write_text

MOST = 20_000  # sounds on a map: more would be a large page, and dots on dots
NEIGHBOURS = 8  # that are shown of each
SUFFIXES = (".html", ".htm")


@dataclass(frozen=True, eq=False)
class SoundMap:
    """A map of N sounds.

    names, paths, folders: N each. seconds: (N,), NaN where unknown. places: (N, 2), float32, from 0 to 1. neighbours:
    (N, k), the numbers of the most similar others by their embeddings, the most similar first. cosines: (N, k), theirs.
    kept: the share of neighbours that are neighbours on the map as well. colouring: what they are coloured by. centred_on:
    what the embeddings were centred on. notes: what somebody who looks at it must know, in sentences.
    """

    names: list[str]
    paths: list[str]
    folders: list[str]
    seconds: NDArray[np.float64]
    places: Array
    neighbours: NDArray[np.int64]
    cosines: Array
    kept: float
    colouring: Colouring
    centred_on: str
    notes: list[str]

    def to_html(self) -> str:
        """The map as one HTML page that needs nothing else, in one text. Raises ConfigError without jinja2."""
        return to_page(self)

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return "\n".join([f"SoundMap: {several(len(self), 'sound')}, coloured by {self.colouring.column}", *self.notes])


def draw_map(
    embeddings: str | os.PathLike[str] | Embedded,
    out: str | os.PathLike[str] | None = None,
    *,
    color: str | None = None,
    table: str | os.PathLike[str] | None = None,
) -> SoundMap:
    """A map of a collection, on which sounds that are alike lie together.

    embeddings: a folder that ``embed`` wrote, a file that ``Embedded.save`` wrote, or a result of ``embed``. Sounds without
    an embedding are left out. Of more than 20,000, as many are shown, an even sample.
    out: an HTML file to write, which shows the map, plays the sounds and needs nothing else.
    color: the column that they are coloured by: "folder", the default, "seconds", or one that the parquet parts or the table
    have.
    table: a CSV or parquet file with a row for each sound, which says in its column name or path which it is. Its column
    "label", or its only other one, is the default color.

    Raises ConfigError where there is no such column, no embedding, no scikit-learn or jinja2, or where the weights have no
    centring and there are fewer than 8 sounds; OutputError where the embeddings cannot be read; OSError where the page
    cannot be written.
    """
    if not isinstance(embeddings, Embedded | str | os.PathLike):
        found = f"embeddings is of type {type(embeddings).__name__}"
        raise ConfigError(f"{found}; expected a folder that embed wrote, a file that was saved, or a result of embed")
    folder = None if isinstance(embeddings, Embedded) else Path(os.path.expanduser(embeddings))
    target = None if out is None else _checked(Path(os.path.expanduser(out)), folder)
    sample = sample_of(embeddings, MOST)
    count = len(sample.names)
    column, values = (None, None) if table is None else joined(sample, table, color)
    if values is None or column is None:
        column = color or "folder"
        values = values_of(sample, folder if folder is not None and folder.is_dir() else None, column)
    colouring = colour(column, values)
    centring = settled(sample.centring, [sample.matrix])
    directed = centring.directed(sample.matrix)
    equal = layout.are_equal(sample.matrix) or layout.are_equal(directed)
    places = layout.spiral(count) if equal else layout.lay_out(directed)
    found = nearest(sample.matrix, sample.names, centring, NEIGHBOURS)
    notes = []
    if sample.found > count:
        notes.append(f"{count:,} of {sample.found:,} sounds are shown, an even sample.")
    if sample.left_out:
        notes.append(f"Left out: {several(sample.left_out, 'sound')} without an embedding.")
    if count > 1 and equal:
        notes.append("All embeddings are equal: the places say nothing.")
    if table is not None and (missing := sum(value is None for value in values)):
        notes.append(f"{several(missing, 'sound')} {'has' if missing == 1 else 'have'} no {column} in {table}.")
    drawn = SoundMap(
        sample.names, sample.paths, sample.folders, sample.seconds, places, found.indices, found.cosines,
        layout.kept(places, found.indices), colouring, centring.source, notes,
    )  # fmt: skip
    if target is not None:
        write_text(target, drawn.to_html())
    return drawn


def _checked(target: Path, folder: Path | None) -> Path:
    """The page's path. Raises ConfigError where it is none for a page."""
    if target.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{target} does not end in .html, as the page will; call it {target.name}.html")
    within = folder is not None and folder.is_dir() and target.resolve().is_relative_to(folder.resolve())
    require(not within, f"{target} is in the folder of embeddings, which holds nothing else; choose another place")
    return writable(target)
