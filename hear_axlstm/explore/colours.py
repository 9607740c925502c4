"""Values of sounds -> colours: categories as colours and shapes that any eye tells apart, numbers on a scale."""

from __future__ import annotations

import datetime
import decimal
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hear_axlstm.progress import printable

# Eight colours that people with any colour vision tell apart, on white and on black; what comes after has another shape.
COLOURS = ("#0b62a8", "#c8501e", "#128a5a", "#a23b8c", "#8a6d00", "#2aa3c4", "#6b4bbd", "#555555")
COLOURS_ON_BLACK = ("#5aa9f0", "#f28a4e", "#3fc48c", "#e58ad0", "#d9b93a", "#8fe0f7", "#ad95f5", "#c4c4c4")
SHAPES = (  # paths of SVG around 0
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "M-3.6-3.6h7.2v7.2h-7.2z",
    "M0-5 4.8 3.8H-4.8z",
    "M0-5.2 5.2 0 0 5.2-5.2 0z",
)
SCALE = ("#f0a43a", "#dd6a4b", "#b03f7c", "#6f2f91", "#2b1d6b")  # from low to high: always darker
SCALE_ON_BLACK = ("#6d55d8", "#b457b8", "#ec6f7f", "#f9ab57", "#fdf29a")  # always brighter
MOST = 12  # categories with a colour of their own
STEPS = 254  # of the scale
NONE = 255  # the code of a sound without a value
LARGEST = 1e300  # of numbers on a scale
WIDE = 100.0  # times the lowest number is the highest, where a scale is logarithmic

Kind = Literal["category", "number", "time"]


@dataclass(frozen=True)
class Entry:
    """A line of the legend. code: of the sounds in it. count: how many these are."""

    name: str
    code: int
    count: int


@dataclass(frozen=True)
class Colouring:
    """What N sounds are coloured by.

    codes: (N,), uint8: the entry's in the legend, or the place on the scale, from 0 to 254; 255 without a value. texts: what
    is said of each. legend: of categories, and of sounds without a value. low, high: the ends of a scale. logarithmic:
    whether the scale is.
    """

    column: str
    kind: Kind
    codes: NDArray[np.uint8]
    texts: list[str]
    legend: list[Entry]
    low: str = ""
    high: str = ""
    logarithmic: bool = False


def colour(column: str, values: Sequence[Any]) -> Colouring:
    """The colours of sounds by a value each: numbers, dates, or anything else as categories. None and NaN are no value.

    Whole numbers are categories where there are no more than MOST of them. Of more categories, the most frequent have a
    colour, and the others one together.
    """
    given = [None if _is_missing(value) else _plain(value) for value in values]
    there = [value for value in given if value is not None]
    if there and all(isinstance(value, int | float) and abs(value) < LARGEST for value in there):
        whole = all(isinstance(value, int) for value in there)
        if not whole or len(set(there)) > MOST:
            return _scale(column, "number", given)
    elif there and all(isinstance(value, datetime.datetime) for value in there):
        return _scale(column, "time", given)
    return _categories(column, ["" if value is None else printable(str(value)) for value in given])


def _is_missing(value: Any) -> bool:
    if isinstance(value, float | np.floating):
        return not math.isfinite(value)
    return value is None or value == "" or value != value  # pandas' NaT


def _plain(value: Any) -> Any:
    """A value as text, a number or a date without a zone; numbers of numpy are Python's."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime.datetime):
        return value if value.tzinfo is None else value.astimezone(datetime.UTC).replace(tzinfo=None)
    if isinstance(value, datetime.date):
        return datetime.datetime.combine(value, datetime.time())
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value if isinstance(value, int | float) else str(value)


def _scale(column: str, kind: Kind, given: Sequence[Any]) -> Colouring:
    numbers = np.array([math.nan if value is None else _number(value) for value in given])
    low, high = float(np.nanmin(numbers)), float(np.nanmax(numbers))
    logarithmic = kind == "number" and low > 0 and high / low > WIDE
    if logarithmic:
        numbers, low, high = np.log(numbers), math.log(low), math.log(high)
    along = (numbers - low) / ((high - low) or 1.0)
    codes = np.where(np.isnan(along), NONE, np.round(np.nan_to_num(along) * STEPS)).astype(np.uint8)
    texts = ["" if value is None else _words(value) for value in given]
    missing = int((codes == NONE).sum())
    legend = [Entry("no value", NONE, missing)] if missing else []
    there = [value for value in given if value is not None]
    return Colouring(column, kind, codes, texts, legend, _words(min(there)), _words(max(there)), logarithmic)


def _number(value: float | datetime.datetime) -> float:
    if isinstance(value, datetime.datetime):
        return value.replace(tzinfo=datetime.UTC).timestamp()
    return float(value)


def _words(value: float | datetime.datetime) -> str:
    if isinstance(value, datetime.datetime):
        return str(value)[:19].removesuffix(" 00:00:00")
    return f"{value:,.6g}" if isinstance(value, float) else f"{value:,}"


def _categories(column: str, texts: list[str]) -> Colouring:
    counts = Counter(text for text in texts if text)
    ranked = sorted(counts, key=lambda text: (-counts[text], text))
    shown, others = (ranked, []) if len(ranked) <= MOST else (ranked[:MOST], ranked[MOST:])
    code = dict.fromkeys(others, MOST) | {text: place for place, text in enumerate(sorted(shown))} | {"": NONE}
    legend = [Entry(text, code[text], counts[text]) for text in sorted(shown)]
    if others:
        legend.append(Entry(f"{len(others):,} others", MOST, sum(counts[text] for text in others)))
    if missing := texts.count(""):
        legend.append(Entry("no value", NONE, missing))
    return Colouring(column, "category", np.array([code[text] for text in texts], np.uint8), texts, legend)
