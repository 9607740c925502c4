"""The plan of what is embedded: sounds by their index, in batches, window by window where there are many."""

from __future__ import annotations

import math
import os
from array import array
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from pathlib import Path
from typing import Any

from hear_axlstm.errors import OutputError
from hear_axlstm.files.ahead import held_ahead
from hear_axlstm.files.items import as_sounds
from hear_axlstm.files.outcomes import Outcome
from hear_axlstm.files.sounds import ArraySound, FileSound, Given, NoSound, Sound, Source, reason, unnamed

BATCH_SECONDS = 64.0  # audio encoded in one call, padding included
WINDOW_BATCHES = 4  # batches of sounds that are held, planned at once: a window
ASSUMED_SECONDS = 10.0  # that a sound is taken to last which is fetched elsewhere
WINDOW_SECONDS = 1.0  # that a sound counts for in them at least

IsDone = Callable[[str, Source], bool]
FailureOf = Callable[[str, Source], str]


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
    the sounds to embed, which can be pickled. order: their indices in the order of the batches. seconds: the durations of
    all sounds, NaN where they are not known. skipped: names of those done already, and there: their indices. failures:
    name -> why a sound cannot be embedded, and refused: their indices. left_out: files in folders that have other suffixes
    than audio has. pad_short: whether short sounds are padded. is_whole: whether nothing more is added.

    One thread may draw from ``batch`` while another one reads and calls ``take_failed``.
    """

    names: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    batches: list[list[Sound]] = field(default_factory=list)
    order: array[int] = field(default_factory=lambda: array("q"))
    seconds: array[float] = field(default_factory=lambda: array("d"))
    skipped: list[str] = field(default_factory=list)
    there: array[int] = field(default_factory=lambda: array("q"))
    failures: dict[str, str] = field(default_factory=dict)
    refused: set[int] = field(default_factory=set)
    left_out: list[Path] = field(default_factory=list)
    pad_short: bool = False
    is_whole: bool = False
    _failed: deque[tuple[Outcome, str, bool]] = field(default_factory=deque)  # with their places, and whether they are new
    _places: dict[str, dict[str, None]] = field(default_factory=dict)  # of sounds, in order, by the name first given
    _given: dict[str, str] = field(default_factory=dict)  # paths, by name, where each has one output

    def batch(
        self,
        sounds: Iterable[Given],
        batch_seconds: float,
        is_done: IsDone | None = None,
        failure_of: FailureOf | None = None,
        *,
        are_held: bool = True,
        at_once: float = math.inf,
        windows: Iterable[float] = repeat(math.inf),
        fetch: bool = True,
    ) -> Generator[list[Sound], None, None]:
        """Add sounds, window by window as batches are drawn, and give those to embed in batches.

        is_done, failure_of: of the folder that embeddings go to, see ``plan``. are_held: whether whoever gives the sounds
        holds them anyway. at_once: batches of sounds that are held in a window. windows: how many sounds are in each.
        fetch: whether sounds at addresses are fetched here, and not where they are decoded.
        """
        asked = (one for sound in sounds for one in self._asked(sound, is_done, failure_of))
        there = held_ahead(asked) if fetch else ((_assumed(sound), False) for sound in asked)
        for window in self._windows(there, at_once * batch_seconds, are_held, iter(windows)):
            remaining = [one for sound in self._named(window, is_done) for one in self._measured(sound)]
            batches = _batches(remaining, batch_seconds)
            self.order.extend(sound.index for batch in batches for sound in batch)
            yield from batches

    def take_failed(self) -> Iterator[Outcome]:
        """Record the failures that were found since the last time. Gives those that the folder does not know yet."""
        while self._failed:
            outcome, place, is_new = self._failed.popleft()
            add_failure(self.failures, outcome.name, place or None, outcome.failure)
            self.refused.add(outcome.index)
            if is_new and outcome.source is not None:
                yield outcome

    def tell_apart(self) -> None:
        """Call a sound by its path or address where another came by its name in a later window."""
        own = {name: next(iter(places)) for name, places in self._places.items() if len(places) > 1}
        for index, name in enumerate(self.names if own else ()):
            if self.paths[index] and own.get(name):
                self.names[index] = own[name]
        for name in own.keys() & self.failures.keys():
            self.failures[own[name] or name] = self.failures.pop(name)

    def _asked(self, sound: Given, is_done: IsDone | None, failure_of: FailureOf | None) -> list[Given]:
        """Add a sound. Returns it, with its source, unless it is done or failed before, or was given for the same output."""
        sound = _with_source(sound)
        path = sound.source.path if sound.source else sound.place
        if is_done and sound.source:
            if self._given.get(sound.name) == path:
                return []
            self._given.setdefault(sound.name, path)
        sound = replace(sound, index=len(self.names))
        self.names.append(sound.name)
        self.paths.append(path)
        self.seconds.append(math.nan)
        if not is_done or sound.source is None:
            return [sound]
        try:
            if is_done(sound.name, sound.source):
                if not isinstance(sound, NoSound):
                    self.skipped.append(sound.name)
                    self.there.append(sound.index)
                    return []
                why = sound.reason  # an embedding is kept of what is not there any more
            else:
                why = failure_of(sound.name, sound.source) if failure_of else ""
        except OutputError as error:
            why = reason(error, sound.name)
        if why:
            why = unnamed(sound.reason, sound.name) if isinstance(sound, NoSound) else why
            self._fail(sound, why, is_new=False)
        return [] if why else [sound]

    def _windows(
        self, sounds: Iterable[tuple[Given, bool]], seconds: float, are_held: bool, counts: Iterator[float]
    ) -> Iterator[list[Given]]:
        """The sounds in groups of as many as ``counts``, of which those that need memory come to ``seconds`` of audio.

        Files need none before they are decoded, nor do sounds that are held anyway; what was fetched does, as the flags say.
        """
        window, total, most = list[Given](), 0.0, next(counts)
        for sound, is_fetched in sounds:
            there = sound
            if isinstance(sound, ArraySound) and (is_fetched or not are_held):
                there = _tried(sound)
                total += max(there.seconds, WINDOW_SECONDS)
            window.append(there)
            if total >= seconds or len(window) >= most:
                yield window
                window, total, most = [], 0.0, next(counts)
        self.is_whole = True
        yield window

    def _named(self, window: list[Given], is_done: IsDone | None) -> list[Given]:
        """The sounds of a window under the names that tell them apart; those that go to a folder are told apart there."""
        if is_done:
            return window
        window = told_apart(window, self._places)
        for sound in window:
            self.names[sound.index] = sound.name
        return window

    def _measured(self, sound: Given) -> list[Sound]:
        """The sound with its duration, where there is one."""
        try:
            found = sound.measured()
        except Exception as error:  # whatever is wrong with a sound ends nothing
            self._fail(sound, reason(error, sound.name))
            return []
        assert not isinstance(found, NoSound)
        self.seconds[found.index] = found.seconds
        return [replace(found, pad=self.pad_short)]

    def _fail(self, sound: Given, why: str, *, is_new: bool = True) -> None:
        outcome = Outcome(sound.name, sound.source, failure=why, index=sound.index, seconds=math.nan)
        self._failed.append((outcome, sound.place, is_new))


def _tried(sound: ArraySound) -> ArraySound:
    """The sound with its duration, where anything says it; the plan records why not."""
    try:
        return sound.measured()
    except Exception:
        return sound


def _with_source(sound: Given) -> Given:
    """The sound with what it is made from, as that is now."""
    if isinstance(sound, FileSound):
        try:
            return replace(sound, source=Source.of(sound.path))
        except Exception as error:  # whatever is wrong with a sound ends nothing
            return NoSound(sound.name, reason(error, sound.name), sound.path, source=_nowhere(sound))
    return sound if sound.source or not sound.place else replace(sound, source=_nowhere(sound))


def _nowhere(sound: Given) -> Source:
    """The source of a sound of which only the place is known."""
    return Source(os.path.abspath(sound.path) if sound.path else sound.place)


def plan(
    items: Any,
    *,
    sample_rate: float | None = None,
    batch_seconds: float = BATCH_SECONDS,
    pad_short: bool = False,
    is_done: IsDone | None = None,
    failure_of: FailureOf | None = None,
) -> Plan:
    """Find the sounds that ``items`` stands for (see ``as_sounds``) and put those that are not done into batches.

    Batches run from long sounds to short ones, so that padding is small and memory runs out early if at all.

    batch_seconds: audio in a batch, padding included. pad_short: whether sounds too short to embed are padded.
    is_done: whether there is an embedding of a name and of a file as it is now, as the folder that embeddings go to tells.
    It raises OutputError where the name is another file's; that sound is a failure. Without it, files that share a name are
    called by their paths. failure_of: why a sound failed before, as the folder tells, which is then not tried again; empty
    where it did not.

    Raises ConfigError and AudioError as ``as_sounds`` does.
    """
    planned = Plan(pad_short=pad_short)
    sounds = as_sounds(items, sample_rate, planned.left_out, expand=True)
    planned.batches = list(planned.batch(sounds, batch_seconds, is_done, failure_of))
    for _ in planned.take_failed():
        pass
    return planned


def _assumed(sound: Given) -> Given:
    """A sound at an address as it was given, with a duration that nobody has looked up."""
    if not isinstance(sound, ArraySound):
        return sound
    return replace(sound, samples=sound.address, seconds=ASSUMED_SECONDS)


def add_failure(failures: dict[str, str], name: str, path: object, why: str) -> None:
    """Record why a sound has no embedding; by its path where another one of the same name failed, too."""
    failures[name if failures.get(name, why) == why or path is None else str(path)] = why


def _batches(sounds: Iterable[Sound], batch_seconds: float) -> list[list[Sound]]:
    batches: list[list[Sound]] = []
    longest = 0.0
    for sound in sorted(sounds, key=lambda sound: sound.seconds, reverse=True):
        if not batches or longest * (len(batches[-1]) + 1) > batch_seconds:
            batches.append([])
            longest = sound.seconds
        batches[-1].append(sound)
    return batches
