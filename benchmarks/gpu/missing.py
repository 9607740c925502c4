"""Stand-ins for soundfile and soxr where they are not installed: nothing here reads a file of sound or resamples one.

Importing this puts them in place. The modules that train import those that read sounds.
"""

import importlib.util
import sys
from types import ModuleType

STANDING_IN: list[str] = []


class Missing:
    """A class, or an exception's place, of a package that is not installed."""

    def __init__(self, *arguments: object, **options: object) -> None:
        raise ImportError("soundfile is not installed; nothing here should have needed it")


class MissingError(RuntimeError):
    """Stands in for the errors of a package, which are never raised."""


def stand_in(name: str, **members: object) -> None:
    """Put a module of this name in place where there is none."""
    if name not in sys.modules and importlib.util.find_spec(name) is None:
        sys.modules[name] = module = ModuleType(name)
        vars(module).update(members)
        STANDING_IN.append(name)


stand_in(
    "soundfile",
    SoundFile=Missing,
    SoundFileError=MissingError,
    LibsndfileError=MissingError,
    SoundFileRuntimeError=MissingError,
)
stand_in("soxr", ResampleStream=Missing)
