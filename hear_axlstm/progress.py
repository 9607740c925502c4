"""Progress bars for whoever looks on, which never end the work, and text as a terminal can show it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from tqdm import tqdm

Bar = tqdm


def progress_bar(items: Iterable[Any] | None = None, *, shown: bool | None, desc: str = "", **options: Any) -> tqdm[Any]:
    """tqdm's bar over ``items`` on stderr, to be updated where there are none; nothing is drawn unless it is ``shown``.

    shown: None where somebody looks on, at a terminal or in a notebook.
    Without a stderr, or on one that cannot be written, the work goes on without the bar. desc: what stands before the bar.
    options: others of tqdm.
    """
    shown = somebody_looks() if shown is None else shown
    screen = _Screen(sys.stderr) if shown and sys.stderr is not None else None
    return tqdm(items, desc=printable(desc) or None, disable=screen is None, file=screen or _Screen(None), **options)


def somebody_looks() -> bool:
    """Whether stderr is a terminal, or a notebook's, which shows bars as well."""
    ipython = sys.modules.get("IPython")
    try:
        return hasattr(ipython and ipython.get_ipython(), "kernel") or sys.stderr.isatty()
    except (AttributeError, ValueError):  # none, closed, or replaced by something that is no stream
        return False


def printable(text: str) -> str:
    """The text in one line, with an escape for each character that is no letter, mark, number, sign or plain space.

    So a file's name can neither break a line nor move the cursor, and bytes that are not UTF-8 can be read.

    >>> print(printable("a\\nb\\x1b[2J\\udcff ä"))
    a\\nb\\x1b[2J\\xff ä
    """
    return text if text.isprintable() else "".join(map(_escaped, text))


def several(count: int, noun: str) -> str:
    """A number and its noun in singular or plural.

    >>> several(1, "seed"), several(1_000, "class"), several(0, "other file")
    ('1 seed', '1,000 classes', '0 other files')
    """
    ending = "" if count == 1 else "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}{ending}"


def first_of(names: Sequence[str], most: int) -> str:
    """The first names, as many as ``most``, with dots where there are more.

    >>> first_of(["a", "b", "c"], 2), first_of(["a"], 2)
    ('a, b, ...', 'a')
    """
    return ", ".join([*names[:most], *(["..."] if len(names) > most else [])])


def duration(seconds: float) -> str:
    """A time as people say it, in one unit or two.

    >>> duration(42), duration(754), duration(4_000), duration(100_000), duration(200_000)
    ('42 s', '13 min', '1 h 7 min', '28 h', '2 days 8 h')
    """
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes, hours = round(seconds / 60), round(seconds / 3_600)
    if minutes < 600:
        parts = (minutes // 60, "h"), (minutes % 60, "min")
    else:
        days = hours // 24 if hours >= 48 else 0
        parts = (days, "days"), (hours - 24 * days if days < 10 else 0, "h")
    return " ".join(f"{count:,} {unit}" for count, unit in parts if count)


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    if "\udc80" <= character <= "\udcff":  # a byte that is not UTF-8, as Python keeps it in names
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


class _Screen:
    """A text stream for a bar: what it does not take is dropped."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.encoding = getattr(stream, "encoding", None) or "ascii"  # by which tqdm chooses what it draws with

    def write(self, text: str) -> None:
        self._try("write", text)

    def flush(self) -> None:
        self._try("flush")

    def fileno(self) -> int:
        """The stream's descriptor, of which tqdm asks how wide the terminal is."""
        if self._stream is None:
            raise OSError("there is no stderr")
        return self._stream.fileno()

    def _try(self, method: str, *arguments: str) -> None:
        try:
            getattr(self._stream, method)(*arguments)
        except (OSError, ValueError, AttributeError):  # full, closed, or replaced by something that is no stream
            self._stream = None
