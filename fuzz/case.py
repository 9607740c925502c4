"""A damaged file, and what was found of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

BAD = {
    "crash": "crashes",
    "hang": "hangs",
    "memory": "over memory",
    "unnamed": "unnamed errors",
    "wrong": "silent wrongs",
    "good": "good files refused",
}


@dataclass(frozen=True)
class Case:
    """A damaged file: what reads it, its name and suffix, what it was and what was done to it, its bytes.

    subject: "sound", "weights" or "checkpoint". facts: what its examiner needs to know, in JSON. origin: the undamaged file
    whose content it must still have if it is read at all; empty where it may differ.
    """

    subject: str
    name: str
    suffix: str
    story: str
    data: bytes
    facts: dict[str, Any] = field(default_factory=dict)
    origin: str = ""


@dataclass(frozen=True)
class Verdict:
    """What became of a file: "ok" (it was read), "refused" (by an error of ours that names it), or a key of BAD.

    content: a hash of what was read, empty where nothing was.
    """

    kind: str
    detail: str = ""
    content: str = ""
