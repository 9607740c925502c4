"""What must not be divided between learning and testing: copies of one file, and sounds of one group."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hear_axlstm.classification.labelled import Labelled
from hear_axlstm.errors import ConfigError
from hear_axlstm.progress import several
from hear_axlstm.storage import sha256_of

Indices = NDArray[np.intp]


def find_copies(paths: Sequence[Path | None]) -> list[list[int]]:
    """The places of files that have the same content, as lists of two or more. A file that cannot be read has no copies."""
    by_size: dict[int, list[int]] = defaultdict(list)
    by_content: dict[str, list[int]] = defaultdict(list)
    for place, path in enumerate(paths):
        with suppress(OSError):
            if path is not None:
                by_size[os.stat(path).st_size].append(place)
    for places in by_size.values():
        for place in places if len(places) > 1 else []:
            with suppress(OSError):
                by_content[sha256_of(paths[place] or Path())].append(place)
    return [places for places in by_content.values() if len(places) > 1]


def find_units(count: int, groups: Sequence[str] = (), copies: Iterable[Sequence[int]] = ()) -> Indices:
    """A number for each sound, the same for those that belong together. Shape: -> (count,).

    groups: of each sound, empty text for a sound by itself; or no groups at all. copies: as ``find_copies`` gives them.

    >>> find_units(5, ["Tom", "Rex", "Tom", "", ""], [[3, 1]]).tolist()
    [0, 3, 0, 3, 4]
    """
    units, first = np.arange(count), dict[str, int]()
    for place, group in enumerate(groups):
        if group:
            units[place] = first.setdefault(group, place)
    for places in copies:
        units[np.isin(units, units[list(places)])] = units[places[0]]
    return units


def check_apart(learnt: Labelled, tested: Labelled) -> None:
    """Raise ConfigError where sounds of a test are copies of sounds that are learnt from, or of one group with such."""
    count, groups = len(learnt.sounds), set(learnt.groups) - {""}
    copies = find_copies([sound.path for sound in [*learnt.sounds, *tested.sounds]])
    known = [place - count for places in copies if places[0] < count for place in places if place >= count]
    grouped = [place for place, group in enumerate(tested.groups) if group in groups]
    whole = several(len(tested.sounds), "test sound")
    if known:
        is_copy = "is a copy" if len(known) == 1 else "are copies"
        raise ConfigError(
            f"{len(known)} of the {whole} {is_copy} of sounds that are learnt from, such as "
            f"{tested.sounds[min(known)].name}: to guess them is no proof; take them out of the test"
        )
    if grouped:
        first = grouped[0]
        raise ConfigError(
            f"{len(grouped)} of the {whole} {'is' if len(grouped) == 1 else 'are'} of groups that are learnt from, such as "
            f"{tested.sounds[first].name} of {tested.groups[first]!r}: to guess them is no proof; take them out of the "
            "test, or give the groups other names there if they are others"
        )
