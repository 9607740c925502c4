"""Saved embeddings -> a result: of a file that ``Embedded.save`` wrote, or of a folder that ``embed`` wrote."""

from __future__ import annotations

import logging
import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hear_axlstm.config import config_from_dict
from hear_axlstm.errors import ConfigError, OutputError
from hear_axlstm.files.folder import Stored, folder_of, is_gone
from hear_axlstm.files.npy import read_npy
from hear_axlstm.files.outcomes import Array
from hear_axlstm.files.result import Embedded, Failures, load_saved
from hear_axlstm.files.rows import vectors_of
from hear_axlstm.files.settings import ADVICE, LEDGER, load_pyarrow, parts, read_settings
from hear_axlstm.progress import first_of, several
from hear_axlstm.weights.names import name_of

BLOCK_ROWS = 4_096  # at most, of those that are read at once
COLUMNS = ["name", "path", "folder", "seconds", "embedding"]  # of a parquet part that blocks have
SHOWN = 3  # names of embeddings whose sounds are gone

logger = logging.getLogger(__name__)


def load_embeddings(path: str | os.PathLike[str]) -> Embedded:
    """The embeddings in a file or folder, all of them in memory, as ``embed`` gives them.

    path: a file that ``result.save`` wrote, or a folder that ``embed(..., out=folder)`` or ``hear-axlstm embed`` wrote, of
    either format. What a folder holds is ordered by name, folder by folder, whatever the order in which it was written.
    Where some of its sounds are not there any more, ``gone`` has their names, and the log gets a warning. Of parquet,
    ``failures`` has those that failed.

    Raises OutputError when there is no such file or folder, when it holds something else, or is damaged.
    """
    source = Path(os.path.expanduser(path))
    if not source.is_dir():
        return load_saved(source)
    settings = _settings(source)
    timestamps = settings["embeddings"] == "timestamp"
    try:
        stored = sorted(READERS[settings["format"]](source, timestamps), key=lambda one: one.name.split("/"))
    except Exception as error:  # numpy and pyarrow have many words for damage
        raise OutputError(f"{source} cannot be read ({error}); embed again: what is damaged is made anew") from error
    durations = np.array([one.seconds for one in stored], dtype=np.float64)
    ok = np.array([one.embedding is not None for one in stored], dtype=bool)
    return Embedded(
        names=[one.name for one in stored],
        embeddings=[one.embedding for one in stored],
        timestamps=[one.timestamps for one in stored] if timestamps else [],
        paths=[one.path for one in stored],
        durations=durations,
        failures=Failures({one.name: one.failure for one in stored if one.embedding is None}),
        gone=_gone(stored, source),
        size=settings["size"],
        audio_seconds=float(np.nansum(durations[ok])),
        weights=settings["weights"],
        centring=settings["centring"],
    )


def _settings(folder: Path) -> dict[str, Any]:
    """What a folder's embeddings were made with, with their "size" and the name of the "weights". Raises OutputError."""
    settings = read_settings(folder)
    if settings is None:
        raise OutputError(f"{folder} holds no embeddings; expected a folder that hear-axlstm embed wrote, or a file .npz")
    try:
        size = config_from_dict(settings["architecture"]).embedding_size
        weights = name_of(settings["weights_sha256"], settings["architecture"])
        if settings["format"] not in READERS or settings["embeddings"] not in ("scene", "timestamp"):
            raise LookupError
    except (LookupError, TypeError, ConfigError) as error:
        raise OutputError(f"{folder} does not say how its embeddings are kept; {ADVICE}") from error
    return {**settings, "size": size, "weights": weights}


def _gone(stored: list[Stored], folder: Path) -> list[str]:
    """The names of the sounds that are not there any more, of which the log gets a warning.

    Where none is there, as on another machine than that where they were embedded, that says nothing.
    """
    paths = {one.name: one.path for one in stored if one.embedding is not None}
    gone = [name for name, path in paths.items() if is_gone(path)]
    if not gone or len(gone) == len(paths):
        return []
    count = f"{len(gone):,} of {several(len(paths), 'embedding')}"
    advice = "to remove them, embed again with prune=True, or hear-axlstm embed --prune"
    logger.warning("%s: the sounds of %s are not there any more (%s); %s", folder, count, first_of(gone, SHOWN), advice)
    return gone


@dataclass(frozen=True)
class Block:
    """Scene embeddings of n sounds.

    part: the name of the file that they are in, or that lists them. names, paths, folders: n each. seconds: (n,), NaN where
    unknown. matrix: (n, D), float32, (n, layers, D) where layers were asked for.
    """

    part: str
    names: list[str]
    paths: list[str]
    folders: list[str]
    seconds: NDArray[np.float64]
    matrix: Array


def read_blocks(folder: Path) -> Iterator[Block]:
    """The scene embeddings in a folder that ``embed`` wrote, of either format, few at a time, part by part.

    Within a part they are ordered by name. Sounds that failed are left out.

    Raises OutputError where the folder holds something else, or timestamp embeddings, or is damaged.
    """
    settings = _settings(folder)
    if settings["embeddings"] != "scene":
        raise OutputError(f"{folder} holds an embedding every 40 ms; expected one a sound: embed without timestamps")
    try:
        yield from BLOCKS[settings["format"]](folder)
    except OutputError:
        raise
    except Exception as error:  # numpy and pyarrow have many words for damage
        raise OutputError(f"{folder} cannot be read ({error}); embed again: what is damaged is made anew") from error


def _parquet_blocks(folder: Path) -> Iterator[Block]:
    _, parquet = load_pyarrow()
    for part in parts(folder):
        with parquet.ParquetFile(part) as file:
            for batch in file.iter_batches(BLOCK_ROWS, columns=COLUMNS):
                there = batch.filter(batch["embedding"].is_valid())
                if len(there):
                    names, paths, folders = (there[name].to_pylist() for name in ("name", "path", "folder"))
                    seconds = there["seconds"].to_numpy(zero_copy_only=False).astype(np.float64)
                    yield Block(part.name, names, paths, folders, seconds, vectors_of(there["embedding"]))


def _npy_blocks(folder: Path) -> Iterator[Block]:
    stored = read_npy(folder, timestamps=False)
    while some := list(islice(stored, BLOCK_ROWS)):
        names, paths = [one.name for one in some], [one.path for one in some]
        seconds = np.array([one.seconds for one in some], np.float64)
        folders = [folder_of(one.name, one.path) for one in some]
        matrix = [one.embedding for one in some if one.embedding is not None]
        yield Block(LEDGER, names, paths, folders, seconds, np.stack(matrix))


def read_parquet(folder: Path, timestamps: bool) -> Iterator[Stored]:
    """What the parts in a folder hold, failures included. Raises OutputError without pyarrow, and what that raises."""
    _, parquet = load_pyarrow()
    for part in parts(folder):
        with parquet.ParquetFile(part) as file:
            table = file.read()
        kept = {name: table[name].to_pylist() for name in table.column_names if name != "embedding"}
        rows: dict[str, list[int]] = defaultdict(list)
        for row, name in enumerate(kept["name"]):
            rows[name].append(row)
        whole = table["embedding"].is_valid().to_numpy()
        vectors, place = vectors_of(table["embedding"].combine_chunks()), np.cumsum(whole) - 1
        for name, own in rows.items():
            path, seconds = kept["path"][own[0]], kept["seconds"][own[0]]
            stored = Stored(name, path, math.nan if seconds is None else seconds, None)
            if not whole[own[0]]:
                stored.failure = kept["error"][own[0]]
            elif timestamps:
                stored.embedding = np.moveaxis(vectors[place[own]], 0, -2)
                stored.timestamps = np.array([kept["timestamp_ms"][row] for row in own], np.float32)
            else:
                stored.embedding = vectors[place[own[0]]]
            yield stored


READERS: dict[str, Callable[[Path, bool], Iterator[Stored]]] = {"npy": read_npy, "parquet": read_parquet}
BLOCKS = {"npy": _npy_blocks, "parquet": _parquet_blocks}
