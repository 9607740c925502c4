"""Audio files, found by path or below folders, and what looks like one and cannot be read."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from hear_axlstm.audio import containers
from hear_axlstm.errors import AudioError, ConfigError
from hear_axlstm.files.sounds import FileSound, NoSound, Source
from hear_axlstm.progress import several

SUFFIXES = frozenset(
    ".wav .wave .bwf .flac .ogg .oga .opus .mp1 .mp2 .mp3 .mpga .aif .aiff .aifc .au .snd .caf .w64 .rf64 "
    ".iff .svx .8svx .voc .paf .sph .nist .xi .amb .sd2".split()
)
OUTPUT = re.compile(
    r"_embed\.jsonl?|_centring\.json|.*\.embedding\.npy|.*\.timestamps\.json|embeddings-\d+-.*\.parquet"
)  # ours

FilePath = str | bytes | os.PathLike[str]


def find_files(inputs: Iterable[FilePath], left_out: list[Path] | None = None) -> list[FileSound | NoSound]:
    """Every input file by its own name, and every audio file below an input folder by its path inside that folder.

    A folder's audio files are those whose suffix is one of ``SUFFIXES``, or of those that PyAV or ffmpeg reads, where
    there is one; hidden files and folders are passed over. Folders that links lead to are searched like others, each once.
    The same file by the same name is given once. What cannot be read, such as a folder without permission or a link to
    nothing, is a ``NoSound``, which says why.
    left_out: a list that gets the folders' files of other suffixes, but for embeddings.

    Raises ConfigError on one path as text, whose letters would be paths.
    """
    found: dict[tuple[str, str], FileSound | NoSound] = {}
    if isinstance(inputs, str | bytes):
        raise ConfigError(f"inputs is {inputs!r}; expected a list of paths: [path]")
    for sound in (sound for entry in inputs for sound in below(entry, left_out)):
        found.setdefault((sound.name, os.path.abspath(sound.path) if sound.path else sound.name), sound)
    return list(found.values())


def is_audio(path: Path) -> bool:
    """Whether a file's suffix is one of audio, of those that only PyAV and ffmpeg read as well."""
    return path.suffix.lower() in SUFFIXES | containers.SUFFIXES


def unread(left_out: Sequence[Path]) -> list[Path]:
    """The files left out that are sounds, but of kinds that only PyAV and ffmpeg read, which are not there."""
    return [path for path in left_out if containers.is_needed(path)]


def counted(left_out: Sequence[Path]) -> str:
    """How many files of which suffixes were left out, after a semicolon; empty for none."""
    return f"; {several(len(left_out), 'other file')} left out ({by_suffix(left_out)})" if left_out else ""


def by_suffix(paths: Sequence[Path]) -> str:
    """How many of the files have which suffix."""
    suffixes = Counter(path.suffix.lower() or "no suffix" for path in paths)
    return ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common())


def below(entry: FilePath, left_out: list[Path] | None) -> Iterable[FileSound | NoSound]:
    """The file that an input is, or the audio files below it."""
    text = as_text(entry)
    if os.path.isdir(text):
        return _audio_below(Path(text), left_out)
    if not text:
        return [NoSound("''", "an empty path; expected a file's or a folder's")]
    return [_file(Path(text).name or text, Path(text))]


def as_text(entry: FilePath) -> str:
    """A path as text, from the user's home where it begins with ~, as of a list in a file, which no shell has read."""
    text = os.fsdecode(entry)
    return text if os.path.lexists(text) else os.path.expanduser(text)


def hint(path: str) -> str:
    """What may be wrong with a path where nothing is, after a semicolon; empty where that is not known."""
    if os.path.lexists(path):
        return ""
    if re.match(r"\w+:/+\w", path):
        return "; an address is fetched where it is passed as text, by embed without out: else download it first"
    if "\\" in path and os.sep != "\\":
        return "; on this system folders are separated by /, as in " + path.replace("\\", "/")
    is_pattern = not {"*", "?"}.isdisjoint(path)
    return "; patterns are not expanded: pass the folder, or Path(folder).glob('*.wav')" if is_pattern else ""


def _file(name: str, path: Path) -> FileSound | NoSound:
    try:
        Source.of(path)
    except AudioError as error:
        return NoSound(name, f"{error}{hint(str(path))}", path)
    return FileSound(name, path)


def _audio_below(folder: Path, left_out: list[Path] | None) -> list[FileSound | NoSound]:
    """Each audio file below a folder, in the order of their paths, and what cannot be read there."""
    walk = _Walk(folder)
    if left_out is not None:
        left_out += [folder / name for name in sorted(walk.others, key=_parts)]
    return [walk.found[name] for name in sorted(walk.found, key=_parts)]


def _parts(name: str) -> list[str]:
    return name.split("/")


class _Walk:
    """What is below a folder, by name. found: audio files, and what cannot be read. others: files of other suffixes.

    Each folder is searched once. Links to folders come last: a folder that lies here is found by its own name.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._suffixes = SUFFIXES | containers.SUFFIXES if containers.is_there() else SUFFIXES
        self.found: dict[str, FileSound | NoSound] = {}
        self.others: list[str] = []
        self._folders, self._links = [""], list[str]()
        seen: set[tuple[int, int]] = set()
        while self._folders or self._links:
            here = self._folders.pop() if self._folders else self._links.pop(0)
            try:
                status = os.stat(folder / here)
                if (status.st_dev, status.st_ino) not in seen:
                    seen.add((status.st_dev, status.st_ino))
                    self._search(here)
            except OSError as error:
                advice = "give yourself the right to, as chmod u+rx does, or leave it out"
                why = f"a folder that cannot be read ({error.strerror}); {advice}"
                self.found[here] = NoSound(here or folder.name or str(folder), why, folder / here)

    def _search(self, here: str) -> None:
        with os.scandir(self.folder / here) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if not entry.name.startswith("."):
                    self._sort_in(entry, f"{here}/{entry.name}" if here else entry.name)

    def _sort_in(self, entry: os.DirEntry[str], name: str) -> None:
        suffix = os.path.splitext(entry.name)[1].lower()
        is_link = entry.is_symlink()
        if entry.is_dir(follow_symlinks=False):
            self._folders.append(name)
        elif is_link and os.path.isdir(entry.path):
            self._links.append(name)
        elif suffix in self._suffixes and entry.is_file(follow_symlinks=False):
            self.found[name] = FileSound(name, self.folder / name)
        elif suffix in self._suffixes or (is_link and not suffix and not os.path.exists(entry.path)):
            self.found[name] = _file(name, self.folder / name)
        elif not OUTPUT.fullmatch(entry.name):
            self.others.append(name)
