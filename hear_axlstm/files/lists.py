"""Lists of sounds in text files, one path or address a line, and what is found at an address: a sound, or a folder."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from hear_axlstm.audio import containers
from hear_axlstm.audio.addresses import files_below, full_name_at, is_address, is_folder, local_path, name_at
from hear_axlstm.errors import ConfigError
from hear_axlstm.files.find import SUFFIXES, as_text, below, is_audio, named_file
from hear_axlstm.files.sounds import ArraySound, Given, NoSound, Source, unnamed

LIST_SUFFIXES = (".txt", ".lst", ".list")
BOM = b"\xef\xbb\xbf"  # that some editors begin a text with
HEAD = 1 << 12  # bytes that tell whether a file is text
LONGEST = 1 << 16  # bytes of a line that are read as one: a path is shorter


@dataclass(frozen=True)
class SoundList:
    """A text file with a path or an address a line; blank lines and those that begin with # are passed over.

    name: its path. file: what is read instead, such as stdin.
    """

    name: str
    file: BinaryIO | None = None

    def check(self) -> None:
        """Raise ConfigError where the list cannot be read, is no text, or has nothing in it. Stdin is not looked at."""
        if self.file is None:
            with closing(self.entries()) as entries:
                next(entries)

    def entries(self) -> Generator[tuple[int, str], None, None]:
        """The number of each line and what it says. Raises ConfigError as ``check`` does."""
        count = 0
        with self._opened() as file:
            for number, line in enumerate(iter(lambda: file.readline(LONGEST), b""), 1):
                text = os.fsdecode(line.removeprefix(BOM if number == 1 else b"").rstrip(b"\r\n"))
                if text.strip() and not text.startswith("#"):
                    count += 1
                    yield number, text if text == text.strip() or os.path.lexists(text) else text.strip()
        if not count:
            raise ConfigError(f"{self.name} is an empty list; expected paths or addresses, one a line")

    def sounds(self, left_out: list[Path] | None) -> Iterator[Given]:
        """The sounds that are listed, folders searched, under names that are their paths. Raises as ``check`` does."""
        for number, text in self.entries():
            for sound in _listed(text, left_out):
                if isinstance(sound, NoSound):
                    why = unnamed(sound.reason, sound.place)
                    sound = replace(sound, reason=f"line {number} of {self.name}: {why}")
                yield sound

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        if self.file is not None:
            yield self.file
            return
        try:
            file = open(self.name, "rb")  # noqa: SIM115
        except OSError as error:
            raise ConfigError(f"{self.name} cannot be read ({error.strerror}); expected a list of sounds") from error
        with file:
            if b"\0" in file.read(HEAD):
                raise ConfigError(f"{self.name} is no text; expected a list, one path or address a line")
            file.seek(0)
            yield file


def as_list(item: Any) -> SoundList | None:
    """The list that an item is, or a path leads to; None for all else."""
    if isinstance(item, SoundList):
        return item
    if not (isinstance(item, str | os.PathLike) and os.fsdecode(item)[-5:].lower().endswith(LIST_SUFFIXES)):
        return None
    path = as_text(item)
    return SoundList(path) if os.path.isfile(path) else None


def at_address(address: str, left_out: list[Path] | None, name: str = "") -> Iterable[Given]:
    """The sound at an address, or all audio files below it, where it is a folder: of an object store, say.

    name: what the sound is called, or stands before the names of those below; the last part of the address, or nothing.
    """
    if not is_audio(Path(name_at(address))):
        path = local_path(address)
        if path is not None and os.path.isdir(path):
            return _inside(below(path, left_out), name)
        if path is None and is_folder(address):
            return _audio_below(address, left_out, name)
    return [ArraySound(name or name_at(address), address, address=address, source=Source(address))]


def _listed(text: str, left_out: list[Path] | None) -> Iterable[Given]:
    """What a line of a list stands for."""
    if is_address(text):
        return at_address(text, left_out, full_name_at(text))
    path = Path(as_text(text))
    name = _name_of(path)
    if as_list(path):
        return [NoSound(name, "a list in a list; pass each list by itself", path)]
    return _inside(below(path, left_out), name) if os.path.isdir(path) else [named_file(name, path)]


def _name_of(path: str | Path) -> str:
    """A path as it is written, as a name that leads nowhere else: absolute where it leads up, without its first /."""
    plain = os.path.normpath(path)
    if Path(plain).parts[:1] == ("..",):
        plain = os.path.abspath(plain)
    return Path(plain).relative_to(Path(plain).anchor).as_posix()


def _inside(sounds: Iterable[Given], folder: str) -> Iterator[Given]:
    """The sounds of a folder, with its name before theirs."""
    return (replace(sound, name=f"{folder}/{sound.name}") if folder not in ("", ".") else sound for sound in sounds)


def _audio_below(address: str, left_out: list[Path] | None, folder: str) -> Iterator[Given]:
    """Each audio file below a folder at an address, as it is listed there."""
    suffixes = SUFFIXES | containers.SUFFIXES if containers.is_there() else SUFFIXES
    for found in files_below(address):
        name = "/".join(part for part in (folder, found.name) if part) or name_at(address)
        if found.failure:
            yield NoSound(name, found.failure, address=found.address)
        elif PurePosixPath(found.name).suffix.lower() in suffixes:
            source = Source(found.address, found.size, found.modified)
            yield ArraySound(name, found.address, address=found.address, source=source)
        elif left_out is not None:
            left_out.append(Path(found.address))
