"""What ``embed`` made -> the sounds that a map shows: all that have an embedding or, of very many, an even sample."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hear_axlstm.centring import Array, Centring
from hear_axlstm.config import require
from hear_axlstm.errors import ConfigError
from hear_axlstm.files.folder import folder_of
from hear_axlstm.files.load import Block, load_embeddings, read_blocks
from hear_axlstm.files.result import Embedded
from hear_axlstm.files.settings import load_pyarrow, parts, read_settings
from hear_axlstm.progress import several

ROWS = 4_096  # of a result in memory that are looked at together


@dataclass(frozen=True)
class Sample:
    """N sounds of a collection, by name.

    names, paths, folders: N each; a path is empty for a sound that was in memory. seconds: (N,), NaN where unknown. matrix:
    (N, D), float32, finite. centring: of the weights; None where they have none. found: sounds of the collection that have
    an embedding. left_out: those that failed, or whose embedding is not finite.
    """

    names: list[str]
    paths: list[str]
    folders: list[str]
    seconds: NDArray[np.float64]
    matrix: Array
    centring: Centring | None
    found: int
    left_out: int


def sample_of(source: str | os.PathLike[str] | Embedded, most: int) -> Sample:
    """The sounds of a folder that ``embed`` wrote, of a file that ``Embedded.save`` wrote, or of a result.

    Of more than ``most`` it takes those whose names have the lowest hashes: as good as drawn by lot, and the same each time.
    Of a folder it holds no more than those in memory.

    Raises OutputError where there is no such folder or file, or it cannot be read; ConfigError where embeddings are of many
    steps or layers, or none is left.
    """
    if isinstance(source, Embedded):
        blocks, failed, facts, where = _of_result(source), len(source.failures), source.centring, "the result"
    elif not (path := Path(os.path.expanduser(source))).is_dir():
        return sample_of(load_embeddings(path), most)
    else:
        settings = read_settings(path)
        blocks, failed, where = read_blocks(path), _failed_rows(path), str(path)
        facts = settings["centring"] if settings else None
    names, paths, folders, seconds, matrix, hashes = list[str](), list[str](), list[str](), np.zeros(0), None, np.zeros(0)
    found = 0
    for block in blocks:
        vectors = _of_one_layer(block.matrix)
        there = np.isfinite(vectors).all(1)
        failed += int((~there).sum())
        found += int(there.sum())
        fresh = _hashes(block.names)
        if len(names) == most:
            there &= fresh < hashes.max()
        taken = np.flatnonzero(there)
        vectors = vectors[taken] if matrix is None else np.concatenate([matrix, vectors[taken]])
        names += [block.names[place] for place in taken]
        paths += [block.paths[place] for place in taken]
        folders += [block.folders[place] for place in taken]
        seconds, hashes = np.append(seconds, block.seconds[taken]), np.append(hashes, fresh[taken])
        lowest = np.sort(np.argsort(hashes, kind="stable")[:most])
        names, paths, folders = ([of[place] for place in lowest] for of in (names, paths, folders))
        seconds, hashes, matrix = seconds[lowest], hashes[lowest], vectors[lowest]
    if matrix is None or not names:
        left = f"; {several(failed, 'sound')} in it failed" if failed else ""
        raise ConfigError(f"{where} has no embedding to show{left}; expected sounds that were embedded")
    order = sorted(range(len(names)), key=lambda place: names[place].split("/"))
    names, paths, folders = ([of[place] for place in order] for of in (names, paths, folders))
    centring = None if facts is None else Centring.from_facts(facts)
    return Sample(names, paths, folders, seconds[order], matrix[order], centring, found, failed)


def _hashes(names: Iterable[str]) -> NDArray[np.float64]:
    """A number from 0 to 1 for each name, as if drawn by lot."""
    encoded = (name.encode("utf-8", "surrogatepass") for name in names)
    return np.array([int.from_bytes(hashlib.blake2b(one, digest_size=6).digest()) for one in encoded]) / 2.0**48


def _of_result(result: Embedded) -> Iterator[Block]:
    """The sounds of a result that have an embedding, few at a time."""
    require(not result.timestamps, "embeddings with timestamps make no map: embed without timestamps")
    places = np.flatnonzero(result.ok)
    for start in range(0, len(places), ROWS):
        some = result[places[start : start + ROWS]]
        folders = list(map(folder_of, some.names, some.paths))
        yield Block(
            "", some.names, some.paths, folders, some.durations, np.stack([one for _, one in some if one is not None])
        )


def _of_one_layer(matrix: Array) -> Array:
    """Embeddings (n, D) of (n, D) or (n, 1, D). Raises ConfigError where there are several layers."""
    layers = 1 if matrix.ndim == 2 else matrix.shape[1]
    require(layers == 1, f"embeddings of {layers} layers make no map: embed with one layer")
    return matrix.reshape(len(matrix), -1)


def _failed_rows(folder: Path) -> int:
    """How many sounds a parquet folder records as failed."""
    counted = 0
    for part in parts(folder):
        with load_pyarrow()[1].ParquetFile(part) as file:
            if "error" in file.schema_arrow.names:
                counted += file.read(["error"])["error"].drop_null().length()
    return counted


def column_of(folder: Path, column: str, names: Iterable[str]) -> dict[str, Any] | None:
    """What the parts of a parquet folder have in a column for these names; None where none has the column."""
    wanted, values = set(names), dict[str, Any]()
    has_it = False
    for part in parts(folder):
        with load_pyarrow()[1].ParquetFile(part) as file:
            if column in file.schema_arrow.names:
                has_it = True
                table = file.read(["name", column])
                try:
                    pairs = zip(table["name"].to_pylist(), table[column].to_pylist(), strict=True)
                except (OverflowError, ValueError) as error:  # a date after the year 9999
                    raise ConfigError(f"{part}: its column {column!r} cannot be read ({error}); choose another") from error
                values |= {name: value for name, value in pairs if name in wanted}
    return values if has_it else None
