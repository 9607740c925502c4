"""Folders whose contents are all made with the same settings, which a JSON file in them keeps."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hear_axlstm.errors import OutputError
from hear_axlstm.storage import replacing


def claim_folder(header: Path, settings: Mapping[str, Any], ours: Sequence[str], *, overwrite: bool | None = None) -> None:
    """Make the folder of ``header`` one for these settings: a new one, or one to be continued, or emptied first.

    header: the JSON file that keeps them. ours: patterns, in the folder and below it, of what we make there.
    overwrite: whether to remove that first; None where there is no such option.

    Raises OutputError when the folder was made with other settings, holds such files without a header, or cannot be
    written.
    """
    folder = header.parent
    advice = "choose another folder" + ("" if overwrite is None else ", or overwrite it (--overwrite)")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = [path for pattern in ours for path in folder.rglob(pattern)] if overwrite or not header.is_file() else []
        if overwrite:
            for path in found:
                path.unlink()
        elif header.is_file():
            _check(header, settings, advice)
        elif found:
            raise OutputError(f"{folder} holds {found[0].name}, but no {header.name} that says how it was made; {advice}")
        with replacing(header) as temporary:
            temporary.write_text(json.dumps(dict(settings), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error}); choose another folder") from error


def _check(header: Path, settings: Mapping[str, Any], advice: str) -> None:
    try:
        made_with = json.loads(header.read_text(encoding="utf-8"))
    except ValueError as error:
        raise OutputError(f"{header} is damaged ({error}); {advice}") from error
    if differing := [key for key in settings if made_with.get(key) != settings[key]]:
        details = ", ".join(f"{key} was {made_with.get(key)!r}, now {settings[key]!r}" for key in differing)
        raise OutputError(f"{header.parent} was made with other settings: {details}; {advice}")
