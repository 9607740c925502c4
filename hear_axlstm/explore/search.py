"""A folder that ``embed`` wrote -> its index, which is kept beside it and made anew when the folder has changed."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from contextlib import suppress
from pathlib import Path

from hear_axlstm.errors import OutputError
from hear_axlstm.explore.collection import collection
from hear_axlstm.explore.index import Index
from hear_axlstm.explore.store import is_index, said
from hear_axlstm.files.settings import CENTRING, HEADER, LEDGER, parts, read_settings

SUFFIX = ".index"

logger = logging.getLogger(__name__)


def open_index(place: str | os.PathLike[str], *, progress: bool | None = None) -> Index:
    """The index of a folder that ``embed`` wrote, or a saved one.

    place: the folder, or the index. That of a folder is kept as FOLDER.index beside it, and read from there as long as the
    folder's files are the same by name, size and time; so a file that was changed by hand within a folder of npy files does
    not show. Where FOLDER.index cannot be written, or is something else, the index is in memory alone, and the log says so.
    progress: whether to show a bar while a large one is made; left out: in terminals and notebooks.

    Raises OutputError when there is neither, or it is damaged; ConfigError as ``Index.build``.
    """
    folder = Path(os.path.abspath(os.path.expanduser(place)))
    if is_index(folder):
        return Index.load(folder)
    if not folder.is_dir() or read_settings(folder) is None:
        found = "no such folder" if not folder.exists() else "no embeddings in it"
        raise OutputError(f"{place}: {found}; expected a folder that hear-axlstm embed wrote, or an index that was saved")
    kept, state = folder.with_name(folder.name + SUFFIX), _state(folder)
    if (index := _kept(kept, state, progress)) is not None:
        return index
    given = collection(folder)
    if _is_anothers(kept):
        why = f"{kept} is an index that somebody has saved there"
    else:
        try:
            return Index.written(given, kept, {"folder_state": state}, progress=progress)
        except OutputError as error:
            why = str(error)
    logger.warning("the index is not kept, and made anew each time: %s", why)
    return Index.build(folder, progress=progress)


def _kept(kept: Path, state: str, progress: bool | None) -> Index | None:
    """The index that was kept of a folder in this state; None where there is none, or it is damaged."""
    if _state_of(kept) != state:
        return None
    try:
        return Index.kept(kept, progress=progress)
    except OutputError:
        return None


def _is_anothers(kept: Path) -> bool:
    """Whether an index was saved here that is not kept for a folder, and must stay, damaged or not."""
    return is_index(kept) and _state_of(kept) is None


def _state_of(kept: Path) -> str | None:
    """The state of the folder that an index is kept for; None where it is kept for none."""
    facts = said(kept).get("facts")
    return facts.get("folder_state") if isinstance(facts, dict) else None


def _state(folder: Path) -> str:
    """What changes when embeddings are written to the folder or removed: the names, sizes and times of its records."""
    found = []
    for path in [*parts(folder), folder / HEADER, folder / LEDGER, folder / CENTRING]:
        with suppress(FileNotFoundError):  # also where another run has just removed it
            status = path.stat()
            found.append((path.name, status.st_size, status.st_mtime_ns))
    return hashlib.sha256(json.dumps([os.fspath(folder), *found]).encode()).hexdigest()
