"""Sounds at addresses, such as https://..., s3://... and file://..., fetched whole by fsspec."""

from __future__ import annotations

import io
import os
import re
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, cast
from urllib.parse import unquote, urlsplit

from hear_axlstm.errors import AudioError

ADDRESS = re.compile(r"([A-Za-z][\w+.-]+::)*[A-Za-z][\w+.-]+://")  # fsspec chains them: zip://a.wav::https://...
LOCAL = "file://"
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
    first = address if "::" not in address else next(part for part in address.split("::") if "://" in part)
    parts = urlsplit(first)
    return unquote((parts.path.rstrip("/") or parts.netloc).rpartition("/")[2]) or address


def fetched(address: str) -> BinaryIO:
    """What is at an address, whole, in memory or in a temporary file. Raises AudioError, without the name."""
    try:
        import fsspec
    except ImportError as error:
        raise AudioError("is an address, which fsspec fetches: pip install 'hear-axlstm[urls]', or download it") from error
    if address.startswith(LOCAL) and not os.path.exists(address.removeprefix(LOCAL)):
        address = unquote(address)  # as Path.as_uri() quotes it, of which fsspec knows nothing
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
