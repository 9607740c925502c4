"""A column by its name -> a value for each sound: of the collection itself, or of a table that somebody has made."""

from __future__ import annotations

import csv
import datetime
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hear_axlstm.config import require
from hear_axlstm.errors import ConfigError
from hear_axlstm.explore.sample import Sample, column_of
from hear_axlstm.files.settings import load_pyarrow, parts
from hear_axlstm.progress import first_of, several

KEYS = ("name", "path", "filename", "file")  # columns of a table that say which sound a row is of; the first that is there
LABEL = "label"
DELIMITERS = ",;\t"
SHOWN = 12  # columns in a message

Row = Mapping[str, Any]


def values_of(sample: Sample, folder: Path | None, column: str) -> list[Any]:
    """The values of a column of the collection: folder, seconds, or one that its parquet parts have.

    Raises ConfigError where there is no such column.
    """
    if column == "folder":
        return [value or None for value in sample.folders]
    if column == "seconds":
        return list(sample.seconds.tolist())
    found = column_of(folder, column, sample.names) if folder is not None and column != "embedding" else None
    if found is None:
        has_more = folder is not None and any(parts(folder))
        known = "seconds, or one that the parquet parts have" if has_more else "or seconds, since only parquet has others"
        advice = "give a table that has it (--table)"
        raise ConfigError(f"the collection has no column {column!r}; expected folder, {known}; or {advice}")
    return [found.get(name) for name in sample.names]


def joined(sample: Sample, path: str | os.PathLike[str], column: str | None) -> tuple[str, list[Any]]:
    """The column's name, and its values by a table: a CSV or parquet file with a row for each sound.

    The table says which sound a row is of in its column name, path, filename or file: by the sound's name in the collection,
    or by its path, which starts at the table's own folder unless it is absolute. column: left out, it is "label", or the
    only one besides.

    Raises ConfigError where the table cannot be read or has no such column, where two rows of a sound do not agree, or where
    no row is of a sound of the collection.
    """
    table = Path(os.path.expanduser(path))
    columns, rows = _read(table)
    key = next((name for name in KEYS if name in columns), None)
    if key is None:
        raise ConfigError(f"{table} has no column name or path, but {_listed(columns)}; expected one that says which sound")
    others = [name for name in columns if name not in KEYS]
    if column is None:
        column = LABEL if LABEL in others else others[0] if len(others) == 1 else None
        require(column is not None, f"{table} has the columns {_listed(columns)}; say which one to colour by (--color)")
    assert column is not None
    require(column in columns, f"{table} has no column {column!r}; expected one of {_listed(columns)}")
    found = dict[str, Any]()
    for row in rows:
        if row[key]:
            value = found.setdefault(str(row[key]), row[column])
            same = value == row[column] or (value != value and row[column] != row[column])
            require(same, f"{table}: {row[key]} has {value!r} and {row[column]!r} in {column}; keep one")
    home = table.absolute().parent
    by_path = {os.path.normpath(home / os.path.expanduser(given)): value for given, value in found.items()}
    values, missed = list[Any](), 0
    for name, place in zip(sample.names, sample.paths, strict=True):
        hit = next((of[one] for of, one in ((found, name), (found, place), (by_path, place)) if one in of), _MISSING)
        missed += hit is _MISSING
        values.append(None if hit is _MISSING else hit)
    first = next(iter(found), "nothing")
    advice = f"expected names such as {sample.names[0]}, or paths such as {sample.paths[0] or 'none here'}"
    require(missed < len(values), f"{table}: none of its rows is of a sound of the collection; it has {first}, {advice}")
    return column, _numbers(values)


_MISSING = object()


def _read(table: Path) -> tuple[Sequence[str], Iterator[Row]]:
    """The columns and the rows of a CSV or parquet file. Raises ConfigError."""
    if table.suffix == ".parquet":
        arrow, parquet = load_pyarrow()
        try:
            with parquet.ParquetFile(table) as file:
                names = [field.name for field in file.schema_arrow if not arrow.types.is_nested(field.type)]
                return names, iter(file.read(names).to_pylist())
        except (OSError, OverflowError, arrow.ArrowException) as error:  # too large: a date after the year 9999
            raise ConfigError(f"{table} cannot be read ({error}); expected a parquet file") from error
    try:
        text = table.read_text(encoding="utf-8-sig")
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=max(DELIMITERS, key=text.partition("\n")[0].count)))
    except (OSError, UnicodeError, csv.Error) as error:
        raise ConfigError(f"{table} cannot be read ({error}); expected a CSV file in UTF-8, or parquet") from error
    filled = [[cell.strip() for cell in line] for line in lines if any(cell.strip() for cell in line)]
    require(len(filled) > 1, f"{table} has no rows; expected a line that names the columns, and one for each sound")
    return filled[0], _csv_rows(table, filled)


def _csv_rows(table: Path, filled: Sequence[Sequence[str]]) -> Iterator[Row]:
    columns = filled[0]
    for number, cells in enumerate(filled[1:], 2):
        expected = f"expected {len(columns)}: {','.join(columns)}"
        require(len(cells) == len(columns), f"{table}, row {number} has {several(len(cells), 'column')}; {expected}")
        yield dict(zip(columns, cells, strict=True))


def _listed(columns: Sequence[str]) -> str:
    return first_of(columns, SHOWN) or "none"


def _numbers(values: list[Any]) -> list[Any]:
    """The values as numbers or dates where all that are there are texts of these, as CSV files have them."""
    there = [value for value in values if value not in (None, "")]
    if not all(isinstance(value, str) for value in there):
        return values
    for kind in (int, float, datetime.datetime.fromisoformat):
        with suppress(ValueError):
            return [None if value in (None, "") else kind(value) for value in values]
    return values
