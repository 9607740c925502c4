"""The folder that a run writes to: checked at once, opened when there is something to write, asked what is done."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from hear_axlstm.config import MIN_SAMPLES, SAMPLE_RATE
from hear_axlstm.errors import ConfigError
from hear_axlstm.files.folder import EmbeddingFolder
from hear_axlstm.files.items import are_held, is_one
from hear_axlstm.files.settings import read_settings
from hear_axlstm.files.sounds import ArraySound, FileSound, Given, NoSound, Source, reason
from hear_axlstm.files.write import Place

UNWRITABLE = "arrays cannot be written to a folder"


def is_short(seconds: float) -> bool:
    """Whether a sound is too short to embed."""
    return round(seconds * SAMPLE_RATE) < MIN_SAMPLES


class Target:
    """A folder for embeddings, which is opened with the first sound that can be embedded, or that may be there already.

    out: where it is; ``~`` is the user's home. items: what is embedded, as it was given. folder: None before it is opened.
    pruned: names of embeddings that were removed since their sounds are not there any more.

    Raises ConfigError where ``out`` is no place for embeddings.
    """

    def __init__(self, out: str | os.PathLike[str], items: Any, *, prune: bool, overwrite: bool, pad_short: bool) -> None:
        self.out = Path(os.path.expanduser(out))
        self.folder: EmbeddingFolder | None = None
        self.pruned: list[str] = []
        self._prune, self._pad_short = prune, pad_short
        self._is_continued = not overwrite and read_settings(self.out) is not None
        self._place = Place(self.out)
        if are_held(items):
            self._place.check_inputs([items] if is_one(items) else items)

    def opening(self, sounds: Iterable[Given], open_folder: Callable[[], EmbeddingFolder]) -> Iterator[Given]:
        """The sounds, with a failure for each array. The folder is opened on the way.

        Nothing is pruned where there is no sound at all: a disk may be missing. Raises ConfigError where embeddings would be
        among the sounds, and where all are arrays; and what ``open_folder`` raises.
        """
        has_arrays = has_others = False
        for sound in sounds:
            self._place.check(sound)
            if isinstance(sound, ArraySound) and not sound.address:
                has_arrays = True
                yield NoSound(sound.name, f"{UNWRITABLE}; save the sound to a file")
                continue
            has_others = True
            if self.folder is None:
                sound, seconds = (sound, None) if self._is_continued else _looked_at(sound)
                if self._is_continued or (seconds is not None and (self._pad_short or not is_short(seconds))):
                    self.folder = open_folder()
                    self.pruned = self.folder.prune() if self._prune else []
            yield sound
        if has_arrays and not has_others:
            raise ConfigError(f"{UNWRITABLE}; embed them without out, and then result.save('embeddings.npz')")
        if self.folder is None and self._is_continued:
            self.folder = open_folder()

    def is_done(self, name: str, source: Source) -> bool:
        """As the folder says it; before it is opened, nothing is done."""
        return self.folder is not None and self.folder.is_done(name, source)

    def failure_of(self, name: str, source: Source) -> str:
        """As the folder says it; before it is opened, nothing has failed."""
        return self.folder.failure_of(name, source) if self.folder is not None else ""


def _looked_at(sound: Given) -> tuple[Given, float | None]:
    """The sound, fetched where it is at an address, and its duration; None where it has none, and the plan records why."""
    try:
        if isinstance(sound, ArraySound):
            sound = sound.held().measured()
            return sound, sound.seconds
        return sound, sound.measured().seconds if isinstance(sound, FileSound) else None
    except Exception as error:  # whatever is wrong with a sound ends nothing
        if isinstance(sound, ArraySound):
            return NoSound(sound.name, reason(error, sound.name), address=sound.address, source=sound.source), None
        return sound, None
