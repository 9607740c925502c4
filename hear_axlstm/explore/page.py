"""A map -> one HTML page that needs nothing else: script, style and numbers are inside, and no network.

Texts are JSON in which no character can end the script that holds it; numbers are arrays in base64, which keeps pages small.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hear_axlstm.audio.addresses import LOCAL, is_address
from hear_axlstm.config import require
from hear_axlstm.errors import ConfigError
from hear_axlstm.explore import colours
from hear_axlstm.files.folder import is_gone
from hear_axlstm.progress import printable, several
from hear_axlstm.version import __version__

if TYPE_CHECKING:
    from hear_axlstm.explore.map import SoundMap

HERE = Path(__file__).parent
FINE = 65_535  # steps of an axis
# How a sound can be heard: from its file, or not at all.
FILE, GONE, ADDRESS, MEMORY = range(4)


def to_page(drawn: SoundMap) -> str:
    """The page as HTML in one text. Raises ConfigError without jinja2."""
    shapes = [colours.SHAPES[place // len(colours.COLOURS)] for place in range(colours.MOST)]
    return filled("map", "a map's page", _data(drawn), drawn=drawn, shapes=shapes)


def filled(name: str, what: str, data: dict[str, Any], **facts: Any) -> str:
    """The page of NAME.html.jinja, with its style, its script and what that reads inside. Raises ConfigError without jinja2.

    what: needs jinja2, for the error. data: for the script. facts: for the template.
    """
    environment = templates(HERE, what, "explore")
    from markupsafe import Markup

    style = environment.get_template(f"{name}.css.jinja").render(colours=colours)
    script = "".join((HERE / file).read_text(encoding="utf-8") for file in ("page.js", f"{name}.js"))
    page = environment.get_template(f"{name}.html.jinja").render(
        **facts,
        colours=colours,
        several=several,
        printable=printable,
        version=__version__,
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        style_hash=_hash(style),
        script_hash=_hash(script),
        data=Markup(_harmless(data)),  # noqa: S704 - it escapes what HTML would read
    )
    return page + "\n"


def templates(folder: Path, what: str, extra: str) -> Any:
    """The templates in a folder, which escape what they are given, as all pages of the package are made.

    Raises ConfigError without jinja2. what: needs it. extra: of this package, which brings it.
    """
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise ConfigError(f"{what} needs jinja2: pip install 'hear-axlstm[{extra}]'") from error
    loader = FileSystemLoader(folder)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def writable(target: Path) -> Path:
    """The path of a page or a picture to write. Raises ConfigError where none can be written."""
    require(not target.is_dir(), f"{target} is a folder; expected a file to write to")
    above = next(parent for parent in target.absolute().parents if parent.exists())
    can_write = above.is_dir() and os.access(above, os.W_OK | os.X_OK)
    require(can_write, f"{target} cannot be written: {above} is no folder, or you may not write to it; choose another place")
    return target


def _hash(text: str) -> str:
    """By which a page's policy knows the one script that may run in it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _harmless(data: dict[str, Any]) -> str:
    """Data as JSON in ASCII, without a character that HTML reads."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _data(drawn: SoundMap) -> dict[str, Any]:
    """All that the script needs to know of a map of N sounds."""
    names = list(map(printable, drawn.names))
    roots, root_of = _numbered([_root(*one) for one in zip(names, drawn.names, drawn.paths, strict=True)])
    folders, folder_of = _numbered(list(map(printable, drawn.folders)))
    texts, text_of = _numbered(drawn.colouring.texts)
    return {
        "names": names,
        "roots": roots,
        "folders": folders,
        "texts": texts,
        "rootOf": packed(root_of, np.uint32),
        "folderOf": packed(folder_of, np.uint32),
        "textOf": packed(text_of, np.uint32),
        "heard": packed([_heard(path) for path in drawn.paths], np.uint8),
        "seconds": packed(drawn.seconds, np.float32),
        "places": packed(np.round(drawn.places * FINE), np.uint16),
        "codes": packed(drawn.colouring.codes, np.uint8),
        "neighbours": packed(drawn.neighbours, np.uint16),
        "cosines": packed(np.round(drawn.cosines * 100), np.int8),
        "scale": drawn.colouring.kind != "category",
        "colours": len(colours.COLOURS),
        "others": colours.MOST,
    }


def packed(numbers: Any, kind: Any) -> str:
    """Numbers as bytes, the lowest first, in base64."""
    array: NDArray[Any] = np.asarray(numbers).astype(np.dtype(kind).newbyteorder("<"))
    return base64.b64encode(array.tobytes()).decode()


def _numbered(texts: list[str]) -> tuple[list[str], list[int]]:
    """The different texts, and the number among them of each."""
    numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    return list(numbers), [numbers[text] for text in texts]


def _root(shown: str, name: str, path: str) -> str:
    """The address of a sound's file without its name where that is its end and the root ends in "/"; else all of it."""
    if not path or is_address(path):
        return path
    whole = os.path.abspath(path)
    if whole.endswith(f"/{name}") and shown == name:
        root = PurePath(whole[: -len(name)]).as_uri()
        return root if root.endswith("/") else f"{root}/"
    return PurePath(whole).as_uri()


def _heard(path: str) -> int:
    if is_address(path) and not path.startswith(LOCAL):
        return ADDRESS
    return MEMORY if not path else GONE if is_gone(path) else FILE
