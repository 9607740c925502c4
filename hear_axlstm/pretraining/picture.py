"""Reconstructions as one picture: the log-mel, what was hidden of it, what the encoder guessed, and how far it is off."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hear_axlstm.config import HOP_MS, N_MELS
from hear_axlstm.errors import ConfigError
from hear_axlstm.explore.spectrogram import anonymous, draw_log_mel, short
from hear_axlstm.pretraining.reconstruction import Reconstruction
from hear_axlstm.storage import replacing

Panel = NDArray[np.floating]  # (N, 80), NaN where nothing is drawn

SUFFIXES = (".png", ".pdf", ".svg")
DPI, COLOURS = 100, 256
PANELS: dict[str, Callable[[Reconstruction], Panel]] = {  # from top to bottom
    "sound": lambda clip: clip.log_mel,
    "seen": lambda clip: np.where(clip.mask, np.nan, clip.log_mel),
    "guessed": lambda clip: np.where(clip.mask, clip.guess, clip.log_mel),
    "error": lambda clip: np.where(clip.mask, clip.error, np.nan),
}
SECOND, NARROW, WIDE = 1.1, 5.0, 11.0  # inches: of a second, and of a panel, at least and at most
HEIGHT, GAP = 1.3, 0.14  # inches: of a panel, and from one to the next
LEFT, RIGHT, BOTTOM = 0.75, 0.95, 0.5  # inches around them
LINE, HEADING = 0.17, 0.62  # inches: of a line of text, and of what stands above those
APART = 10  # frames between two clips
RANGE = (1, 99.5)  # percentiles of the log-mels: the darkest and the brightest colour
OFF = 2.0  # deviations: the error of the strongest colours
BRIGHTNESS, DIVERGING, BLANK, QUIET = "magma", "PuOr_r", "#dfe3e8", "#555555"


def kind_of(target: Path) -> str:
    """The kind of picture that a file is by its name: png, pdf or svg. Raises ConfigError where it is none."""
    suffix = target.suffix.lower()
    if suffix not in SUFFIXES:
        raise ConfigError(f"{target} does not end in {', '.join(SUFFIXES)}, as pictures do; call it {target.stem}.png")
    return suffix[1:]


def write_picture(clip: Reconstruction, target: Path) -> None:
    """Draw a reconstruction into a file that ends in .png, .pdf or .svg, and appears whole or not at all.

    Raises ConfigError on another suffix and without matplotlib, OSError when the file cannot be written.
    """
    kind = kind_of(target)
    content = picture([clip], f"{short(clip.name, 60)}, as {clip.model} guesses it", [clip.summary, *clip.notes], kind)
    with replacing(target) as temporary:
        temporary.write_bytes(content)


def picture(clips: Sequence[Reconstruction], title: str, words: Sequence[str] = (), kind: str = "png") -> bytes:
    """The content of a file in which reconstructions are drawn one after the other, in four panels.

    In the panel of what was guessed, patches that were not hidden stand as they are; in that of the error they are blank.
    words: lines under the title. Each of several clips gets a heading with its name and loss.

    Raises ConfigError without matplotlib.
    """
    try:
        from matplotlib import colormaps
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("a picture needs matplotlib: pip install 'hear-axlstm[pretrain]'") from error
    several = len(clips) > 1
    starts = list(accumulate((len(clip) + APART for clip in clips), initial=0))
    across = min(max(SECOND * starts[-1] * HOP_MS / 1_000, NARROW), WIDE)
    width = LEFT + across + RIGHT
    lines = [line for text in words for line in textwrap.wrap(text, int(16 * (width - LEFT)))]
    top = HEADING + LINE * (len(lines) + several)
    height = top + len(PANELS) * (HEIGHT + GAP) - GAP + BOTTOM
    figure = Figure((width, height), DPI)
    FigureCanvasAgg(figure)
    low, high = np.percentile(np.concatenate([clip.log_mel for clip in clips]), RANGE)
    low, high = min(low, -1.0), max(high, 1.0)  # of silence, which is 0, too
    for row, (name, panel) in enumerate(PANELS.items()):
        is_error = name == "error"
        colours = colormaps[DIVERGING if is_error else BRIGHTNESS].with_extremes(bad=BLANK)
        scale = {"cmap": colours, "vmin": -OFF if is_error else low, "vmax": OFF if is_error else high}
        bottom = height - top - HEIGHT - row * (HEIGHT + GAP)
        axes = figure.add_axes((LEFT / width, bottom / height, across / width, HEIGHT / height))
        begin = 0.0 if several else clips[0].times[0] / 1_000
        image = draw_log_mel(axes, _joined([panel(clip) for clip in clips]), start_seconds=begin, **scale)
        _frame(axes, name, is_last=is_error)
        if several:
            _divide(axes, clips, starts)
        if row in (2, 3):
            tall = HEIGHT if is_error else 3 * HEIGHT + 2 * GAP
            bar = figure.add_axes(((width - RIGHT + 0.15) / width, bottom / height, 0.12 / width, tall / height))
            figure.colorbar(image, bar, extend="both", extendfrac=0.09 / tall)
            bar.tick_params(labelsize=7, length=2.5)
            bar.set_ylabel("too low, too high" if is_error else "deviations from the mean", fontsize=7.5, color=QUIET)
        if several and row == 0:
            for clip, start in zip(clips, starts, strict=False):
                heading = f"{short(clip.name, 20)}: {clip.loss:.3f}"
                axes.text(start * HOP_MS / 1_000, N_MELS + 2, heading, fontsize=8, color=QUIET, parse_math=False)
    figure.text(LEFT / width, 1 - 0.3 / height, short(title, 120), fontsize=11, va="center", parse_math=False)
    for number, line in enumerate(lines):
        place = LEFT / width, 1 - (0.55 + LINE * number) / height
        figure.text(*place, line, fontsize=8, va="center", color=QUIET, parse_math=False)
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # of a name in letters that the font lacks
        figure.savefig(content, format=kind, metadata=anonymous(kind))
    return _small(content) if kind == "png" else content.getvalue()


def _joined(panels: Sequence[Panel]) -> Panel:
    """Panels one after the other, with nothing between them."""
    apart = np.full((APART, N_MELS), np.nan)
    return np.concatenate([part for panel in panels for part in (panel, apart)][:-1])


def _frame(axes: Any, name: str, *, is_last: bool) -> None:
    """Name a panel, and have the last one alone tell seconds."""
    axes.tick_params(labelsize=7, length=2.5, labelbottom=is_last)
    axes.set_ylabel(f"{name}\nHz", fontsize=8)
    axes.set_xlabel("seconds" if is_last else "", fontsize=8)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _divide(axes: Any, clips: Sequence[Reconstruction], starts: Sequence[int]) -> None:
    """Leave what is between clips white, and count each one's seconds from its own beginning."""
    ticks, labels = [], []
    for clip, start in zip(clips, starts, strict=False):
        end, whole = start + len(clip), 1_000 // HOP_MS
        axes.axvspan(end * HOP_MS / 1_000 - 0.005, (end + APART) * HOP_MS / 1_000 - 0.005, color="white", linewidth=0)
        ticks += [(start + frame) * HOP_MS / 1_000 for frame in range(0, len(clip), whole)]
        labels += [f"{frame // whole}" for frame in range(0, len(clip), whole)]
    axes.set_xticks(ticks, labels)
    axes.set_xlim(right=(starts[-1] - APART) * HOP_MS / 1_000)


def _small(content: io.BytesIO) -> bytes:
    """A PNG with a palette, a quarter of one without: noise does not compress."""
    from PIL import Image

    small = io.BytesIO()
    whole = Image.open(content).convert("RGB")
    whole.quantize(COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(small, "png", optimize=True)
    return small.getvalue()
