"""What ``embed`` is given, one sound or many in any form -> sounds with their names, one after the other."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import Any

from hear_axlstm.audio.addresses import is_address, name_at
from hear_axlstm.audio.arrays import holds_numbers, is_number
from hear_axlstm.audio.convert import as_row, is_row, is_sound, with_rate
from hear_axlstm.errors import AudioError, ConfigError
from hear_axlstm.files.find import as_text, below, hint
from hear_axlstm.files.lists import SoundList, as_list, at_address
from hear_axlstm.files.sounds import ArraySound, Given, NoSound

LONGEST_PATH = 4_096  # bytes: more are no path


def as_sounds(
    items: Any, sample_rate: float | None = None, left_out: list[Path] | None = None, *, expand: bool = False
) -> Iterator[Given]:
    """The sounds that items stand for, in order: files, all audio files below folders, arrays, or sounds already.

    items: one of these, or any iterable of them, which is drawn from as the sounds are. Arrays are at ``sample_rate`` Hz
    unless they come with a rate, and are named by their index. Bytes are a path, or the content of a file; text is a path
    or an address. left_out: as in ``find_files``. expand: whether a path to a list, a text file with a path or an address a
    line, and the address of a folder stand for the sounds there.

    Raises ConfigError where ``items`` are nothing of the kind or may be one sound or many, on an array without a rate, and
    on a list that is empty or no text; AudioError where they are one path, and nothing is there.
    """
    if sample_rate is not None and not (isinstance(sample_rate, Real) and sample_rate >= 1):
        advice = "pairs (samples, rate) give each sound a rate"
        raise ConfigError(f"sample_rate is {sample_rate!r:.50}; expected a positive number of Hz for all sounds; {advice}")
    given = [items] if is_one(items) else _each(items)
    is_path = isinstance(items, str | os.PathLike) and os.fspath(items) and not _is_address(items)
    if is_path and not os.path.lexists(path := as_text(items)):
        raise AudioError(f"{path}: no such file or folder{hint(path)}")
    for found in map(as_list, given if expand and isinstance(given, list | tuple) else ()):
        if found:
            found.check()
    return (
        sound for index, item in enumerate(given) for sound in _sounds_of(item, str(index), sample_rate, left_out, expand)
    )


def is_one(items: Any) -> bool:
    """Whether items are one sound or folder. Raises ConfigError where they may be one sound or many."""
    shape = getattr(items, "shape", None)
    if shape is not None and hasattr(items, "dtype") and not isinstance(items, str | bytes):  # which NumPy's texts are
        if len(shape) > 1:
            advice = "[sound] for one sound with channels, list(batch) for a batch of sounds"
            raise ConfigError(f"sounds is an array of shape {tuple(shape)}, one sound or many; pass {advice}")
        return bool(len(shape)) and holds_numbers(items)
    if isinstance(items, tuple) and with_rate(items) and any(isinstance(part, list) for part in items[:2]):
        raise ConfigError(
            "sounds is a pair of a list and a rate; pass the list and sample_rate: embed(clips, sample_rate=rate)"
        )
    return isinstance(items, (str, bytes, bytearray, memoryview, os.PathLike, Given, SoundList)) or is_sound(items)


def are_held(items: Any) -> bool:
    """Whether whoever gives the items holds all of them in memory, so that nothing is won by drawing few at a time."""
    return isinstance(items, list | tuple) or is_one(items)


def _each(items: Any) -> Iterable[Any]:
    """The items of an iterable or of a data set. Raises ConfigError when it is none, a table, or holds numbers."""
    if hasattr(items, "columns"):
        raise ConfigError("sounds is a table; pass its column of paths, such as embed(table['path'])")
    if hasattr(items, "dataset") and (getattr(items, "batch_size", None) or 0) > 1:
        raise ConfigError(
            f"sounds is a {type(items).__name__} of batches of {items.batch_size}; expected one of sounds: batch_size=None"
        )
    try:
        if isinstance(items, Mapping):
            raise TypeError
        items = items.to_pylist() if hasattr(items, "to_pylist") else undecoded(items)  # the former of pyarrow
        if isinstance(items, list | tuple):
            numbers = all(is_number(item) for item in items) and any(map(_is_known, items))
            return _refused_numbers() if numbers else items
        if hasattr(items, "__getitem__") and hasattr(items, "__len__") and not hasattr(items, "__iter__"):
            return _drawn(items[index] for index in range(len(items)))  # torch's data sets need not end by an IndexError
        return _drawn(iter(items))
    except TypeError as error:
        raise ConfigError(
            f"sounds is of type {type(items).__name__}; expected a file, a folder, an array, or a list of them"
        ) from error


def _drawn(items: Iterator[Any]) -> Iterator[Any]:
    """The items, which must not begin with a number. What they raise is noted to be theirs."""
    count = 0
    try:
        for item in items:
            if not count and is_number(item) and _is_known(item):
                _refused_numbers()
            yield item
            count += 1
    except ConfigError:
        raise
    except Exception as error:
        advice = "give None for what cannot be read, and it becomes a failure while the others go on"
        error.add_note(f"hear_axlstm: raised by what gives the sounds, after {count:,} of them; {advice}")
        raise


def _is_known(number: Any) -> bool:
    """Whether a number is one, rather than NaN, which stands where a table has no path."""
    return bool(number == number)


def _refused_numbers() -> list[Any]:
    raise ConfigError("sounds is a list of numbers; expected a list of files or of arrays: [samples] holds one sound")


def undecoded(items: Any) -> Any:
    """A data set of Hugging Face, or a column of one, with its sounds as files: we decode them at their own rate.

    Anything else is given back. Raises ConfigError where rows have several sounds, of which none is called audio.
    """
    column = getattr(items, "column_name", None)
    rows = items.source if column is not None and hasattr(items, "source") else items
    features = getattr(rows, "features", None)
    if not (isinstance(features, Mapping) and hasattr(rows, "cast_column") and hasattr(rows, "select_columns")):
        return items
    sounds = [name for name, feature in features.items() if type(feature).__name__ == "Audio"]
    name = column or ("audio" if "audio" in sounds else sounds[0] if len(sounds) == 1 else None)
    if name is None and len(sounds) > 1:
        raise ConfigError(f"rows have sounds in {', '.join(sounds)}; pass one of these columns: embed(rows[{sounds[0]!r}])")
    if name not in sounds or not hasattr(rows, "__len__") or rows.format["type"] == "custom":
        return items  # rows that a function of the user's makes, or those of a stream, which may have addresses
    rows = rows.select_columns([name]).with_format(None)
    return (row[name] for row in rows.cast_column(name, replace(features[name], decode=False)))


def _sounds_of(
    item: Any, name: str, sample_rate: float | None, left_out: list[Path] | None, expand: bool
) -> Iterable[Given]:
    """The sound that an item is, or all below a folder or in a list. name: what it is called if it has no name."""
    item = as_row(item)
    if isinstance(item, Given):
        return [item]
    if _is_address(item):
        return at_address(item, left_out) if expand else [ArraySound(name_at(item), item, address=item)]
    if expand and (found := as_list(item)):
        return found.sounds(left_out)
    if isinstance(item, Mapping) and "audio" in item and "array" not in item and not _is_address(item["audio"]):
        item = item["audio"]
    if isinstance(item, str | os.PathLike) or (isinstance(item, bytes) and _is_path(item)):
        return below(item, left_out) if os.fspath(item) else [NoSound(name, "an empty path; expected a file's")]
    if isinstance(item, list | tuple) and item and all(isinstance(one, str | os.PathLike) for one in item):
        return [NoSound(name, f"is a {type(item).__name__} of paths; pass all paths in one list")]
    is_array = isinstance(item, list) or (hasattr(item, "shape") and not isinstance(item, memoryview))
    if sample_rate is None and is_array and not is_row(item):
        advice = "embed(clips, sample_rate=16_000), or pass pairs (samples, rate)"
        raise ConfigError(f"sound {name} is an array, and nothing says at which sample rate; say it: {advice}")
    return [ArraySound(name, item, sample_rate)]


def _is_path(item: bytes) -> bool:
    """Whether bytes are a path rather than what a file holds."""
    return len(item) <= LONGEST_PATH and b"\0" not in item and (b"\n" not in item or os.path.lexists(item))


def _is_address(item: Any) -> bool:
    return isinstance(item, str) and is_address(item)
