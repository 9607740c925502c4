"""Saved embeddings -> a result: of a file that ``Embedded.save`` wrote, or of a folder that ``embed`` wrote."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from hear_axlstm.config import config_from_dict
from hear_axlstm.errors import ConfigError, OutputError
from hear_axlstm.files.folder import CENTRING, HEADER, Stored, is_gone
from hear_axlstm.files.npy import read_npy
from hear_axlstm.files.parquet import read_parquet
from hear_axlstm.files.result import Embedded, load_saved
from hear_axlstm.progress import first_of, several
from hear_axlstm.storage import read_json
from hear_axlstm.weights.names import name_of

READERS: dict[str, Callable[[Path, bool], Iterator[Stored]]] = {"npy": read_npy, "parquet": read_parquet}
ADVICE = "embed the sounds into another folder"
SHOWN = 3  # names of embeddings whose sounds are gone

logger = logging.getLogger(__name__)


def load_embeddings(path: str | os.PathLike[str]) -> Embedded:
    """The embeddings in a file or folder, all of them in memory, as ``embed`` gives them.

    path: a file that ``result.save`` wrote, or a folder that ``embed(..., out=folder)`` or ``hear-axlstm embed`` wrote, of
    either format. What a folder holds is ordered by name, folder by folder, whatever the order in which it was written.
    Where some of its sounds are not there any more, ``gone`` has their names, and the log gets a warning.

    Raises OutputError when there is no such file or folder, when it holds something else, or is damaged.
    """
    source = Path(os.path.expanduser(path))
    if not source.is_dir():
        return load_saved(source)
    if not (source / HEADER).is_file():
        raise OutputError(
            f"{source} is a folder without {HEADER}; expected one that hear-axlstm embed wrote, or a file .npz"
        )
    settings = read_json(source / HEADER, OutputError, ADVICE)
    try:
        read, timestamps = READERS[settings["format"]], settings["embeddings"] == "timestamp"
        size = config_from_dict(settings["architecture"]).embedding_size
        weights = name_of(settings["weights_sha256"], settings["architecture"])
    except (LookupError, TypeError, ConfigError) as error:
        raise OutputError(f"{source / HEADER} does not say how the embeddings are kept; {ADVICE}") from error
    try:
        stored = sorted(read(source, timestamps), key=lambda one: one.name.split("/"))
    except Exception as error:  # numpy and pyarrow have many words for damage
        raise OutputError(f"{source} cannot be read ({error}); embed again: what is damaged is made anew") from error
    durations = np.array([one.seconds for one in stored], dtype=np.float64)
    centring = read_json(source / CENTRING, OutputError, ADVICE) if (source / CENTRING).is_file() else None
    return Embedded(
        names=[one.name for one in stored],
        embeddings=[one.embedding for one in stored],
        timestamps=[one.timestamps for one in stored] if timestamps else [],
        paths=[one.path for one in stored],
        durations=durations,
        gone=_gone(stored, source),
        size=size,
        audio_seconds=float(np.nansum(durations)),
        weights=weights,
        centring=centring,
    )


def _gone(stored: list[Stored], folder: Path) -> list[str]:
    """The names of the sounds that are not there any more, of which the log gets a warning.

    Where none is there, as on another machine than that where they were embedded, that says nothing.
    """
    gone = [one.name for one in stored if is_gone(one.path)]
    if not gone or len(gone) == len(stored):
        return []
    count = f"{len(gone):,} of {several(len(stored), 'embedding')}"
    advice = "to remove them, embed again with prune=True, or hear-axlstm embed --prune"
    logger.warning("%s: the sounds of %s are not there any more (%s); %s", folder, count, first_of(gone, SHOWN), advice)
    return gone
