"""Audio files, found by path or below folders, and what looks like one and cannot be read."""

from __future__ import annotations

import os
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
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

REGULAR, FOLDER, LINK, OTHER = range(4)  # kinds of what a folder holds; a link to a folder, a pipe or a link to a file

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
    return list(each_file(inputs, left_out))


def each_file(inputs: Iterable[FilePath], left_out: list[Path] | None = None) -> Iterator[FileSound | NoSound]:
    """What ``find_files`` finds, one after the other, folder by folder: the first comes before all are known."""
    if isinstance(inputs, str | bytes):
        raise ConfigError(f"inputs is {inputs!r}; expected a list of paths: [path]")
    given: set[tuple[str, str]] = set()
    for sound in (sound for entry in inputs for sound in below(entry, left_out)):
        key = sound.name, os.path.abspath(sound.path) if sound.path else sound.name
        if key not in given:
            given.add(key)
            yield sound


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
    """The file that an input is, or the audio files below it, one after the other."""
    text = as_text(entry)
    if os.path.isdir(text):
        return _audio_below(Path(text), left_out)
    if not text:
        return [NoSound("''", "an empty path; expected a file's or a folder's")]
    return [named_file(Path(text).name or text, Path(text))]


def as_text(entry: FilePath) -> str:
    """A path as text, from the user's home where it begins with ~, as of a list in a file, which no shell has read."""
    text = os.fsdecode(entry)
    return text if os.path.lexists(text) else os.path.expanduser(text)


def hint(path: str) -> str:
    """What may be wrong with a path where nothing is, after a semicolon; empty where that is not known."""
    if os.path.lexists(path):
        return ""
    if re.match(r"\w+:/+\w", path):
        return "; an address is fetched where it is passed as text: else download it first"
    if "\\" in path and os.sep != "\\":
        return "; on this system folders are separated by /, as in " + path.replace("\\", "/")
    is_pattern = not {"*", "?"}.isdisjoint(path)
    return "; patterns are not expanded: pass the folder, or Path(folder).glob('*.wav')" if is_pattern else ""


def named_file(name: str, path: Path) -> FileSound | NoSound:
    """A file under a name; or why it is none."""
    try:
        Source.of(path)
    except AudioError as error:
        return NoSound(name, f"{error}{hint(str(path))}", path)
    return FileSound(name, path)


def _audio_below(folder: Path, left_out: list[Path] | None) -> Iterator[FileSound | NoSound]:
    """Each audio file below a folder, in the order of their paths, and what cannot be read there."""
    return _Walk(folder, [] if left_out is None else left_out).sounds()


class _Walk:
    """A walk through what is below a folder, depth first, each folder in order: of a folder names alone are held.

    Each folder is searched once. Those that links lead to come last: a folder that lies here is found by its own name.
    left_out: gets files of other suffixes than audio has.
    """

    def __init__(self, folder: Path, left_out: list[Path]) -> None:
        self._folder, self._left_out = folder, left_out
        self._suffixes = SUFFIXES | containers.SUFFIXES if containers.is_there() else SUFFIXES
        self._seen: set[tuple[int, int]] = set()
        self._kinds = {"": FOLDER}  # of names that are no regular files

    def sounds(self) -> Iterator[FileSound | NoSound]:
        """The audio files, and what cannot be read."""
        links = deque([""])
        while links:
            waiting = [links.popleft()]
            while waiting:
                name = waiting.pop()
                kind = self._kinds.pop(name, REGULAR)
                if kind == LINK:
                    links.append(name)
                    self._kinds[name] = FOLDER
                elif kind == FOLDER:
                    try:
                        waiting += self._names(name)
                    except OSError as error:
                        yield self._closed(name, error)
                else:
                    yield from self._sound(name, kind)

    def _names(self, here: str) -> list[str]:
        """What a folder holds, from the last name to the first; nothing where it has been searched already."""
        status = os.stat(self._folder / here)
        if (status.st_dev, status.st_ino) in self._seen:
            return []
        self._seen.add((status.st_dev, status.st_ino))
        names: list[str] = []
        with os.scandir(self._folder / here) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                names.append(f"{here}/{entry.name}" if here else entry.name)
                if entry.is_dir(follow_symlinks=False):
                    self._kinds[names[-1]] = FOLDER
                elif entry.is_symlink() and os.path.isdir(entry.path):
                    self._kinds[names[-1]] = LINK
                elif not entry.is_file(follow_symlinks=False):
                    self._kinds[names[-1]] = OTHER
        return sorted(names, reverse=True)

    def _sound(self, name: str, kind: int) -> Iterator[FileSound | NoSound]:
        path, suffix = self._folder / name, os.path.splitext(name)[1].lower()
        if suffix in self._suffixes:
            yield FileSound(name, path) if kind == REGULAR else named_file(name, path)
        elif kind == OTHER and not suffix and os.path.islink(path) and not os.path.exists(path):
            yield named_file(name, path)
        elif not OUTPUT.fullmatch(path.name):
            self._left_out.append(path)

    def _closed(self, here: str, error: OSError) -> NoSound:
        advice = "give yourself the right to, as chmod u+rx does, or leave it out"
        why = f"a folder that cannot be read ({error.strerror}); {advice}"
        return NoSound(here or self._folder.name or str(self._folder), why, self._folder / here)
