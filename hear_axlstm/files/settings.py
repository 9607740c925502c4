"""What the embeddings in a folder were made with: in a file beside npy files, in each part of a parquet data set itself."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hear_axlstm.errors import OutputError
from hear_axlstm.files.folder import LOCK
from hear_axlstm.storage import (
    changed,
    changed_options,
    check_settings,
    claim_folder,
    found,
    other_weights,
    read_json,
    write_text,
)

# Beside npy files; readers of data sets pass over them.
HEADER, LEDGER, CENTRING = "_embed.json", "_embed.jsonl", "_centring.json"
PARTS = "embeddings-*.parquet"
KEY = "hear_axlstm"  # of a part's metadata
OURS = (
    "embed.json",  # of earlier versions, which did not record what their embeddings are of
    LEDGER,
    CENTRING,
    "*.embedding.npy",
    "*.timestamps.json",
    PARTS,
    "_embeddings-*.damaged",  # of earlier versions
)
WORDS = {  # for settings that are others than those a folder was begun with
    **changed_options("layers", "layout", "precision", "format"),
    "pad_short": changed("--pad"),
    "weights_sha256": other_weights,
    "architecture": lambda *_: "their architecture was another",
    "embeddings": lambda was, now: f"each embedding was of a {was} and is of a {now} now (--timestamps)",
    "columns": lambda *_: "the columns of tables were others",
}
ADVICE = "embed the sounds into another folder"
ANEW = "choose another folder, or start over in this one (--overwrite)"


def read_settings(folder: Path) -> dict[str, Any] | None:
    """What the embeddings in a folder were made with, and "centring", what similarity subtracts, None where nothing says it.

    None where the folder holds no embeddings of ours. Raises OutputError where a file that says it is damaged, or there are
    parquet parts and no pyarrow.
    """
    if (folder / HEADER).is_file():
        settings = read_json(folder / HEADER, OutputError, ADVICE)
        if not isinstance(settings, dict):
            raise OutputError(f"{folder / HEADER} is damaged (it holds no JSON object); {ADVICE}")
        centring = read_json(folder / CENTRING, OutputError, ADVICE) if (folder / CENTRING).is_file() else None
        return {**settings, "centring": centring}
    return next(filter(None, map(settings_of, parts(folder))), None)


def settings_of(part: Path) -> dict[str, Any] | None:
    """What the embeddings in a parquet part were made with; None where it does not say, or cannot be read."""
    arrow, parquet = load_pyarrow()
    try:
        metadata = parquet.read_metadata(part).metadata or {}
        settings = json.loads(metadata.get(KEY.encode(), b"null"))
    except (arrow.ArrowException, ValueError, OSError, RecursionError):
        return None
    return settings if isinstance(settings, dict) else None


def parts(folder: Path) -> Iterator[Path]:
    """The parts of a parquet data set, in the order in which they were begun."""
    yield from sorted(path for path in folder.glob(PARTS) if path.is_file())


def claim(folder: Path, settings: Mapping[str, Any], *, overwrite: bool) -> None:
    """Make or continue a folder of embeddings made with these settings, or empty it first.

    Of npy files the settings are written at once, so that a run with others is refused; of parquet with the first part, and
    until then whoever writes first is right.

    Raises OutputError when the folder was made with other settings, holds embeddings that do not say how they were made, or
    cannot be written.
    """
    kept = {key: value for key, value in settings.items() if key != "centring"}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if overwrite:
            for path in list(found(folder, OURS)):
                path.unlink(missing_ok=True)
            for name in (HEADER, LOCK):
                (folder / name).unlink(missing_ok=True)
        else:
            check(folder, kept)
        if settings["format"] == "parquet":
            if not os.access(folder, os.W_OK | os.X_OK) and not any(parts(folder)):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
        claim_folder(folder / HEADER, kept, OURS, words=WORDS, overwrite=False)
        if settings.get("centring") is not None:
            write_text(folder / CENTRING, json.dumps(settings["centring"]) + "\n")
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error}); choose another folder") from error


def check(folder: Path, settings: Mapping[str, Any]) -> None:
    """Raise OutputError where the embeddings in a folder were made with other settings, or do not say with which."""
    made_with = read_settings(folder)
    if made_with is not None:
        check_settings(folder, made_with, settings, words=WORDS, advice=ANEW)
    elif first := next(found(folder, [pattern for pattern in OURS if pattern != PARTS]), None):
        raise OutputError(f"{folder} holds {first.name}, but no {HEADER} that says how it was made; {ANEW}")


def load_pyarrow() -> tuple[Any, Any]:
    """The modules pyarrow and pyarrow.parquet. Raises OutputError where there are none."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise OutputError("parquet needs pyarrow: pip install 'hear-axlstm[parquet]'") from error
    return pyarrow, pyarrow.parquet
