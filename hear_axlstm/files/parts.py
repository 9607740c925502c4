"""The parts of a parquet data set as files: seen, read, written anew in one step, and set aside where they are damaged."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hear_axlstm.errors import OutputError
from hear_axlstm.files.folder import OtherSettingsError
from hear_axlstm.files.rows import GROUP_NUMBERS, schema_of
from hear_axlstm.files.settings import ANEW, KEY, PARTS, WORDS, check, load_pyarrow
from hear_axlstm.storage import check_settings, replacing, sweep

logger = logging.getLogger(__name__)

IDENTITY = ["name", "path", "size", "modified", "error"]  # columns
UNFIT = (errno.EXDEV, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.EEXIST, errno.ENOTDIR)  # as a place

Stamp = tuple[int, int, int]  # what a file has another of when it was written anew


class Parts:
    """The parts in a folder. What is written is beside the folder until it is whole, since polars reads all that is in it.

    Where nothing can be moved from there, as into a mounted folder, it is a hidden file in the folder.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.schema = schema_of(settings)
        self._folder, self._settings = folder, {key: settings[key] for key in settings if key != "centring"}
        self._arrow, self._parquet = load_pyarrow()
        real = Path(os.path.realpath(folder))
        self._beside, self._damaged = real.with_name(f".{real.name}.writing"), real.with_name(f"{real.name}.damaged")
        self._place = self._beside

    def sweep(self) -> None:
        """Remove what killed runs left of parts that they were writing."""
        for place in (self._beside, self._folder):
            sweep(place)
        self._leave()

    def seen(self) -> dict[Path, Stamp]:
        """The parts that are there, in the order in which they were begun, each with its stamp."""
        found = {}
        for path in sorted(self._folder.glob(PARTS)):
            with suppress(FileNotFoundError):
                found[path] = stamp_of(path)
        return found

    def check_first(self) -> None:
        """Raise OtherSettingsError where another run has begun to write npy files. For the first part."""
        try:
            check(self._folder, self._settings)
        except OutputError as error:
            raise OtherSettingsError(str(error)) from error

    def read(self, part: Path, columns: list[str] | None = None) -> Any:
        """A part as a table; None where it is no longer there, or is damaged and therefore set aside.

        Raises OtherSettingsError where it was made with other settings than these.
        """
        try:
            with self._parquet.ParquetFile(part) as file:
                table = file.read(columns=columns)
                settings = (file.metadata.metadata or {}).get(KEY.encode())
            if missing := [name for name in columns or self.schema.names if name not in table.column_names]:
                raise ValueError(f"it has no {missing[0]}")
            self._check(part, settings)
        except FileNotFoundError:
            return None
        except (self._arrow.ArrowException, ValueError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            self._set_aside(part, error)
            return None
        return table

    def _check(self, part: Path, settings: bytes | None) -> None:
        if settings == self.schema.metadata[KEY.encode()]:
            return
        made_with = json.loads(settings or b"null")
        if not isinstance(made_with, dict):
            raise OtherSettingsError(f"{part} does not say how its embeddings were made; {ANEW}")
        try:
            check_settings(self._folder, made_with, self._settings, words=WORDS, advice=ANEW)
        except OutputError as error:
            raise OtherSettingsError(str(error)) from error

    def write(self, part: Path, table: Any) -> None:
        """Put a table in the place of a part, whole or not at all. Raises OSError."""
        table = table.replace_schema_metadata(self.schema.metadata)
        rows = max(1, GROUP_NUMBERS * len(table) // max(table["embedding"].nbytes // 4, 1))
        try:
            self._replace(part, table, self._place, rows)
        except OSError as error:
            if self._place == self._folder or error.errno not in UNFIT:
                raise
            self._place = self._folder
            self._replace(part, table, self._place, rows)
        finally:
            self._leave()

    def _replace(self, part: Path, table: Any, place: Path, rows: int) -> None:
        with replacing(part, place) as temporary:
            self._parquet.write_table(table, temporary, row_group_size=rows, compression="none")
            with open(temporary, "rb+") as file:
                os.fsync(file)  # what is there already is not to be lost with the power

    def new(self, parts: Sequence[Path]) -> Path:
        """The path of a new part, after those that are there."""
        return self._folder / f"embeddings-{len(parts):05}-{uuid.uuid4().hex[:8]}.parquet"

    def _leave(self) -> None:
        with suppress(OSError):
            self._beside.rmdir()

    def _set_aside(self, part: Path, cause: object) -> None:
        try:
            self._damaged.mkdir(exist_ok=True)
            aside = self._damaged / part.name
            shutil.move(part, aside)
        except OSError as error:
            raise OutputError(f"{part} is damaged ({cause}), and {self._damaged} cannot be written; remove it") from error
        logger.warning("%s is damaged (%s): set aside as %s, its sounds are embedded again", part, cause, aside)


def stamp_of(part: Path) -> Stamp:
    """Raises FileNotFoundError."""
    status = os.stat(part)
    return status.st_ino, status.st_size, status.st_mtime_ns
