"""Sounds to embed: audio files, found by path or below folders, and arrays in memory; and their plan, in batches."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from hear_axlstm.audio import Wave, audio_seconds, prepare_array, read_audio
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.errors import AudioError, ConfigError, OutputError

SUFFIXES = frozenset(".wav .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .snd .caf .w64 .rf64".split())
BATCH_SECONDS = 64.0  # audio encoded in one call, padding included


@dataclass(frozen=True, eq=False)
class FileSound:
    """An audio file. name: what its outputs are called."""

    name: str
    path: Path

    def seconds(self) -> float:
        """The duration by the file's header. Raises AudioError."""
        return audio_seconds(self.path)

    def load(self) -> Wave:
        """The samples, (n,), mono float32 at 16 kHz. Raises AudioError."""
        return read_audio(self.path)


@dataclass(frozen=True, eq=False)
class ArraySound:
    """Samples in memory, (n,) or (n, channels) at ``sample_rate`` Hz. name: what results call them."""

    name: str
    samples: ArrayLike
    sample_rate: int
    path: None = None

    def seconds(self) -> float:
        """The duration. Raises AudioError on a single number."""
        shape = np.shape(self.samples)
        if not shape:
            raise AudioError(f"{self.name}: a single number; expected (n_samples,) or (n_samples, channels)")
        return int(shape[0]) / self.sample_rate

    def load(self) -> Wave:
        """The samples, (n,), mono float32 at 16 kHz. Raises AudioError."""
        return prepare_array(self.samples, self.sample_rate, self.name)


Sound = FileSound | ArraySound


def as_sounds(items: Iterable[Any], sample_rate: int) -> Sequence[Sound]:
    """The sounds that a list stands for: of files and folders, of arrays at ``sample_rate`` Hz, or of sounds already.

    Arrays are named by their index. Raises ConfigError on anything else, OutputError when two files would get one name.
    """
    if isinstance(items, str | os.PathLike | np.ndarray | torch.Tensor):
        raise ConfigError(f"sounds is a {type(items).__name__}; expected a list of files or of arrays")
    items = list(items)
    if all(isinstance(item, Sound) for item in items):
        return items
    are_paths = [isinstance(item, str | os.PathLike) for item in items]
    if all(are_paths):
        return find_files(items)
    if any(are_paths):
        raise ConfigError("sounds holds arrays and files; expected one kind: embed them in two calls")
    if sample_rate < 1:
        raise ConfigError(f"sample_rate is {sample_rate}; expected a positive number of Hz")
    return [ArraySound(str(index), samples, sample_rate) for index, samples in enumerate(items)]


def find_files(inputs: Iterable[str | os.PathLike[str]], left_out: list[Path] | None = None) -> list[FileSound]:
    """Every input file by its own name, and every audio file below an input folder by its path inside that folder.

    A folder's audio files are those whose suffix is one of ``SUFFIXES``; hidden files and folders are passed over.
    left_out: a list that gets the folders' files of other suffixes.

    Raises OutputError when two files would get one name.
    """
    found: dict[str, FileSound] = {}
    for entry in map(Path, inputs):
        for name, path in _audio_below(entry, left_out) if entry.is_dir() else [(entry.name, entry)]:
            other = found.setdefault(name, FileSound(name, path)).path
            if other.resolve() != path.resolve():
                raise OutputError(
                    f"{other} and {path} would both be called {name}; embed them into different folders, or pass the folder "
                    "above both"
                )
    return list(found.values())


def _audio_below(folder: Path, left_out: list[Path] | None) -> Iterator[tuple[str, Path]]:
    """The name and path of each audio file below a folder that is not hidden, in order."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if any(part.startswith(".") for part in name.parts) or not path.is_file():
            continue
        if path.suffix.lower() in SUFFIXES:
            yield name.as_posix(), path
        elif left_out is not None:
            left_out.append(path)


@dataclass
class Plan:
    """The sounds to embed, in batches, and those that need no embedding or cannot have one.

    names: all sounds in the order given. batches: the sounds to embed, which can be pickled. seconds: their durations by
    name. skipped: names of those done already. failures: name -> why a sound cannot be read.
    """

    names: list[str] = field(default_factory=list)
    batches: list[list[Sound]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)


def plan(
    items: Sequence[Any],
    *,
    sample_rate: int = SAMPLE_RATE,
    batch_seconds: float = BATCH_SECONDS,
    is_done: Callable[[str, Path], bool] | None = None,
) -> Plan:
    """Find the sounds that ``items`` stands for (see ``as_sounds``) and put those that are not done into batches.

    Batches run from long sounds to short ones, so that padding is small and memory runs out early if at all.

    batch_seconds: audio in a batch, padding included. is_done: whether there is an embedding of a name and a
    file already, as the folder that embeddings go to tells.

    Raises ConfigError on things that are no sounds, OutputError when two files would get one name.
    """
    sounds = as_sounds(items, sample_rate)
    planned = Plan([sound.name for sound in sounds])
    remaining: list[Sound] = []
    for sound in sounds:
        try:
            if is_done and sound.path and sound.path.is_file() and is_done(sound.name, sound.path):
                planned.skipped.append(sound.name)
            else:
                planned.seconds[sound.name] = sound.seconds()
                remaining.append(sound)
        except AudioError as error:
            planned.failures[sound.name] = str(error)
    longest = 0.0
    for sound in sorted(remaining, key=lambda sound: planned.seconds[sound.name], reverse=True):
        if not planned.batches or longest * (len(planned.batches[-1]) + 1) > batch_seconds:
            planned.batches.append([])
            longest = planned.seconds[sound.name]
        planned.batches[-1].append(sound)
    return planned
