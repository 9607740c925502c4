"""Which changed copies of a sound ``duplicates`` finds, at which threshold: ``python -m benchmarks.duplicates``.

The sounds are synthesised: speech, music, notes and noises. A copy is a file in memory, changed or written in another
format by libsndfile, and is read as any file is. The last row counts pairs of different sounds that are above a threshold.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

import click
import numpy as np
import soundfile
import soxr
import torch

from benchmarks.records import RESULTS, add_record, installed_version, machine, rows_table
from hear_axlstm import embed, load_model
from hear_axlstm.centring import Array, centring_of
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.embedder import Embedder
from hear_axlstm.parallel import processors
from hear_axlstm.synthesis import Kind
from hear_axlstm.synthesis.corpus import random_clip

CLIPS, OTHERS, SECONDS = 25, 150, 4.0  # of each kind, with copies, and in all
THRESHOLDS = (0.8, 0.9, 0.95, 0.98)
ROWS = 1_024  # of cosines in memory at once
DIFFERENT = "*different sounds, pairs*"


def written(wave: Array, rate: int = SAMPLE_RATE, **options: Any) -> bytes:
    """A file of a wave, (T,); of 16 bits unless soundfile's options say otherwise."""
    file = io.BytesIO()
    soundfile.write(file, wave, rate, **({"format": "WAV", "subtype": "PCM_16"} | options))
    return file.getvalue()


def louder(wave: Array, decibels: float) -> Array:
    """The wave, clipped where it would be beyond full scale."""
    return np.clip(10 ** (decibels / 20) * wave, -1, 1).astype(np.float32)


def noisy(wave: Array, decibels: float) -> Array:
    """The wave with white noise so much below it, by their power."""
    noise = np.random.default_rng(0).standard_normal(len(wave))
    return louder(wave + 10 ** (-decibels / 20) * np.sqrt(np.mean(wave**2)) * noise, 0)


def at_rate(wave: Array, rate: int) -> bytes:
    """A file at another rate."""
    return written(soxr.resample(wave, SAMPLE_RATE, rate), rate)


MP3 = {"format": "MP3", "subtype": "MPEG_LAYER_III", "bitrate_mode": "CONSTANT", "compression_level": 0.632}
COPIES: Mapping[str, Callable[[Array], bytes]] = {
    "16 bits, 6 dB quieter": lambda wave: written(louder(wave, -6)),
    "12 dB louder, and clipped": lambda wave: written(louder(wave, 12)),
    "Ogg Vorbis": lambda wave: written(wave, format="OGG", subtype="VORBIS"),
    "Opus": lambda wave: written(wave, format="OGG", subtype="OPUS", compression_level=0.928),
    "MP3": lambda wave: written(wave, **MP3),
    "resampled to 44.1 kHz and back": lambda wave: at_rate(wave, 44_100),
    "resampled to 8 kHz": lambda wave: at_rate(wave, 8_000),
    "0.1 s cut from its beginning": lambda wave: written(wave[SAMPLE_RATE // 10 :]),
    "1 s cut from its beginning": lambda wave: written(wave[SAMPLE_RATE:]),
    "1 s cut from its end": lambda wave: written(wave[:-SAMPLE_RATE]),
    "1 s of silence before it": lambda wave: written(np.pad(wave, (SAMPLE_RATE, 0))),
    "noise 40 dB below it": lambda wave: written(noisy(wave, 40)),
    "noise 20 dB below it": lambda wave: written(noisy(wave, 20)),
}
COMPRESSED = ("Ogg Vorbis", "Opus", "MP3")  # whose bit rate is told


def row(name: str, median: float | None, found: Sequence[str]) -> dict[str, str]:
    """A row of the table, of the share of copies or the number of pairs above each threshold."""
    counts = {f"> {above}": cell for above, cell in zip(THRESHOLDS, found, strict=True)}
    return {"copy": name, "median cosine": "" if median is None else f"{median:.3f}", **counts}


def measure(waves: Sequence[Array], copied: Sequence[int], model: Embedder) -> list[dict[str, str]]:
    """A row for each change: the shares of copies that are found, in %; then the pairs of different sounds, counted.

    waves: the sounds, (T,) each, 16 kHz. copied: the places of those that copies are made of.
    """
    centring = centring_of(model)
    assert centring is not None
    vectors = centring.directed(embed(list(waves), model, sample_rate=SAMPLE_RATE, progress=False).matrix)
    rows = []
    for name, change in COPIES.items():
        files = [change(waves[place]) for place in copied]
        copies = centring.directed(embed(files, model, progress=False).matrix)
        cosines = (vectors[list(copied)] * copies).sum(1)
        seconds = sum(len(waves[place]) for place in copied) / SAMPLE_RATE
        rate = f", {8e-3 * sum(map(len, files)) / seconds:.0f} kbit/s" if name in COMPRESSED else ""
        shares = [f"{100 * np.mean(cosines > above):.0f}" for above in THRESHOLDS]
        rows.append(row(name + rate, float(np.median(cosines)), shares))
    pairs = np.zeros(len(THRESHOLDS), np.int64)
    for start in range(0, len(vectors), ROWS):
        cosines = np.tril(vectors[start : start + ROWS] @ vectors.T, start - 1)
        pairs += [int((cosines > above).sum()) for above in THRESHOLDS]
    return [*rows, row(DIFFERENT, None, [f"*{count:,}*" for count in pairs])]


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--clips", type=click.IntRange(1), default=CLIPS, help="Sounds of each kind that copies are made of.")
@click.option("--others", type=click.IntRange(1), default=OTHERS, help="Sounds of each kind, in all.")
@click.option("--model", "name", default="", show_default=False, help="Weights; by default the bundled ones.")
def main(clips: int, others: int, name: str) -> None:
    """Measure which copies are found; speech needs espeak-ng, music and notes fluidsynth and a SoundFont."""
    torch.set_num_threads(processors())
    sounds = [(kind, index) for kind in get_args(Kind) for index in range(max(clips, others))]
    waves = [random_clip(kind, 0, index, SECONDS) for kind, index in sounds]
    rows = measure(waves, [place for place, (_, index) in enumerate(sounds) if index < clips], load_model(name))
    click.echo(rows_table(rows))
    facts = {"soundfile": installed_version("soundfile"), "model": name or "the default weights"}
    counts = {"clips": clips * len(get_args(Kind)), "sounds": len(waves), "seconds": SECONDS}
    add_record(RESULTS / "duplicates.json", {**machine(torch.device("cpu")), **facts, **counts, "duplicates": rows})


if __name__ == "__main__":
    main()
