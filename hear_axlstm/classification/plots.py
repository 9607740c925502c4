"""Plots of a result as places in an SVG: the map of sounds, and the learning curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hear_axlstm.classification.outcome import Classified
from hear_axlstm.classification.validation import CurvePoint
from hear_axlstm.explore.colours import COLOURS, SHAPES
from hear_axlstm.progress import several

WIDTH, HEIGHT, EDGE = 640.0, 420.0, 14.0  # of the map
CURVE_WIDTH, CURVE_HEIGHT, LEFT, BOTTOM = 640.0, 260.0, 44.0, 30.0


@dataclass(frozen=True)
class Look:
    """How a class is drawn. path: its shape, around 0."""

    name: str
    colour: str
    path: str


@dataclass(frozen=True)
class Dot:
    """A sound on the map. words: what is said when it is pointed at. wrong: whether its class was not guessed."""

    x: float
    y: float
    look: Look
    words: str
    wrong: bool


@dataclass(frozen=True)
class Tick:
    """A place on an axis of the curve, with its text."""

    at: float
    text: str


@dataclass(frozen=True)
class Curve:
    """The learning curve. points: x, y, and what is said when one is pointed at. chance: the height of its line."""

    points: list[tuple[float, float, str]]
    chance: float
    across: list[Tick]
    up: list[Tick]


def looks(classes: Sequence[str]) -> list[Look]:
    """How the classes are drawn, each unlike the others up to 32 of them."""
    return [
        Look(name, COLOURS[place % len(COLOURS)], SHAPES[place // len(COLOURS) % len(SHAPES)])
        for place, name in enumerate(classes)
    ]


def dots(result: Classified) -> list[Dot]:
    """The map: a dot for each sound, the wrongly guessed ones last, on top."""
    look = dict(zip(result.classes, looks(result.classes), strict=True))
    low, high = result.places.min(0), result.places.max(0)
    spans = [span or 1.0 for span in (high - low).tolist()]
    found = []
    rows = zip(
        result.names,
        result.labels,
        result.guesses,
        result.validation.probabilities.max(1),
        ((result.places - low) / spans).tolist(),
        strict=True,
    )
    for name, label, guess, best, (across, up) in rows:
        x, y = EDGE + across * (WIDTH - 2 * EDGE), EDGE + (1 - up) * (HEIGHT - 2 * EDGE)
        words = f"{name}: {label}" + (f", taken for {guess}" if guess != label else "") + f" ({best:.0%} sure)"
        found.append(Dot(round(x, 1), round(y, 1), look[label], words, guess != label))
    return sorted(found, key=lambda dot: dot.wrong)


def curve(points: Sequence[CurvePoint], chance: float) -> Curve:
    """The learning curve, over clips of a class on a logarithmic axis; accuracy from 0 to 1 upwards."""
    span = math.log2(points[-1].clips) or 1.0

    def across(clips: int) -> float:
        return round(LEFT + math.log2(clips) / span * (CURVE_WIDTH - LEFT - EDGE), 1)

    def up(share: float) -> float:
        return round(EDGE + (1 - share) * (CURVE_HEIGHT - EDGE - BOTTOM), 1)

    return Curve(
        [
            (across(point.clips), up(point.accuracy), f"{several(point.clips, 'clip')} a class: {point.accuracy:.1%}")
            for point in points
        ],
        up(chance),
        [
            Tick(across(point.clips), str(point.clips))
            for point in points
            if point is points[-1] or across(points[-1].clips) - across(point.clips) > 24
        ],
        [Tick(up(share / 4), f"{share / 4:.0%}") for share in range(5)],
    )
