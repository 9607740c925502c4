"""What notebooks show of a result of ``embed`` and of a model: a small table, in the notebook's own colours.

It costs no look at the weights' values and none at a device. All texts are escaped, and cut where they are long.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from html import escape
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from hear_axlstm.config import HOP_MS, VARIANTS
from hear_axlstm.progress import duration, printable, several

if TYPE_CHECKING:
    from hear_axlstm.embedder import Embedder
    from hear_axlstm.files.result import Embedded

SHOWN = 5  # sounds, and failures
LONGEST = 120  # characters of a text
SIDES = "padding:.1em .8em .1em 0;text-align:left;vertical-align:top"
STYLE = f'style="{SIDES}"'
FAINT = f'style="{SIDES};opacity:.65;font-weight:normal"'

Shown = TypeVar("Shown")
logger = logging.getLogger(__name__)


def _in_a_notebook(html: Callable[[Shown], str]) -> Callable[[Shown], str | None]:
    """None in place of an error, which a notebook would print: it shows the repr then."""

    @wraps(html)
    def shown(what: Shown) -> str | None:
        try:
            return html(what)
        except Exception as error:  # of something that is half made, or was changed from outside
            logger.debug("a notebook shows the repr of a %s (%s)", type(what).__name__, error)
            return None

    return shown


@_in_a_notebook
def result_html(result: Embedded) -> str:
    """A result of ``embed``: what it is, its first sounds, and what failed."""
    facts = [
        ("weights", result.weights),
        ("centring", _source(result.centring)),
        ("sound", f"{duration(result.audio_seconds)} embedded" if result.audio_seconds else ""),
        ("took", ", ".join(f"{stage} {taken:.1f} s" for stage, taken in result.seconds.items() if taken >= 0.05)),
        ("folder", str(result.folder) if result.folder else ""),
        ("there already", f"{len(result.skipped):,}" if result.skipped else ""),
    ]
    rows = [
        [name, "" if math.isnan(seconds) else f"{seconds:.2f} s", "" if ok else "failed"]
        for name, seconds, ok in _first(zip(result.names, result.durations, result.ok, strict=False))
    ]
    return _joined(
        repr(result).partition("\n")[0],
        _facts(facts),
        _table(("name", "length", ""), rows, len(result.names)),
        _table((several(len(result.failures), "failure"), "why"), _first(result.failures.items()), len(result.failures)),
    )


@_in_a_notebook
def model_html(model: Embedder) -> str:
    """A model: its architecture, how it computes, and what to call next."""
    encoder = model.encoder
    config = encoder.config
    name = next((name for name, one in VARIANTS.items() if one == config), config.family)
    count = sum(parameter.numel() for parameter in encoder.parameters())
    precision, dtype = model.precision, str(model.compute_dtype).removeprefix("torch.")
    centring = encoder.centring if encoder.layout == model.layout else None
    facts = [
        ("encoder", f"{config.depth} blocks of width {config.width:,}, {count / 1e6:,.1f} million parameters"),
        ("embedding", f"{model.scene_embedding_size:,} numbers, of a scene or every {HOP_MS * config.patch[0]} ms"),
        ("layout", model.layout),
        ("computes in", f"{dtype}, precision {precision}, backend {model.backend}, on {model.device}"),
        ("centring", _source(centring) or "none: similarity takes the mean of what is compared"),
        ("takes", f"mono sound at {model.sample_rate:,} Hz, (sounds, samples), in [-1, 1]; files of any kind by embed"),
        ("next", "hear_axlstm.embed(files, model), or get_scene_embeddings(audio, model)"),
    ]
    return _joined(f"Embedder: {name}", _facts(facts))


def _source(centring: Any) -> str:
    """What a centring was measured on, in its own words."""
    return str(centring["source"]) if centring else ""


def _first(items: Iterable[Any]) -> list[Any]:
    return list(islice(items, SHOWN))


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    """A row for each fact that there is."""
    rows = (f"<tr><th {FAINT}>{what}</th><td {STYLE}>{_safe(text)}</td></tr>" for what, text in facts if text)
    return f"<table>{''.join(rows)}</table>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], count: int) -> str:
    """The first rows of ``count``, and how many more there are; nothing where there are none."""
    if not rows:
        return ""
    top = "".join(f"<th {FAINT}>{title}</th>" for title in head)
    body = "".join(f"<tr>{''.join(f'<td {STYLE}>{_safe(text)}</td>' for text in row)}</tr>" for row in rows)
    more = f'<tr><td colspan="{len(head)}" {FAINT}>and {count - len(rows):,} more</td></tr>' if count > len(rows) else ""
    return f"<table><tr>{top}</tr>{body}{more}</table>"


def _joined(title: str, *parts: str) -> str:
    return f"<div><strong>{_safe(title)}</strong>{''.join(parts)}</div>"


def _safe(text: str) -> str:
    """Any text as HTML shows it: in one line, cut where it is long."""
    line = printable(str(text)[: LONGEST + 1])
    return escape(line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…")
