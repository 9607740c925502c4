"""Sounds to embed: audio files, found by path or below folders, and arrays in memory; and their plan, in batches."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from pathlib import Path
from typing import Any

from hear_axlstm.audio import ffmpeg, is_number, with_rate
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.errors import AudioError, ConfigError, OutputError
from hear_axlstm.files.sounds import ArraySound, FileSound, Given, NoSound, Sound, Source
from hear_axlstm.progress import several

SUFFIXES = frozenset(
    ".wav .wave .bwf .flac .ogg .oga .opus .mp1 .mp2 .mp3 .mpga .aif .aiff .aifc .au .snd .caf .w64 .rf64 "
    ".iff .svx .8svx .voc .paf .sph .nist .xi .amb .sd2".split()
)
OUTPUT = re.compile(
    r"_embed\.jsonl?|_centring\.json|.*\.embedding\.npy|.*\.timestamps\.json|embeddings-\d+-.*\.parquet"
)  # ours
BATCH_SECONDS = 64.0  # audio encoded in one call, padding included
LONGEST_PATH = 4_096  # bytes: more are no path

FilePath = str | bytes | os.PathLike[str]


def as_sounds(items: Any, sample_rate: float | None = None, left_out: list[Path] | None = None) -> list[Given]:
    """The sounds that items stand for, in order: files, all audio files below folders, arrays, or sounds already.

    items: one of these, or any iterable of them. Arrays are at ``sample_rate`` Hz unless they come with a rate, and
    are named by their index. Bytes are a path, or the content of a file. left_out: as in ``find_files``.

    Raises ConfigError where ``items`` are nothing of the kind or may be one sound or many, and on an array without a rate;
    AudioError where they are one path, and nothing is there.
    """
    if sample_rate is not None and not (isinstance(sample_rate, Real) and sample_rate >= 1):
        advice = "pairs (samples, rate) give each sound a rate"
        raise ConfigError(f"sample_rate is {sample_rate!r:.50}; expected a positive number of Hz for all sounds; {advice}")
    given = [items] if _is_one(items) else _each(items)
    if isinstance(items, str | os.PathLike) and os.fspath(items) and not os.path.lexists(path := _text(items)):
        raise AudioError(f"{path}: no such file or folder{_hint(path)}")
    return [sound for index, item in enumerate(given) for sound in _sounds_of(item, str(index), sample_rate, left_out)]


def _is_one(items: Any) -> bool:
    """Whether items are one sound or folder. Raises ConfigError where they may be one sound or many."""
    shape = getattr(items, "shape", None)
    if shape is not None and hasattr(items, "dtype"):
        if len(shape) > 1:
            advice = "[sound] for one sound with channels, list(batch) for a batch of sounds"
            raise ConfigError(f"sounds is an array of shape {tuple(shape)}, one sound or many; pass {advice}")
        return bool(len(shape)) and getattr(items.dtype, "kind", "f") in "biufc"  # others hold names, or objects
    if isinstance(items, tuple) and with_rate(items) and any(isinstance(part, list) for part in items[:2]):
        raise ConfigError(
            "sounds is a pair of a list and a rate; pass the list and sample_rate: embed(clips, sample_rate=rate)"
        )
    one = (str, bytes, bytearray, os.PathLike, Given)
    return isinstance(items, one) or hasattr(items, "read") or with_rate(items) or _is_content(items)


def _is_content(item: Any) -> bool:
    """Whether an item is a row of a data set."""
    return isinstance(item, Mapping) and not {"audio", "array", "bytes", "path"}.isdisjoint(item)


def _each(items: Any) -> list[Any]:
    """The items of an iterable or of a data set. Raises ConfigError when it is none, a table, or holds numbers."""
    if hasattr(items, "columns"):
        raise ConfigError("sounds is a table; pass its column of paths, such as embed(table['path'])")
    try:
        if isinstance(items, Mapping):
            raise TypeError
        if hasattr(items, "__getitem__") and hasattr(items, "__len__") and not hasattr(items, "__iter__"):
            listed = [items[index] for index in range(len(items))]  # torch's data sets need not end by an IndexError
        else:
            listed = list(items)
    except TypeError as error:
        raise ConfigError(
            f"sounds is of type {type(items).__name__}; expected a file, a folder, an array, or a list of them"
        ) from error
    if listed and all(is_number(item) for item in listed):
        raise ConfigError("sounds is a list of numbers; expected a list of files or of arrays: [samples] holds one sound")
    return listed


def _sounds_of(item: Any, name: str, sample_rate: float | None, left_out: list[Path] | None) -> Iterable[Given]:
    """The sound that an item is, or all that are below a folder. name: what it is called if it has no name."""
    if isinstance(item, Given):
        return [item]
    if isinstance(item, Mapping) and "audio" in item and "array" not in item:
        item = item["audio"]
    if isinstance(item, str | os.PathLike) or (isinstance(item, bytes) and b"\0" not in item and len(item) <= LONGEST_PATH):
        return _found(item, left_out) if os.fspath(item) else [NoSound(name, "an empty path; expected a file's")]
    if isinstance(item, list | tuple) and item and all(isinstance(one, str | os.PathLike) for one in item):
        return [NoSound(name, f"is a {type(item).__name__} of paths; pass all paths in one list")]
    if sample_rate is None and (hasattr(item, "shape") or isinstance(item, list)):
        advice = "embed(clips, sample_rate=16_000), or pass pairs (samples, rate)"
        raise ConfigError(f"sound {name} is an array, and nothing says at which sample rate; say it: {advice}")
    return [ArraySound(name, item, sample_rate or SAMPLE_RATE)]


def find_files(inputs: Iterable[FilePath], left_out: list[Path] | None = None) -> list[FileSound | NoSound]:
    """Every input file by its own name, and every audio file below an input folder by its path inside that folder.

    A folder's audio files are those whose suffix is one of ``SUFFIXES``, or of those that ffmpeg reads where that is there;
    hidden files and folders are passed over. Folders that links lead to are searched like others, each once. The same file
    by the same name is given once. What cannot be read, such as a folder without permission or a link to nothing, is a
    ``NoSound``, which says why.
    left_out: a list that gets the folders' files of other suffixes, but for embeddings.
    """
    found: dict[tuple[str, str], FileSound | NoSound] = {}
    for sound in (sound for entry in inputs for sound in _found(entry, left_out)):
        found.setdefault((sound.name, os.path.abspath(sound.path) if sound.path else sound.name), sound)
    return list(found.values())


def is_audio(path: Path) -> bool:
    """Whether a file's suffix is one of audio, of those that only ffmpeg reads as well."""
    return path.suffix.lower() in SUFFIXES | ffmpeg.SUFFIXES


def unread(left_out: Sequence[Path]) -> list[Path]:
    """The files left out that are sounds, but of kinds that only ffmpeg reads, which is not there."""
    return [path for path in left_out if ffmpeg.is_needed(path)]


def counted(left_out: Sequence[Path]) -> str:
    """How many files of which suffixes were left out, after a semicolon; empty for none."""
    return f"; {several(len(left_out), 'other file')} left out ({by_suffix(left_out)})" if left_out else ""


def by_suffix(paths: Sequence[Path]) -> str:
    """How many of the files have which suffix."""
    suffixes = Counter(path.suffix.lower() or "no suffix" for path in paths)
    return ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common())


def _found(entry: FilePath, left_out: list[Path] | None) -> Iterable[FileSound | NoSound]:
    """The file that an input is, or the audio files below it."""
    text = _text(entry)
    if os.path.isdir(text):
        return _audio_below(Path(text), left_out)
    if not text:
        return [NoSound("''", "an empty path; expected a file's or a folder's")]
    return [_file(Path(text).name or text, Path(text))]


def _text(entry: FilePath) -> str:
    """A path as text, from the user's home where it begins with ~, as of a list in a file, which no shell has read."""
    text = os.fsdecode(entry)
    return text if os.path.lexists(text) else os.path.expanduser(text)


def _hint(path: str) -> str:
    """What may be wrong with a path where nothing is, after a semicolon; empty where that is not known."""
    if os.path.lexists(path):
        return ""
    if re.match(r"\w+:/+\w", path):
        return "; nothing is fetched from the net: download it first, and pass the file"
    if "\\" in path and os.sep != "\\":
        return "; on this system folders are separated by /, as in " + path.replace("\\", "/")
    is_pattern = not {"*", "?"}.isdisjoint(path)
    return "; patterns are not expanded: pass the folder, or Path(folder).glob('*.wav')" if is_pattern else ""


def _file(name: str, path: Path) -> FileSound | NoSound:
    try:
        Source.of(path)
    except AudioError as error:
        return NoSound(name, f"{error}{_hint(str(path))}", path)
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
        self._suffixes = SUFFIXES | ffmpeg.SUFFIXES if ffmpeg.is_there() else SUFFIXES
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


def told_apart(sounds: Sequence[Given]) -> list[Given]:
    """The sounds, where several files share a name called by their paths as they were given."""
    paths: dict[str, set[Path | None]] = defaultdict(set)
    for sound in sounds:
        paths[sound.name].add(sound.path)
    return [replace(sound, name=str(sound.path)) if sound.path and len(paths[sound.name]) > 1 else sound for sound in sounds]


@dataclass
class Plan:
    """The sounds to embed, in batches, and those that need no embedding or cannot have one.

    names: all sounds in the order given. paths: theirs, absolute, empty for sounds in memory. batches: the sounds to embed,
    which can be pickled. seconds: their durations by their index among the names. skipped: names of those done already, and
    there: their indices. failures: name -> why a sound cannot be embedded. left_out: files in folders that have other
    suffixes than audio has. pad_short: whether short sounds are padded.
    """

    names: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    batches: list[list[Sound]] = field(default_factory=list)
    seconds: dict[int, float] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    there: list[int] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    left_out: list[Path] = field(default_factory=list)
    pad_short: bool = False

    def add(self, sound: Given) -> None:
        self.names.append(sound.name)
        self.paths.append(os.path.abspath(sound.path) if sound.path else "")


def plan(
    items: Any,
    *,
    sample_rate: float | None = None,
    batch_seconds: float = BATCH_SECONDS,
    pad_short: bool = False,
    is_done: Callable[[str, Source], bool] | None = None,
) -> Plan:
    """Find the sounds that ``items`` stands for (see ``as_sounds``) and put those that are not done into batches.

    Batches run from long sounds to short ones, so that padding is small and memory runs out early if at all.

    batch_seconds: audio in a batch, padding included. pad_short: whether sounds too short to embed are padded.
    is_done: whether there is an embedding of a name and of a file as it
    is now, as the folder that embeddings go to tells. It raises OutputError where the name is another file's; that sound
    is a failure. Without it, files that share a name are called by their paths.

    Raises ConfigError and AudioError as ``as_sounds`` does.
    """
    planned = Plan(pad_short=pad_short)
    sounds = as_sounds(items, sample_rate, planned.left_out)
    if is_done is None:
        sounds = told_apart(sounds)
    remaining: list[Sound] = []
    planned_for: set[tuple[str, str]] = set()
    for sound in sounds:
        index = len(planned.names)
        try:
            if isinstance(sound, FileSound):
                source = Source.of(sound.path)
                sound = replace(sound, source=source)
                if is_done and (sound.name, source.path) in planned_for:
                    continue  # given twice, for one output
                planned_for.add((sound.name, source.path))
                if is_done and is_done(sound.name, source):
                    planned.add(sound)
                    planned.skipped.append(sound.name)
                    planned.there.append(index)
                    continue
            seconds = sound.measured()
        except Exception as error:  # whatever is wrong with a sound ends nothing
            add_failure(planned.failures, sound.name, sound.path, reason(error, sound.name))
        else:
            assert not isinstance(sound, NoSound)
            planned.seconds[index] = seconds
            remaining.append(replace(sound, index=index, seconds=seconds, pad=pad_short))
        planned.add(sound)
    planned.batches = _batches(remaining, batch_seconds)
    return planned


def add_failure(failures: dict[str, str], name: str, path: object, why: str) -> None:
    """Record why a sound has no embedding; by its path where another one of the same name failed, too."""
    failures[name if failures.get(name, why) == why or path is None else str(path)] = why


def reason(error: BaseException, name: object) -> str:
    """Why a sound has no embedding, without its name, which stands before it wherever it is told."""
    if isinstance(error, AudioError | OutputError):
        return unnamed(str(error), str(name))
    return "ran out of memory" if isinstance(error, MemoryError) else f"cannot be read ({type(error).__name__}: {error})"


def unnamed(text: str, name: str) -> str:
    """A message without the name that it begins with, or the path that ends in that name.

    >>> unnamed("/data/birds/wren.wav: the file is empty", "birds/wren.wav")
    'the file is empty'
    """
    path, found, rest = text.partition(f"{name}: ")
    return rest if found and (not path or path.endswith("/")) else text


def _batches(sounds: Iterable[Sound], batch_seconds: float) -> list[list[Sound]]:
    batches: list[list[Sound]] = []
    longest = 0.0
    for sound in sorted(sounds, key=lambda sound: sound.seconds, reverse=True):
        if not batches or longest * (len(batches[-1]) + 1) > batch_seconds:
            batches.append([])
            longest = sound.seconds
        batches[-1].append(sound)
    return batches
