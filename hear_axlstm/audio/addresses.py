"""Sounds at addresses, such as https://..., s3://... and file://..., fetched whole by fsspec, which also lists folders."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, NamedTuple, cast
from urllib.parse import unquote, urlsplit

from hear_axlstm.errors import AudioError

ADDRESS = re.compile(r"([A-Za-z][\w+.-]+::)*[A-Za-z][\w+.-]+://")  # fsspec chains them: zip://a.wav::https://...
LOCAL = "file://"
WEB = ("http://", "https://")  # whose folders are pages for people
CHANGED = ("mtime", "LastModified", "last_modified", "updated", "created")  # what file systems call a file's time of change
LARGEST = 4 << 30  # bytes that are fetched
IN_MEMORY = 32 << 20  # bytes; more go to a temporary file
PIECE = 1 << 20  # bytes that are read at once


def is_address(text: str) -> bool:
    """Whether a text is an address rather than a path.

    >>> is_address("https://here.org/wren.wav"), is_address("birds/wren.wav"), is_address("C:/wren.wav")
    (True, False, False)
    """
    return ADDRESS.match(text) is not None


def name_at(address: str) -> str:
    """The last part of an address, as a file's name.

    >>> name_at("https://here.org/birds/a%20wren.wav?size=1"), name_at("memory://wren.wav")
    ('a wren.wav', 'wren.wav')
    """
    parts = urlsplit(_chain(address)[0])
    return unquote((parts.path.rstrip("/") or parts.netloc).rpartition("/")[2]) or address


def short_name(sound: Any) -> str:
    """The last part of a path or an address; "sound" of what is neither.

    >>> short_name("birds/wren.wav"), short_name("https://a.org/wren.wav?b"), short_name("birds/"), short_name(b"fLaC")
    ('wren.wav', 'wren.wav', 'birds', 'sound')
    """
    if not isinstance(sound, str | os.PathLike):
        return "sound"
    place = os.fsdecode(sound)
    return name_at(place) if is_address(place) else os.path.basename(place.rstrip("/")) or place


def full_name_at(address: str) -> str:
    """An address as a path that is no other address's: host or bucket, path and query; of a chain the outermost first.

    >>> full_name_at("https://me:secret@here.org/birds/a%20wren.wav?size=1"), full_name_at("zip://a.wav::s3://sounds/x.zip")
    ('here.org/birds/a wren.wav?size=1', 'sounds/x.zip/a.wav')
    """
    found = []
    for part in reversed(_chain(address)):
        parts = urlsplit(part)
        query = f"?{parts.query}" if parts.query else ""
        found += f"{parts.netloc.rpartition('@')[2]}{unquote(parts.path)}{query}".split("/")
    return "/".join("_" if part == ".." else part for part in found if part not in ("", "."))


class Listed(NamedTuple):
    """A file below a folder at an address. name: inside that folder. size in bytes, modified in ns since 1970; -1: unknown.

    failure: why a folder of this name cannot be listed; empty for a file.
    """

    name: str
    address: str
    size: int = -1
    modified: int = -1
    failure: str = ""


def is_folder(address: str) -> bool:
    """Whether there is a folder at an address, as far as that can be asked; those of the web are not."""
    if _chain(address)[0].lower().startswith(WEB):
        return False
    with suppress(Exception):  # of whatever library asks there; fetching tells what is wrong
        files, path = _file_system(address)
        return bool(files.isdir(path))
    return False


def files_below(address: str) -> Iterator[Listed]:
    """The files below a folder at an address, but for hidden ones, in order; each folder is listed when it is reached."""
    files, root = _file_system(address)
    waiting = [("", root)]
    while waiting:
        here, path = waiting.pop()
        try:
            found = sorted((info["name"].rstrip("/"), info) for info in files.ls(path, detail=True))
        except Exception as error:  # of whatever library lists there
            yield Listed(here, _inside(address, here), failure=f"a folder that cannot be listed: {_why(error)}")
            continue
        folders = []
        for full, info in found:
            last = full.rpartition("/")[2]
            name = f"{here}/{last}" if here else last
            if full == path.rstrip("/") or last.startswith("."):  # some list the folder itself
                continue
            if info["type"] == "directory":
                folders.append((name, full))
            else:
                size, modified = info.get("size"), next((info[key] for key in CHANGED if info.get(key)), None)
                yield Listed(name, _inside(address, name), -1 if size is None else int(size), _nanoseconds(modified))
        waiting += reversed(folders)


def local_path(address: str) -> str | None:
    """The path that a file:// address means, as it stands or, where nothing is there, quoted; None for other addresses."""
    if not address.startswith(LOCAL):
        return None
    path = address.removeprefix(LOCAL)
    return path if os.path.exists(path) else unquote(path)  # as Path.as_uri() quotes it, of which fsspec knows nothing


def fetched(address: str) -> BinaryIO:
    """What is at an address, whole, in memory or in a temporary file. Raises AudioError, without the name."""
    try:
        import fsspec
    except ImportError as error:
        raise AudioError("is an address, which fsspec fetches: pip install 'hear-axlstm[urls]', or download it") from error
    if (path := local_path(address)) is not None:
        address = f"{LOCAL}{path}"
    try:
        with fsspec.open(address, "rb") as file:
            return whole(file, "download it, and pass the file")
    except AudioError:
        raise
    except Exception as error:  # of whatever library fetches from there
        raise AudioError(_why(error)) from error


def whole(file: Any, advice: str) -> BinaryIO:
    """All that comes out of a file, in memory or in a temporary file. Raises AudioError, without the name, on too much.

    advice: what to do then.
    """
    content = SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 - whoever reads it closes it
    while piece := file.read(PIECE):
        content.write(piece)
        if content.tell() > LARGEST:
            raise AudioError(f"holds more than {LARGEST >> 30} GB; {advice}")
    size = content.tell()
    content.seek(0)
    return io.BytesIO(content.read()) if size <= IN_MEMORY else cast(BinaryIO, content)


def _chain(address: str) -> list[str]:
    """The addresses that one is a chain of, from the innermost on: fsspec joins them by ::."""
    return [part for part in address.split("::") if "://" in part] if "::" in address else [address]


def _file_system(address: str) -> tuple[Any, str]:
    """What lists an address's folders, as they are now, and the path there. Raises what fsspec raises."""
    import fsspec

    files, path = fsspec.core.url_to_fs(address, use_listings_cache=False)
    return files, path


def _inside(address: str, name: str) -> str:
    """The address of what has a name inside the folder at an address."""
    first, chained, rest = address.partition("::")
    if "://" not in first:  # a cache, say
        return f"{first}{chained}{_inside(rest, name)}"
    return f"{first.rstrip('/') if not first.endswith('://') else first}/{name}{chained}{rest}" if name else address


def _nanoseconds(time: Any) -> int:
    """A time of change in ns since 1970, from seconds, a datetime or its text; -1 where it is none."""
    with suppress(ValueError, TypeError, OverflowError):
        if isinstance(time, str):
            time = datetime.fromisoformat(time)
        return int((time.timestamp() if isinstance(time, datetime) else float(time)) * 1e9)
    return -1


def _why(error: BaseException) -> str:
    """What went wrong, by the first cause; without addresses, which may have secrets in them."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, FileNotFoundError) or getattr(error, "status", None) == 404:
        return "there is nothing at this address; mend it"
    if isinstance(error, ModuleNotFoundError):
        package = "'hear-axlstm[urls]'" if error.name == "aiohttp" else error.name
        return f"is fetched by {error.name}, which is missing: pip install {package}, or download it"
    said = re.sub(r"\w+://\S+", "it", str(error).partition("\n")[0])[:200]
    return f"cannot be fetched ({type(error).__name__}: {said}); mend the address, or download it"
