"""Summary -> plots as places in percent of their area, so that a page of any width can draw them without distortion."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hear_axlstm.evaluation.report.numbers import number, with_interval
from hear_axlstm.evaluation.report.rankings import RankedModel, Ranking
from hear_axlstm.evaluation.report.rows import Column, Row
from hear_axlstm.evaluation.report.summary import Section
from hear_axlstm.evaluation.statistics import Estimate

SHAPES = ("circle", "square", "diamond", "triangle", "ring", "cross")  # of our rows in their order, over and over
SCATTER_WIDTH, SCATTER_HEIGHT = 880, 360  # px, at which labels of points are kept apart
LETTERS = 20  # of a name beside a point
LETTER_WIDTH, LETTER_HEIGHT = 6.5, 13  # px
MARK = 8  # px from a point to its label
Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Tick:
    """A tick of an axis. at: percent."""

    at: float
    label: str


@dataclass(frozen=True)
class Axis:
    """An axis of a plot. low, high: the values at 0 and 100 percent."""

    low: float
    high: float
    ticks: tuple[Tick, ...]
    log: bool = False

    def at(self, value: float) -> float:
        """The place of a value, percent, kept within the area."""
        scale: Callable[[float], float] = math.log10 if self.log else float
        share = (scale(value) - scale(self.low)) / (scale(self.high) - scale(self.low))
        return round(100 * min(1.0, max(0.0, share)), 3)


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A point with its interval, or the end of a bar. at, start, end: percent. words: the same as text."""

    label: str
    words: str
    at: float
    start: float
    end: float
    ours: bool
    shape: str = ""
    value: str = ""


@dataclass(frozen=True)
class Bars:
    """A bar a model. zero: where bars begin, percent."""

    axis: Axis
    zero: float
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Strip:
    """One task: published models on one line, then a line for each of ours; None where it has no score."""

    title: str
    published: tuple[Mark, ...]
    ours: tuple[Mark | None, ...]


@dataclass(frozen=True)
class Dots:
    """The scores of all models, a strip a task, on one axis."""

    axis: Axis
    strips: tuple[Strip, ...]

    @property
    def published(self) -> bool:
        """Whether a mark, one at least, is of a published model."""
        return any(strip.published for strip in self.strips)

    @property
    def ours(self) -> set[str]:
        """The labels of our rows that have a mark."""
        return {mark.label for strip in self.strips for mark in strip.ours if mark is not None}


@dataclass(frozen=True, kw_only=True)
class Point:
    """A point of a scatter plot. x, y: percent from the left and the top. low, high: ends of the interval.

    side: where its name stands, empty for nowhere.
    """

    label: str
    name: str
    words: str
    x: float
    y: float
    low: float
    high: float
    ours: bool
    shape: str
    side: str


@dataclass(frozen=True)
class Scatter:
    """Parameters against scores. unknown: models whose parameters are not known."""

    x: Axis
    y: Axis
    points: tuple[Point, ...]
    unknown: tuple[str, ...]

    @property
    def published(self) -> bool:
        """Whether a point, one at least, is of a published model."""
        return not all(point.ours for point in self.points)


def linear_axis(values: Sequence[float]) -> Axis:
    """An axis in tens around the values, which are percent."""
    low = math.floor(min(values) / 10) * 10
    high = max(math.ceil(max(values) / 10) * 10, low + 10)
    step = next((step for step in (10, 20, 50, 100) if (high - low) / step <= 6), 1_000)
    first = math.ceil(low / step) * step
    scale = Axis(low, high, ())
    return Axis(low, high, tuple(Tick(scale.at(tick), number(tick)[:-2]) for tick in range(first, high + 1, step)))


def log_axis(values: Sequence[float]) -> Axis:
    """A logarithmic axis around positive values, with ticks at 1, 2, 5, 10, ..."""
    low, high = min(values) / 1.25, max(values) * 1.25
    scale = Axis(low, high, (), log=True)
    steps = [digit * 10.0**power for power in range(-3, 7) for digit in (1, 2, 5)]
    return Axis(low, high, tuple(Tick(scale.at(step), f"{step:g}") for step in steps if low <= step <= high), log=True)


def bars(ranking: Ranking, shapes: dict[str, str]) -> Bars:
    """A bar for each model of a ranking, from 0 on."""
    ends = [end for entry in ranking.entries for end in _ends(entry.estimate) if math.isfinite(end)]
    axis = Axis(min(0.0, *ends), max(1.0, *ends), ())  # no ticks: every bar says its value
    return Bars(axis, axis.at(0), tuple(_mark(entry, entry.estimate, axis, shapes) for entry in ranking.entries))


def dots(section: Section, shapes: dict[str, str]) -> Dots:
    """Tasks whose score is in percent, on one axis from 0 to 100."""
    axis = Axis(0, 100, tuple(Tick(tick, str(tick)) for tick in range(0, 101, 20)))
    strips = []
    for column in section.columns:
        published, ours = (
            [_cell_mark(row, column, axis, shapes) for row in rows] for rows in (section.published, section.ours)
        )
        if any(mark is not None for mark in ours):
            genuine = any(column.task in row.cells and not row.cells[column.task].differences for row in section.ours)
            beside = tuple(mark for mark in published if mark is not None) if genuine else ()
            strips.append(Strip(column.title, beside, tuple(ours)))
    return Dots(axis, tuple(strips))


def scatter(ranking: Ranking, shapes: dict[str, str]) -> Scatter | None:
    """Parameters in millions against a ranking's number. None where fewer than two sizes are known."""
    known = [entry for entry in ranking.entries if entry.parameters]
    if len({entry.parameters for entry in known}) < 2 or not any(entry.ours for entry in known):
        return None
    x = log_axis([(entry.parameters or 0) / 1e6 for entry in known])
    y = linear_axis([end for entry in known for end in _ends(entry.estimate)])
    places = {entry.label: (x.at((entry.parameters or 0) / 1e6), 100 - y.at(entry.estimate.mean)) for entry in known}
    sides = _label_sides(known, places)
    points = []
    for entry in sorted(known, key=lambda entry: entry.ours):  # ours above the others
        low, high = _ends(entry.estimate)
        across, down = places[entry.label]
        parameters = (entry.parameters or 0) / 1e6
        points.append(
            Point(
                label=entry.label,
                name=_short(entry.model),
                words=f"{entry.label}: {parameters:.1f} M parameters, {with_interval(entry.estimate)}",
                x=across,
                y=round(down, 3),
                low=round(100 - y.at(low), 3),
                high=round(100 - y.at(high), 3),
                ours=entry.ours,
                shape=shapes.get(entry.label, ""),
                side=sides[entry.label],
            )
        )
    return Scatter(x, y, tuple(points), tuple(entry.label for entry in ranking.entries if not entry.parameters))


def _cell_mark(row: Row, column: Column, axis: Axis, shapes: dict[str, str]) -> Mark | None:
    """The mark of a row's score on a task, None where it has none that a dot can stand for."""
    cell = row.cells.get(column.task)
    if cell is None or not cell.percent or not math.isfinite(cell.estimate.mean):
        return None
    return _mark(row, cell.estimate, axis, shapes, f", {column.title}")


def _mark(model: Row | RankedModel, found: Estimate, axis: Axis, shapes: dict[str, str], about: str = "") -> Mark:
    low, high = _ends(found)
    value = with_interval(found)
    return Mark(
        label=model.label,
        words=f"{model.label}{about}: {value}",
        at=axis.at(found.mean),
        start=axis.at(low),
        end=axis.at(high),
        ours=model.ours,
        shape=shapes.get(model.label, ""),
        value=value,
    )


def _ends(found: Estimate) -> tuple[float, float]:
    half = found.ci95 or 0.0
    return found.mean - half, found.mean + half


def _label_sides(entries: Sequence[RankedModel], places: dict[str, tuple[float, float]]) -> dict[str, str]:
    """Where each label can stand without covering a point or another label: "" where it cannot. Ours always get one."""
    taken: list[Box] = []
    for across, down in places.values():
        x, y = across / 100 * SCATTER_WIDTH, down / 100 * SCATTER_HEIGHT
        taken.append((x - 5, y - 5, x + 5, y + 5))
    sides = {}
    for entry in sorted(entries, key=lambda entry: not entry.ours):
        boxes = _boxes(_short(entry.model), *places[entry.label])
        free = [side for side, box in boxes.items() if _fits(box) and not any(_overlap(box, other) for other in taken)]
        fallback = ("left" if places[entry.label][0] > 50 else "right") if entry.ours else ""
        side = free[0] if free else fallback
        if side:
            taken.append(boxes[side])
        sides[entry.label] = side
    return sides


def _short(name: str) -> str:
    """A name, shortened to the room there is in a plot."""
    return name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}\N{HORIZONTAL ELLIPSIS}"


def _boxes(name: str, across: float, down: float) -> dict[str, Box]:
    x, y = across / 100 * SCATTER_WIDTH, down / 100 * SCATTER_HEIGHT
    width, half = len(name) * LETTER_WIDTH, LETTER_HEIGHT / 2
    return {
        "right": (x + MARK, y - half, x + MARK + width, y + half),
        "left": (x - MARK - width, y - half, x - MARK, y + half),
        "above": (x - width / 2, y - MARK - LETTER_HEIGHT, x + width / 2, y - MARK),
        "below": (x - width / 2, y + MARK, x + width / 2, y + MARK + LETTER_HEIGHT),
    }


def _fits(box: Box) -> bool:
    return box[0] >= 0 and box[1] >= 0 and box[2] <= SCATTER_WIDTH and box[3] <= SCATTER_HEIGHT


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
