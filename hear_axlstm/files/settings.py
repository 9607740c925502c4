"""What the embeddings in a folder were made with: in a file beside npy files, in each part of a parquet data set itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hear_axlstm.errors import OutputError
from hear_axlstm.storage import changed, changed_options, other_weights, read_json

HEADER, LEDGER, CENTRING = (
    "_embed.json",
    "_embed.jsonl",
    "_centring.json",
)  # beside npy files; readers of data sets pass over them
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
        found = parquet.read_metadata(part).metadata or {}
        settings = json.loads(found.get(KEY.encode(), b"null"))
    except (arrow.ArrowException, ValueError, OSError, RecursionError):
        return None
    return settings if isinstance(settings, dict) else None


def parts(folder: Path) -> Iterator[Path]:
    """The parts of a parquet data set, in the order in which they were begun."""
    yield from sorted(path for path in folder.glob(PARTS) if path.is_file())


def load_pyarrow() -> tuple[Any, Any]:
    """The modules pyarrow and pyarrow.parquet. Raises OutputError where there are none."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise OutputError("parquet needs pyarrow: pip install 'hear-axlstm[parquet]'") from error
    return pyarrow, pyarrow.parquet
