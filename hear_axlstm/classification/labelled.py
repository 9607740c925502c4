"""Labelled sounds: a folder of folders, or a table of paths and labels -> files and their labels."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hear_axlstm.errors import ConfigError
from hear_axlstm.files.find import find_files
from hear_axlstm.files.sounds import FileSound, NoSound

EXPECTED = "expected a folder that has a folder of sounds for each class, or a CSV file with the columns path and label"
DELIMITERS = ",;\t"
SPLITS = {
    name: split
    for split, *others in (("train", "training"), ("valid", "validation", "val", "dev"), ("test", "testing"))
    for name in (split, *others)
}


@dataclass(frozen=True)
class Labelled:
    """Sounds with a label each.

    sounds, labels: one of each a sound, in order. groups: what must not be divided between learning and testing, such as the
    speaker, one a sound; empty when nothing was said. parts: which split ("train", "valid" or "test") or fold each sound is
    for, where that was said. left_out: files that have none of the suffixes of audio.
    """

    sounds: list[FileSound | NoSound]
    labels: list[str]
    groups: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    left_out: list[Path] = field(default_factory=list)

    @property
    def classes(self) -> list[str]:
        """The labels that there are, sorted."""
        return sorted(set(self.labels))

    def only(self, places: Sequence[int]) -> Labelled:
        """The sounds at these places alone."""
        groups, parts = ([of[place] for place in places] if of else [] for of in (self.groups, self.parts))
        sounds, labels = [self.sounds[place] for place in places], [self.labels[place] for place in places]
        return Labelled(sounds, labels, groups, parts, self.left_out)


def read_labelled(source: str | os.PathLike[str]) -> Labelled:
    """The sounds that a folder or a CSV file gives labels to.

    source: a folder, in which every folder is a class and holds its sounds at any depth; or a CSV file with a line for each
    sound: its path, from the CSV's own folder on unless it is absolute, and its label. The first line may name the columns:
    path, label, and optionally group, which is what must not be divided between learning and testing, such as the speaker;
    and split (train, valid or test) or fold, for who tests as somebody has said before.

    Raises ConfigError when there are no sounds, fewer than two classes, or a line cannot be understood; it names the line.
    """
    path = Path(source)
    if path.is_dir():
        labelled = _of_folders(path)
    elif path.is_file():
        labelled = _of_table(path)
    else:
        raise ConfigError(f"{path}: there is no such folder or file; {EXPECTED}")
    if len(labelled.classes) < 2:
        found = f"{len(labelled.sounds)} sounds of {len(labelled.classes)} classes"
        raise ConfigError(f"{path} has {found}, but two classes or more are needed; {EXPECTED}")
    return labelled


def _of_folders(folder: Path) -> Labelled:
    labelled = Labelled([], [])
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if not entry.is_dir():
            labelled.left_out.append(entry)
            continue
        for sound in find_files([entry], labelled.left_out):
            named = f"{entry.name}/{sound.name}"
            labelled.sounds.append(
                FileSound(named, sound.path) if isinstance(sound, FileSound) else NoSound(named, sound.reason, sound.path)
            )
            labelled.labels.append(entry.name)
    return labelled


def _of_table(path: Path) -> Labelled:
    labelled, seen = Labelled([], []), dict[Path, tuple[int, str]]()
    for line, row in _rows(path):
        where = f"{path}, line {line}"
        if not row.get("path") or not row.get("label"):
            raise ConfigError(f"{where} has no {'label' if row.get('path') else 'path'}; expected both: path,label")
        file, label = path.parent / row["path"], row["label"]
        before, known = seen.setdefault(file, (line, label))
        if known != label:
            raise ConfigError(f"{where}: {row['path']} is labelled {label!r}, but {known!r} in line {before}; keep one")
        if before != line:
            continue
        [sound] = find_files([file]) if not file.is_dir() else [None]
        if sound is None:
            raise ConfigError(f"{where}: {row['path']} is a folder; expected a file")
        labelled.sounds.append(
            FileSound(row["path"], file)
            if isinstance(sound, FileSound)
            else NoSound(row["path"], f"{where}: {sound.reason.replace(str(file), row['path'], 1)}", file)
        )
        labelled.labels.append(label)
        if "group" in row:
            labelled.groups.append(row["group"])
        if {"split", "fold"} & row.keys():
            labelled.parts.append(_part(row, where))
    return labelled


def _part(row: dict[str, str], where: str) -> str:
    """The split or fold of a line. Raises ConfigError where it has none."""
    if "split" not in row:
        if not row["fold"]:
            raise ConfigError(f"{where} has no fold; expected one in every line")
        return row["fold"]
    if row["split"].lower() not in SPLITS:
        raise ConfigError(f"{where}: the split is {row['split']!r}; expected train, valid or test")
    return SPLITS[row["split"].lower()]


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The lines of a table, with their numbers: the columns by name. Raises ConfigError on a file that is no such table."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"{path} cannot be read ({error}); expected a CSV file in UTF-8") from error
    first = text.partition("\n")[0]
    reader = csv.reader(text.splitlines(), delimiter=max(DELIMITERS, key=first.count))
    columns: Sequence[str] = ("path", "label")
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if reader.line_num == 1 and {"path", "label"} <= {cell.lower() for cell in cells}:
                columns = [cell.lower() for cell in cells]
            elif any(cells):
                if len(cells) != len(columns):
                    expected = f"expected {len(columns)}: {','.join(columns)}"
                    raise ConfigError(f"{path}, line {reader.line_num} has {len(cells)} columns; {expected}")
                yield reader.line_num, dict(zip(columns, cells, strict=True))
    except csv.Error as error:
        raise ConfigError(f"{path}, line {reader.line_num}: {error}; expected a CSV file: path,label") from error
