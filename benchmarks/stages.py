"""How fast each stage of a run is by itself, without an encoder: headers, decoding, the sink, and Ray's feed.

``python -m benchmarks.scale`` calls these. Rates are per second of processor time of this process, so that what else the
machine does matters little; those of Ray, which runs several processes, are per second of the clock, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from benchmarks.collection import settings_of, source_of
from hear_axlstm import load_model
from hear_axlstm.audio import audio_facts
from hear_axlstm.embedder import Embedder
from hear_axlstm.files import sink
from hear_axlstm.files.decode import decode_batches
from hear_axlstm.files.outcomes import Outcome
from hear_axlstm.files.parquet import ParquetFolder
from hear_axlstm.files.sounds import FileSound, Source
from hear_axlstm.parallel import Workers

KINDS: dict[str, tuple[int, int, dict[str, str]]] = {  # name: rate in Hz, channels, how soundfile writes it
    "wav, 16 kHz": (16_000, 1, {"format": "WAV", "subtype": "PCM_16"}),
    "wav, 48 kHz stereo": (48_000, 2, {"format": "WAV", "subtype": "PCM_16"}),
    "flac, 44.1 kHz": (44_100, 1, {"format": "FLAC", "subtype": "PCM_16"}),
    "mp3, 44.1 kHz": (44_100, 1, {"format": "MP3", "subtype": "MPEG_LAYER_III"}),
    "opus, 48 kHz": (48_000, 1, {"format": "OGG", "subtype": "OPUS"}),
}
LENGTHS = (3.0, 10.0)  # seconds
NUMBERS = 960  # of an embedding
FILES = 8  # different ones of a kind, so that more than one is read
BATCHES = (1, 64)  # clips in a batch that goes through Ray


class Nothing(Embedder):
    """An encoder that does nothing: what remains is the work of the program around it."""

    def forward(self, audio: Any, lengths: Any = None, layers: Any = None) -> torch.Tensor:
        return torch.randn(len(audio), self.scene_embedding_size)


def nothing() -> Nothing:
    """The bundled model, whose embeddings are noise."""
    return Nothing(load_model().encoder)


def synthesise(path: Path, seconds: float, rate: int, channels: int, **how: str) -> None:
    """A chord and some noise, so that a codec has something to do."""
    random = np.random.default_rng(0)
    times = np.arange(round(seconds * rate)) / rate
    chord = sum(np.sin(2 * np.pi * hertz * times) for hertz in random.uniform(100, 2_000, 5))
    sound = 0.05 * chord + 0.02 * np.cumsum(random.standard_normal(len(times))) / np.sqrt(len(times))
    soundfile.write(path, np.stack([sound] * channels, 1), rate, **how)


def of_files(folder: Path, seconds: float) -> list[dict[str, Any]]:
    """A row for each kind and length: files a second whose headers are read, and that are decoded, by one processor."""
    return [_of_kind(folder, kind, length, seconds) for kind in KINDS for length in LENGTHS]


def _of_kind(folder: Path, kind: str, length: float, seconds: float) -> dict[str, Any]:
    rate, channels, how = KINDS[kind]
    paths = [folder / f"{number}-{length}.{how['format'].lower()}" for number in range(FILES)]
    for path in paths:
        synthesise(path, length, rate, channels, **how)
    batch = [FileSound(path.name, path, source=Source.of(path), seconds=length) for path in paths]

    headers = calls_a_second(lambda: [audio_facts(path) for path in paths], seconds) * FILES
    with Workers(0) as workers:
        decoded = calls_a_second(partial(_drain, batch, workers), seconds) * FILES
    return {
        "kind": kind,
        "s": length,
        "kB": round(paths[0].stat().st_size / 1e3, 1),
        "headers/s": round(headers),
        "decoded/s": round(decoded),
        "x real time": round(decoded * length),
    }


def of_processes(folder: Path, seconds: float) -> list[dict[str, Any]]:
    """Clips a second that this process takes from others which decode, and pads into batches, on one processor."""
    rate, channels, how = KINDS["wav, 16 kHz"]
    rows = []
    for length in LENGTHS:
        path = folder / f"handed-{length}.wav"
        synthesise(path, length, rate, channels, **how)
        batch = [FileSound(path.name, path, source=Source.of(path), seconds=length) for _ in range(64)]
        with Workers(1) as workers:
            taken = calls_a_second(partial(_drain, batch, workers), seconds) * len(batch)
        rows.append({"s": length, "clips/s": round(taken), "x real time": round(taken * length)})
    return rows


def _drain(batch: list[FileSound], workers: Workers) -> None:
    (decoded,) = decode_batches([batch], workers)
    assert len(decoded.sounds) == len(batch), decoded.failures


def calls_a_second(function: Callable[[], object], seconds: float) -> float:
    """Calls a second of processor time, of all threads, for about so many seconds."""
    function()
    count, began = 0, time.process_time()
    while not count or time.process_time() - began < seconds:
        function()
        count += 1
    return count / (time.process_time() - began)


def of_sink(folder: Path, rows: int) -> dict[str, float]:
    """Rows a second that are put into a parquet folder, and how many bytes one takes there."""
    random = np.random.default_rng(0)
    vectors = random.standard_normal((1_000, NUMBERS), np.float32)
    sources = [source_of(number) for number in range(rows)]
    outcomes = (
        Outcome(source.path[6:], source, vectors[number % 1_000], seconds=10.0, sample_rate=16_000.0)
        for number, source in enumerate(sources)
    )
    opened = ParquetFolder(folder, settings_of())
    clock, began = time.perf_counter(), time.process_time()
    assert sum(not outcome.failure for outcome in sink(outcomes, opened)) == rows
    spent, clock = time.process_time() - began, time.perf_counter() - clock
    size = sum(path.stat().st_size for path in folder.iterdir())
    return {
        "rows": rows,
        "rows/s": round(rows / spent),
        "rows/s of the clock": round(rows / clock),
        "bytes a row": round(size / rows),
    }


def of_ray(folder: Path, seconds: float) -> list[dict[str, Any]]:
    """Batches and clips a second that go through Ray and come back encoded by nothing; none where there is no Ray."""
    if not find_spec("ray"):
        return []
    from hear_axlstm.files.cluster import Cluster
    from hear_axlstm.files.on_ray import encode_on_ray

    path = folder / "short.wav"
    synthesise(path, 0.3, *KINDS["wav, 16 kHz"][:2], **KINDS["wav, 16 kHz"][2])
    sound = FileSound(path.name, path, source=Source.of(path), seconds=0.3)
    rows = []
    for size in BATCHES:
        ends: list[float] = []

        def batches(size: int = size, ends: list[float] = ends) -> Iterator[list[FileSound]]:
            while not ends or time.perf_counter() < ends[0]:
                yield [sound] * size

        with Cluster("local", "cpu", nothing()) as cluster, closing(encode_on_ray(batches(), cluster)) as outcomes:
            next(outcomes)
            began, spent = time.perf_counter(), time.process_time()
            ends.append(began + seconds)
            clips = sum(not outcome.failure for outcome in outcomes)
            taken, spent = time.perf_counter() - began, time.process_time() - spent
        rows.append(
            {
                "clips a batch": size,
                "actors": cluster.actors,
                "batches/s": round(clips / size / taken, 1),
                "clips/s": round(clips / taken),
                "batches/s by the driver's processor time": round(clips / size / spent, 1),
            }
        )
    return rows
