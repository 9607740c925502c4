"""The plan of what is embedded: sounds by their index, in batches, window by window where they are not all in memory."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hear_axlstm.errors import AudioError, OutputError
from hear_axlstm.files.items import as_sounds
from hear_axlstm.files.sounds import ArraySound, FileSound, Given, NoSound, Sound, Source

BATCH_SECONDS = 64.0  # audio encoded in one call, padding included
WINDOW_BATCHES = 4  # batches of sounds that are held, planned at once: a window
WINDOW_SECONDS = 1.0  # that a sound counts for in them at least

IsDone = Callable[[str, Source], bool]


def told_apart(sounds: Sequence[Given], places: dict[str, dict[str, None]] | None = None) -> list[Given]:
    """The sounds, where several share a name called by their paths and addresses as they were given.

    places: of those before them, in order, by name; these are added.
    """
    places = {} if places is None else places
    for sound in sounds:
        places.setdefault(sound.name, {})[sound.place] = None
    return [replace(sound, name=sound.place) if sound.place and len(places[sound.name]) > 1 else sound for sound in sounds]


@dataclass
class Plan:
    """The sounds to embed, in batches, and those that need no embedding or cannot have one.

    names: all sounds in the order given. paths: theirs, absolute, or their addresses, empty for sounds in memory. batches:
    the sounds to embed, which can be pickled. order: their indices in the order of the batches. seconds: their durations by
    their index among the names. skipped: names of those done already, and there: their indices. failures: name -> why a
    sound cannot be embedded. left_out: files in folders that have other suffixes than audio has. pad_short: whether short
    sounds are padded. is_whole: whether nothing more is added.
    """

    names: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    batches: list[list[Sound]] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    seconds: dict[int, float] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    there: list[int] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    left_out: list[Path] = field(default_factory=list)
    pad_short: bool = False
    is_whole: bool = False
    _places: dict[str, dict[str, None]] = field(default_factory=dict)  # of sounds, in order, by the name first given

    def add(self, sound: Given) -> None:
        self.names.append(sound.name)
        self.paths.append(os.path.abspath(sound.path) if sound.path else sound.place)

    def batch(
        self,
        sounds: Iterable[Given],
        batch_seconds: float,
        is_done: IsDone | None = None,
        *,
        are_held: bool = True,
        at_once: float = math.inf,
    ) -> Iterator[list[Sound]]:
        """Add sounds, window by window as batches are drawn, and give those to embed in batches.

        are_held: whether whoever gives the sounds holds them anyway. at_once: batches of sounds that are held in a window.
        """
        planned_for: set[tuple[str, str]] = set()
        for window in self._windows(sounds, at_once * batch_seconds, are_held):
            remaining: list[Sound] = []
            for given in window if is_done else told_apart(window, self._places):
                remaining += self._taken(given, is_done, planned_for)
            batches = _batches(remaining, batch_seconds)
            self.order += [sound.index for batch in batches for sound in batch]
            yield from batches

    def tell_apart(self) -> None:
        """Call a sound by its path or address where another came by its name in a later window."""
        own = {name: next(iter(places)) for name, places in self._places.items() if len(places) > 1}
        for index, name in enumerate(self.names):
            if self.paths[index] and own.get(name):
                self.names[index] = own[name]
        for name in own.keys() & self.failures.keys():
            self.failures[own[name] or name] = self.failures.pop(name)

    def _windows(self, sounds: Iterable[Given], seconds: float, are_held: bool) -> Iterator[list[Given]]:
        """The sounds in groups of which those that need memory come to ``seconds`` of audio.

        Files need none before they are decoded, nor do sounds that are held anyway; what is fetched does.
        """
        window, total = list[Given](), 0.0
        for sound in sounds:
            there = _held(sound)
            if isinstance(there, ArraySound) and (there is not sound or not are_held):
                there = replace(there, seconds=_seconds(there))
                total += max(there.seconds, WINDOW_SECONDS)
            window.append(there)
            if total >= seconds:
                yield window
                window, total = [], 0.0
        self.is_whole = True
        yield window

    def _taken(self, sound: Given, is_done: IsDone | None, planned_for: set[tuple[str, str]]) -> list[Sound]:
        """Add a sound. Returns it, with what is known of it, where it is to be embedded."""
        index, remaining = len(self.names), list[Sound]()
        try:
            if isinstance(sound, FileSound):
                source = Source.of(sound.path)
                sound = replace(sound, source=source)
                if is_done and (sound.name, source.path) in planned_for:
                    return []  # given twice, for one output
                planned_for.add((sound.name, source.path))
                if is_done and is_done(sound.name, source):
                    self.add(sound)
                    self.skipped.append(sound.name)
                    self.there.append(index)
                    return []
            seconds = sound.measured()
        except Exception as error:  # whatever is wrong with a sound ends nothing
            add_failure(self.failures, sound.name, sound.place or None, reason(error, sound.name))
        else:
            assert not isinstance(sound, NoSound)
            self.seconds[index] = seconds
            remaining.append(replace(sound, index=index, seconds=seconds, pad=self.pad_short))
        self.add(sound)
        return remaining


def _held(sound: Given) -> Given:
    """The sound, fetched where that is needed, or why it could not be."""
    if not isinstance(sound, ArraySound):
        return sound
    try:
        return sound.held()
    except Exception as error:  # whatever is wrong with a sound ends nothing
        return NoSound(sound.name, reason(error, sound.name), address=sound.address)


def _seconds(sound: Given) -> float:
    """How long a sound is, 0 where nothing says it; the plan records why."""
    try:
        return sound.measured()
    except Exception:
        return 0.0


def plan(
    items: Any,
    *,
    sample_rate: float | None = None,
    batch_seconds: float = BATCH_SECONDS,
    pad_short: bool = False,
    is_done: IsDone | None = None,
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
    planned.batches = list(planned.batch(sounds, batch_seconds, is_done))
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
