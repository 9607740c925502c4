"""Labelled sounds: a folder of folders, or a table of paths and labels -> files and their labels."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from hear_axlstm.errors import AudioError, ConfigError
from hear_axlstm.files.find import find_files, is_audio
from hear_axlstm.files.sounds import FileSound, NoSound, Source
from hear_axlstm.progress import several
from hear_axlstm.weights.check import canonical

EXPECTED = "expected a folder that has a folder of sounds for each class, or a CSV file with the columns path and label"
DELIMITERS = ",;\t"
BARE = ("path", "label")  # the columns of a table that does not name them
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
    for, where that was said. left_out: files that have none of the suffixes of audio, or lie in no class's folder.
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

    def fingerprint(self) -> str:
        """The hex sha256 of all that was said of the sounds, and of the size and time of change of their files."""
        facts = []
        for place, sound in enumerate(self.sounds):
            said = [of[place] for of in (self.labels, self.groups, self.parts) if of]
            file = list[int]()
            with suppress(AudioError):
                if isinstance(sound, FileSound):
                    source = Source.of(sound.path)
                    file = [source.size, source.modified]
            facts.append([sound.name, *said, *file])
        return hashlib.sha256(canonical({"sounds": facts}).encode()).hexdigest()


def check_outside(out: str | os.PathLike[str], sounds: str | os.PathLike[str]) -> None:
    """Raise ConfigError where a folder to write to lies in the folder of sounds."""
    if Path(sounds).is_dir() and Path(out).resolve().is_relative_to(Path(sounds).resolve()):
        raise ConfigError(
            f"{out} is in the folder of sounds, {sounds}, where its files would be a class; choose another folder"
        )


def loose_sounds(left_out: Sequence[Path], folder: str | os.PathLike[str]) -> list[Path]:
    """The sounds among the files left out that lie in the folder of classes itself, and so in none of a class."""
    return [file for file in left_out if file.parent == Path(folder) and is_audio(file)]


def read_labelled(source: str | os.PathLike[str]) -> Labelled:
    """The sounds that a folder or a CSV file gives labels to.

    source: a folder, in which every folder is a class and holds its sounds at any depth; or a CSV file with a line for each
    sound: its path, from the CSV's own folder on unless it is absolute or begins with ~, and its label. The first line may
    name the columns: path, label, and optionally group, which is what must not be divided between learning and testing, such
    as the speaker; and split (train, valid or test) or fold, for who tests as somebody has said before. Other columns are
    passed over.

    Raises ConfigError when there are no sounds, fewer than two classes, or a line cannot be understood; it names the line.
    """
    if not isinstance(source, str | os.PathLike):
        raise ConfigError(f"labelled sounds are a {type(source).__name__}; {EXPECTED}")
    path = Path(source)
    if path.is_dir():
        labelled = _of_folders(path)
    elif path.is_file() and is_audio(path):
        raise ConfigError(f"{path} is a sound; {EXPECTED}")
    elif path.is_file():
        labelled = _of_table(path)
    else:
        raise ConfigError(f"{path}: there is no such folder or file; {EXPECTED}")
    if len(labelled.classes) < 2:
        if loose := loose_sounds(labelled.left_out, path):
            raise ConfigError(
                f"{several(len(loose), 'sound')}, such as {loose[0].name}, {'lies' if len(loose) == 1 else 'lie'} in {path} "
                "itself; put those of each class into a folder of that name there, or write a CSV file with the columns "
                "path and label"
            )
        found = f"{several(len(labelled.sounds), 'sound')} of {several(len(labelled.classes), 'class')}"
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
            labelled.sounds.append(replace(sound, name=f"{entry.name}/{sound.name}"))
            labelled.labels.append(entry.name)
    return labelled


def _of_table(path: Path) -> Labelled:
    labelled, seen = Labelled([], []), dict[Path, tuple[int, str]]()
    for line, row in _rows(path):
        where = f"{path}, line {line}"
        if not row.get("path") or not row.get("label"):
            raise ConfigError(f"{where} has no {'label' if row.get('path') else 'path'}; expected both: path,label")
        file, label = path.parent / os.path.expanduser(row["path"]), row["label"]
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
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text))
    columns: Sequence[str] = ()
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if not columns:
                columns = _columns(cells, path, reader.line_num)
                if columns is not BARE:
                    continue
            if len(cells) != len(columns):
                expected = f"expected {len(columns)}: {','.join(columns)}"
                raise ConfigError(f"{path}, line {reader.line_num} has {several(len(cells), 'column')}; {expected}")
            yield reader.line_num, dict(zip(columns, cells, strict=True))
    except csv.Error as error:
        raise ConfigError(f"{path}, line {reader.line_num}: {error}; expected a CSV file: path,label") from error


def _delimiter(text: str) -> str:
    """What stands between the cells of the first line that says something."""
    first = text.lstrip().partition("\n")[0]
    return max(DELIMITERS, key=first.count)


def _columns(cells: Sequence[str], path: Path, line: int) -> Sequence[str]:
    """The columns that a table's first line names; BARE where it is a sound's already.

    Raises ConfigError where it names a column twice, or other columns than are needed.
    """
    named = [cell.lower() for cell in cells]
    if {"path", "label"} <= set(named):
        if twice := [name for name in dict.fromkeys(named) if name and named.count(name) > 1]:
            raise ConfigError(f"{path}, line {line} names the column {twice[0]} twice; expected each once")
        return named
    file = path.parent / os.path.expanduser(cells[0])
    if not cells[0] or not (Path(cells[0]).suffix or os.path.lexists(file)):
        missing = " and no column ".join(name for name in BARE if name not in named)
        raise ConfigError(
            f"{path}, line {line} names no column {missing}, but {', '.join(cells):.200}; "
            "rename the column of files to path and the column of classes to label there"
        )
    return BARE
