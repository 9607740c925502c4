"""What a stream's embeddings lose by not knowing the statistics of the whole sound, on recordings.

    python -m benchmarks.stream_statistics open/sound/speech open/sound/music open/sound/effects --apart open/apart

FOLDER is a kind of sound, with a folder for each source, as `scripts/open_sound.py` lays them out. A recording is 120 s of
one source: short clips of it are joined, in an order drawn by lot, as one microphone would hear them; of longer ones their
middle is taken. Speech is measured a second time with pauses of 2 to 8 s in white noise of -60 dBFS, as in a quiet room.

A step is compared with the offline one of the whole 120 s, the scene embedding of the first 10, 30 and 120 s with that
which this much sound has offline. In the context of chunks these are encoded one by one, and some stand for others: all of
the first 10 s, every third or fourth of those up to 30 s, and three of the rest. Cosines are centred as those of
``hear_axlstm.similarity`` are.

The probe learns from offline embeddings of the first 2 s of clips, repeated where they are shorter, and guesses the class of
other clips. These it is given as they come out of a stream which hears one class alone, clip after clip.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click
import numpy as np
import torch

from benchmarks.records import RESULTS, add_record, machine, rows_table
from benchmarks.set_apart import Clips, read_clips
from hear_axlstm import load_model
from hear_axlstm.audio import Wave, read_audio
from hear_axlstm.centring import Array, Centring, centring_of
from hear_axlstm.classification.regression import Floats
from hear_axlstm.config import CHUNK_FRAMES, HOP, SAMPLE_RATE
from hear_axlstm.embedder import Embedder
from hear_axlstm.files.find import find_files
from hear_axlstm.frontend import log_mel_frames
from hear_axlstm.ops.backend import threads_of_a_call
from hear_axlstm.stream.standards import Mel, Standard, Statistics, Tally

MODELS = ("axlstm-tiny-open", "ssam-tiny-open")
BANDS = {"0-2 s": [0], "2-10 s": [1, 2, 3, 4], "10-30 s": [6, 9, 13], "30-120 s": [20, 35, 50]}  # chunks of each
STANDS_FOR = [1.0] * 5 + [10 / 3] * 3 + [15.0] * 3  # how many chunks each of these does
CHUNKS = [chunk for chunks in BANDS.values() for chunk in chunks]
SECONDS = 120  # of a recording
SCENES = {10: 5, 30: 8, SECONDS: 11}  # of the first so many seconds: how many of CHUNKS lie there
CHUNK = CHUNK_FRAMES * HOP  # samples
PAUSES = (2.0, 8.0)  # seconds
NOISE = 1e-3  # of a quiet room, -60 dBFS
SAME, OTHERS = "given: same source", "given: other sources"
LEARNT: Mapping[str, tuple[Literal["first", "running"], float]] = {
    **{f"first, {seconds} s": ("first", seconds) for seconds in (1, 3, 10)},
    **{f"running, {seconds} s": ("running", seconds) for seconds in (1, 3, 10, 30, 100)},
}


@dataclass(frozen=True, eq=False)
class Recording:
    """The log-mel of a sound, (N, 80), and of another one of its source."""

    source: str
    mel: Mel
    same: Mel


def read_recordings(folder: Path, count: int, *, pauses: bool = False) -> list[Recording]:
    """Recordings of a kind of sound, of each of its sources in turn."""
    rng = np.random.default_rng(0)
    sources = {path.name: joined(path, rng, pauses=pauses) for path in sorted(folder.iterdir()) if path.is_dir()}
    found: list[Recording] = []
    while sources and len(found) < count:
        for name, sounds in list(sources.items()):
            one, other = next(sounds, None), next(sounds, None)
            if one is None or other is None or len(one) < SECONDS * SAMPLE_RATE:
                del sources[name]
            elif len(found) < count:
                found.append(Recording(name, frames(one), frames(other)))
    return found


def joined(folder: Path, rng: np.random.Generator, *, pauses: bool) -> Iterator[Wave]:
    """Sounds of 120 s of the files in a folder; the last one is shorter."""
    length = SECONDS * SAMPLE_RATE
    waves: list[Wave] = []
    paths = sorted(str(sound.path) for sound in find_files([folder]))
    for place in rng.permutation(len(paths)):
        wave = read_audio(paths[place], pad=True)
        start = max(0, len(wave) - length) // 2
        waves.append(wave[start : start + length])
        if pauses:
            waves.append(np.zeros(int(rng.uniform(*PAUSES) * SAMPLE_RATE), np.float32))
        if sum(map(len, waves)) >= length:
            yield _with_noise(waves, rng, pauses)[:length]
            waves = []
    if waves:
        yield _with_noise(waves, rng, pauses)


def _with_noise(waves: Sequence[Wave], rng: np.random.Generator, noise: bool) -> Wave:
    wave = np.concatenate(waves)
    return wave + NOISE * rng.standard_normal(len(wave)).astype(np.float32) * noise


def frames(wave: Wave) -> Mel:
    """The log-mel of a sound before it is standardised, (N, 80)."""
    return log_mel_frames(torch.from_numpy(wave)[None], [len(wave)])[0].double().numpy()


def statistics(mels: Sequence[Mel]) -> Statistics:
    """Those of log-mel frames together, (N, 80) each."""
    tally = Tally()
    for mel in mels:
        tally.add(mel)
    return tally.statistics


def by(mel: Mel, how: Statistics | Literal["first", "running"], seconds: float = 1.0) -> Mel:
    """The frames of a sound as a stream standardises them. Shape: (N, 80) -> (N, 80)."""
    standard = Standard(how, seconds)
    return np.concatenate([standard.push(mel), standard.end()])


def ways(mel: Mel, same: Mel, others: Sequence[Mel]) -> Iterator[tuple[str, Mel]]:
    """The frames of a sound standardised in each way. Shape: -> name, (N, 80)."""
    yield SAME, by(mel, statistics([same]))
    yield OTHERS, by(mel, statistics(others))
    for name, (how, seconds) in LEARNT.items():
        yield name, by(mel, how, seconds)


@torch.no_grad()
def steps(model: Embedder, mel: Mel, chunks: Sequence[int]) -> Array:
    """The timestamp embeddings of some chunks of a sound. Shape: (N, 80) -> (chunks, 50, E)."""
    spectrograms = np.stack([mel[chunk * CHUNK_FRAMES : (chunk + 1) * CHUNK_FRAMES] for chunk in chunks])
    columns = [model.encoder.config.grid[0]] * len(chunks)
    with threads_of_a_call(model.device):
        found = [each.float() for _, _, each in model.steps(torch.from_numpy(spectrograms).float(), columns, "time", None)]
    return torch.cat(found).numpy()


def compared(model: Embedder, recordings: Sequence[Recording]) -> list[dict[str, Any]]:
    """A row for each way of knowing the statistics, over all recordings."""
    centring = centring_of(model)
    assert centring is not None, f"{model} has no centring; expected bundled weights"
    offline = [
        {s: steps(model, own(recording.mel, s), CHUNKS[:count]) for s, count in SCENES.items()} for recording in recordings
    ]
    streamed: dict[str, list[Array]] = {}
    for recording in recordings:
        others = [other.mel for other in recordings if other.source != recording.source]
        for name, mel in ways(recording.mel, recording.same, others):
            streamed.setdefault(name, []).append(steps(model, mel, CHUNKS))
    return [{"statistics": name, **row(found, offline, centring)} for name, found in streamed.items()]


def own(mel: Mel, seconds: int) -> Mel:
    """The first seconds, standardised as they are offline when they are all there is. Shape: -> (N, 80)."""
    first = mel[: seconds * SAMPLE_RATE // HOP]
    return by(first, statistics([first]))


def row(streamed: Sequence[Array], offline: Sequence[Mapping[int, Array]], centring: Centring) -> dict[str, float]:
    """Cosines of timestamp embeddings by when they sounded, and of scene embeddings by how much was heard.

    streamed: of each recording, (chunks, 50, E). offline: the same of its first so many seconds.
    """
    cells = {}
    size, place = streamed[0].shape[-1], 0
    for band, chunks in BANDS.items():
        there = slice(place, place := place + len(chunks))
        one, two = (
            np.concatenate([each[there].reshape(-1, size) for each in all_of])
            for all_of in (streamed, [each[SECONDS] for each in offline])
        )
        found = cosine(centring.apply(one), centring.apply(two))
        cells[band] = found.mean()
        cells[f"{band}, 5 %"] = np.quantile(found, 0.05)
    cells["raw"] = cosine(one, two).mean()  # of the last band
    for seconds in SCENES:
        one, two = (
            np.stack([scene(each, seconds) for each in streamed]),
            np.stack([scene(each[seconds], seconds) for each in offline]),
        )
        found = cosine(centring.apply(one), centring.apply(two))
        cells[f"scene, {seconds} s"], cells[f"{seconds} s, least"] = found.mean(), found.min()
    return {name: round(float(cell), 3) for name, cell in cells.items()}


def scene(found: Array, seconds: int) -> Array:
    """The scene embedding of the first seconds. Shape: (chunks, 50, E) -> (E,)."""
    count = SCENES[seconds]
    return np.average(found[:count].mean(1), axis=0, weights=STANDS_FOR[:count])


def cosine(a: Array | Floats, b: Array | Floats) -> Array | Floats:
    """Of each row with the same row of the other. Shape: (N, D), (N, D) -> (N,)."""
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(1) / np.maximum(norms, np.finfo(np.float32).tiny)


def probed(model: Embedder, clips: Clips) -> dict[str, float]:
    """Balanced accuracy in percent for each way, of a probe that learns from offline embeddings."""
    mels = [frames(np.resize(wave, CHUNK))[:CHUNK_FRAMES] for wave in clips.waves]
    offline = np.stack([steps(model, by(mel, statistics([mel])), [0]).mean((0, 1)) for mel in mels]).astype(np.float64)
    streamed: dict[str, Array] = {}
    for label in np.unique(clips.labels):
        places = np.flatnonzero(clips.labels == label)
        heard = np.concatenate([mels[place] for place in places])
        others = [mels[place] for place in np.flatnonzero(clips.labels != label)]
        for name, mel in ways(heard, heard, others):
            embeddings = streamed.setdefault(name, np.zeros(offline.shape, np.float32))
            embeddings[places] = steps(model, mel, range(len(places))).mean(1)
    scores = {"offline": clips.score(offline, offline)}
    return scores | {name: clips.score(offline, found.astype(np.float64)) for name, found in streamed.items()}


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--apart", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of set-apart tasks.")
@click.option("--count", type=click.IntRange(min=2), default=4, help="Recordings of a kind.")
@click.option("--tasks", default="voices,pieces", help="Tables in APART.")
@click.option("--clips", type=click.IntRange(min=10), default=90, help="Clips of a task, at most.")
def main(folders: tuple[Path, ...], apart: Path | None, count: int, tasks: str, clips: int) -> None:
    """Compare the embeddings of streams with the offline ones, by how the stream knows the statistics."""
    kinds = {folder.name: read_recordings(folder, count) for folder in folders}
    for folder in folders:
        if folder.name == "speech":
            kinds["speech, pauses"] = read_recordings(folder, count, pauses=True)
    cosines, scores = [], []
    for name in MODELS:
        model = load_model(name, precision="float32")
        for kind, recordings in kinds.items():
            rows = [{"model": name, "kind": kind, **each} for each in compared(model, recordings)]
            click.echo(rows_table(rows))
            cosines += rows
        for task in tasks.split(",") if apart else []:
            read = read_clips(apart / f"{task}.csv", clips)
            found = {way: round(score, 1) for way, score in probed(model, read).items()}
            scores.append({"model": name, "task": task, "clips": len(read.waves), **found})
            click.echo(rows_table(scores[-1:]))
    sources = {kind: [recording.source for recording in recordings] for kind, recordings in kinds.items()}
    record = {"sources": sources, "cosines": cosines, "scores": scores}
    add_record(RESULTS / "stream_statistics.json", {**machine(torch.device("cpu")), **record})


if __name__ == "__main__":
    main()
