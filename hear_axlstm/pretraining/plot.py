"""The loss curve of a run as a picture, curve.png."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from hear_axlstm.pretraining.state import CURVE, PLOT, RunFolder, read_curve
from hear_axlstm.storage import replacing

logger = logging.getLogger(__name__)

INCHES, DPI = (8.0, 4.5), 100
POINTS = 2_000  # of a line; more cannot be seen
LOSS, RATE, QUIET = "#1f5fa8", "#b08030", "#888888"
MISSING = "no pictures are drawn, as matplotlib is not installed: pip install 'hear-axlstm[pretrain]'"


def draw_curve(folder: RunFolder, title: str, lengths: Sequence[Mapping[str, int]]) -> bool:
    """Draw what curve.csv holds as curve.png: the loss, the learning rate, and a line where the run's length was changed.

    lengths: of the run, as ``RunFolder.lengthen`` returns them. The result is False where it cannot be drawn, which is told
    and is no error.
    """
    try:
        rows = read_curve(folder.path / CURVE)
        with replacing(folder.path / PLOT) as temporary:
            _draw(rows, temporary, title, [length["after"] for length in lengths if length["after"]])
        return True
    except ImportError:
        logger.info(MISSING)
    except Exception as error:  # whatever is wrong with a picture, the run is worth more
        logger.info("curve.png cannot be drawn (%s)", error)
    return False


def _draw(rows: Sequence[Mapping[str, str]], target: Path, title: str, changes: Sequence[int]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(INCHES, DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    left = figure.add_subplot()
    right = left.twinx()
    every = max(1, len(rows) // POINTS)
    steps = [int(row["step"]) for row in rows]
    losses, rates = ([float(row[name]) for row in rows] for name in ("loss", "lr"))
    for change in changes:
        left.axvline(change, color=QUIET, linewidth=0.8, linestyle=":")
    right.plot(steps[::every], rates[::every], color=RATE, linewidth=0.8)
    left.plot(steps, losses, color=LOSS, linewidth=0.8, alpha=0.35)
    left.plot(steps, _smooth(losses), color=LOSS, linewidth=1.6)
    left.set_title(title, fontsize=11)
    left.set_xlabel("update")
    _label(left, "loss", LOSS)
    _label(right, "learning rate", RATE)
    right.set_ylim(bottom=0)
    right.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    left.set_zorder(right.get_zorder() + 1)  # the loss lies above the learning rate
    left.patch.set_visible(False)
    for axes in (left, right):
        axes.spines["top"].set_visible(False)
    canvas.print_figure(target, format="png", metadata={"Software": None})


def _label(axes: Any, text: str, color: str) -> None:
    axes.set_ylabel(text, color=color)
    axes.tick_params(axis="y", colors=color)


def _smooth(values: Sequence[float]) -> list[float]:
    """The mean of each value and those around it, a fiftieth of all.

    >>> _smooth([4.0, 2.0, 0.0])
    [4.0, 2.0, 0.0]
    """
    reach = len(values) // 100
    sums = [0.0, *accumulate(values)]
    spans = ((max(0, place - reach), min(len(values), place + reach + 1)) for place in range(len(values)))
    return [(sums[end] - sums[start]) / (end - start) for start, end in spans]
