"""Pictures by matplotlib: a log-mel with seconds and Hz on its axes, and one sound as waveform, log-mel and similarity."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hear_axlstm.centring import Array
from hear_axlstm.config import F_MAX, F_MIN, HOP, N_MELS, SAMPLE_RATE
from hear_axlstm.errors import ConfigError
from hear_axlstm.progress import printable

if TYPE_CHECKING:
    from hear_axlstm.explore.moments import Moments

MISSING = "a picture needs matplotlib: pip install 'hear-axlstm[explore]'; a page, .html, does without"
INCHES, DPI = (7.6, 9.5), 110
ROWS, COLUMNS = (0.75, 1.5, 6.1), (1.0, 0.02)  # how high the three parts are, and how wide the scales beside them
MOST = 2_000  # columns of a picture; more cannot be seen
TICKS = (250, 500, 1_000, 2_000, 4_000)  # Hz
LOUDNESS = (-2.0, 2.5)  # deviations from the clip's mean that the colours of a log-mel span
LIKENESS = (0.0, 0.8)  # cosines that the colours of a similarity span: the same for every sound
INK, QUIET, RULE = "#2b1d6b", "#5b6068", "#d9d8d3"
PALE = "#fdfdfc"  # below the scale of the pages, so that what is unlike is nearly paper
TITLE = 40  # characters


def draw_log_mel(axes: Any, log_mel: Array, *, start_seconds: float = 0.0, **options: Any) -> Any:
    """Draw a log-mel on matplotlib's axes, with seconds across and Hz up. The result is the image, for a scale beside it.

    log_mel: (N, 80), a frame every 10 ms, the first one around ``start_seconds``. Of more than 2,000 frames, neighbours are
    averaged. options: of ``axes.imshow``, such as cmap, vmin and vmax.

    Raises ConfigError on another shape.
    """
    if log_mel.ndim != 2 or log_mel.shape[1] != N_MELS or not len(log_mel):
        raise ConfigError(f"log_mel has shape {log_mel.shape}; expected (frames, {N_MELS}), as hear_axlstm.moments gives it")
    step = HOP / SAMPLE_RATE
    first = start_seconds - step / 2
    image = axes.imshow(
        fewer(log_mel, MOST).T,
        **{"cmap": "magma", "aspect": "auto", "origin": "lower", "interpolation": "nearest"} | options,
        extent=(first, first + step * len(log_mel), 0, N_MELS),
    )
    axes.set_yticks([band_of(hertz) for hertz in TICKS], [f"{hertz:,}" for hertz in TICKS])
    axes.set_ylabel("Hz")
    return image


def fewer(rows: NDArray[Any], most: int) -> NDArray[Any]:
    """The rows themselves, or means of equally many neighbouring ones, so that there are ``most`` at most.

    Shape: (N, ...) -> (ceil(N / each), ...) with each = ceil(N / most); the last mean is of what is left.

    >>> fewer(np.array([[1.0], [3.0], [5.0]]), 2).tolist()
    [[2.0], [5.0]]
    """
    each = -(-len(rows) // most)
    if each <= 1:
        return rows
    starts = np.arange(0, len(rows), each)
    counts = np.diff(starts, append=len(rows)).reshape(-1, *[1] * (rows.ndim - 1))
    return (np.add.reduceat(rows, starts, axis=0) / counts).astype(rows.dtype)


def envelope(wave: Array, most: int) -> Array:
    """The lowest and the highest sample of each of at most ``most`` equal parts of a wave. Shape: (n,) -> (N, 2)."""
    starts = np.arange(0, len(wave), -(-len(wave) // most))
    return np.stack([np.minimum.reduceat(wave, starts), np.maximum.reduceat(wave, starts)], axis=1)


def draw_moments(shown: Moments, target: Path, format: str) -> None:
    """Draw a sound's waveform, log-mel and similarity, one below the other, into a file: "png", "svg" or "pdf".

    Raises ConfigError without matplotlib, OSError where the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.colors import LinearSegmentedColormap
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError as error:
        raise ConfigError(MISSING) from error
    from hear_axlstm.explore.colours import SCALE

    colours = LinearSegmentedColormap.from_list("hear-axlstm", [PALE, *SCALE])
    figure = Figure(INCHES, DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    grid = figure.add_gridspec(3, 2, height_ratios=ROWS, width_ratios=COLUMNS)
    top, middle, bottom = (figure.add_subplot(grid[row, 0]) for row in range(3))
    end = shown.seconds

    bounds = envelope(shown.wave, MOST)
    places = (np.arange(len(bounds)) + 0.5) * end / len(bounds)
    top.fill_between(places, *bounds.T, color=INK, linewidth=0.4)
    most = max(1e-6, float(np.abs(bounds).max()))
    top.set_ylim(-1.05 * most, 1.05 * most)
    top.set_ylabel("amplitude")

    image = draw_log_mel(middle, shown.log_mel, cmap=colours, vmin=LOUDNESS[0], vmax=LOUDNESS[1])
    _scale(figure, image, grid[1, 1], "deviations")

    edges = shown.edges
    image = bottom.imshow(
        shown.similarity, cmap=colours, vmin=LIKENESS[0], vmax=LIKENESS[1], aspect="auto", interpolation="nearest",
        extent=(edges[0], edges[-1], edges[-1], edges[0]),
    )  # fmt: skip
    bottom.set_ylim(end, 0)
    bottom.yaxis.set_major_locator(MaxNLocator(9, steps=[1, 2, 5, 10]))
    bottom.set_ylabel("seconds")
    bottom.set_xlabel("seconds")
    _scale(figure, image, grid[2, 1], "cosine of two moments")

    for axes in (top, middle, bottom):
        axes.set_xlim(0, end)
        axes.xaxis.set_major_locator(MaxNLocator(9, steps=[1, 2, 5, 10]))
        axes.tick_params(labelbottom=axes is bottom, colors=QUIET)
        for side, spine in axes.spines.items():
            spine.set_visible(axes is not top or side == "left")
            spine.set_color(RULE)
    top.set_title(short(shown.name, TITLE), loc="left", fontsize=12, parse_math=False)
    top.set_title(
        f"{shown.weights}, {1000 * shown.step:.0f} ms a moment", loc="right", fontsize=9, color=QUIET, parse_math=False
    )
    figure.align_ylabels([top, middle, bottom])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # of a name in a script that the font lacks, which has boxes then
        canvas.print_figure(target, format=format, metadata=anonymous(format))


def _scale(figure: Any, image: Any, place: Any, label: str) -> None:
    """Put the scale of an image's colours beside it."""
    scale = figure.colorbar(image, cax=figure.add_subplot(place), label=label)
    scale.outline.set_edgecolor(RULE)
    scale.ax.tick_params(colors=QUIET)


def short(name: str, most: int) -> str:
    """A name in so many characters at most, as it can be shown."""
    shown = printable(name)
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


def anonymous(format: str) -> dict[str, None]:
    """What makes equal pictures equal files: no date, and no name of the program."""
    return {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}, "pdf": {"CreationDate": None}}[format]


def band_of(hertz: float) -> float:
    """Where on an axis of mel bands, each 1 high from 0 on, a frequency lies."""
    low, high, own = (np.log1p(one / 700.0) for one in (F_MIN, F_MAX, hertz))
    return float((own - low) / (high - low) * (N_MELS + 1) - 0.5)
