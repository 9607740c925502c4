"""One sound -> one HTML page that shows its moments and plays it: numbers for a script to draw, and the sound in FLAC."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from hear_axlstm.audio import Wave, write_flac
from hear_axlstm.centring import Array
from hear_axlstm.config import HOP, SAMPLE_RATE
from hear_axlstm.explore.page import filled, packed
from hear_axlstm.explore.spectrogram import LIKENESS, LOUDNESS, MOST, TICKS, band_of, envelope, fewer
from hear_axlstm.progress import duration

if TYPE_CHECKING:
    from hear_axlstm.explore.moments import Moments

HEARD_SECONDS = 300  # of sound that a page holds: some 5 MB
STEPS = 254  # of a cosine from -1 to 1, in a byte


def to_page(shown: Moments) -> str:
    """The page as HTML in one text. Raises ConfigError without jinja2."""
    left_out = shown.seconds > HEARD_SECONDS
    note = f"It plays the first {duration(HEARD_SECONDS)} alone; with all of the sound, the page would be too large."
    return filled(
        "moments",
        "a sound's page",
        _data(shown),
        shown=shown,
        likeness=LIKENESS,
        sound=_sound(shown.wave[: HEARD_SECONDS * SAMPLE_RATE]),
        notes=[note] if left_out else [],
    )


def _data(shown: Moments) -> dict[str, Any]:
    """All that the script needs to know. Of the similarity, which is symmetric, it has the upper triangle, row by row."""
    mel, bounds = fewer(shown.log_mel, MOST), envelope(shown.wave, MOST)
    upper = shown.similarity[np.triu_indices(len(shown))]
    low, high = LOUDNESS
    return {
        "seconds": shown.seconds,
        "heard": min(shown.seconds, HEARD_SECONDS),
        "step": shown.step,
        "first": float(shown.edges[0]),
        "times": packed(shown.times / 1000, np.float32),
        "similarity": packed(np.round((upper + 1) / 2 * STEPS), np.uint8),
        "steps": STEPS,
        "likeness": LIKENESS,
        "mel": packed(np.round(255 * np.clip((mel - low) / (high - low), 0, 1)), np.uint8),
        "bands": mel.shape[1],
        "melStep": -(-len(shown.log_mel) // MOST) * HOP / SAMPLE_RATE,
        "ticks": [(f"{hertz:,}", band_of(hertz)) for hertz in TICKS],
        "wave": packed(np.round(127 * bounds / max(1e-6, float(np.abs(bounds).max()))), np.int8),
    }


def _sound(wave: Wave) -> str:
    """The sound as an address that holds all of it; softer where it is too loud for 16 bits."""
    file = io.BytesIO()
    write_flac(file, loud_enough(wave))
    return "data:audio/flac;base64," + base64.b64encode(file.getvalue()).decode()


def loud_enough(wave: Array) -> Array:
    """A wave whose peak is 1 at most."""
    return wave / max(1.0, float(np.abs(wave).max()))
