"""Many sounds, of any length, in files or in memory -> embeddings, kept or written to a folder."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from tqdm import tqdm

from hear_axlstm.audio import Wave
from hear_axlstm.config import SAMPLE_RATE, check_choice
from hear_axlstm.embedder import Embedder
from hear_axlstm.errors import AudioError, ConfigError
from hear_axlstm.hear import load_model
from hear_axlstm.output import FORMATS, Array, Format, InMemory, Sink
from hear_axlstm.sounds import ArraySound, Sound, find_files
from hear_axlstm.weights.format import fingerprint

BATCH_SECONDS = {"cuda": 1024.0}  # audio encoded in one call, padding included
BATCH_SECONDS_ELSEWHERE = 64.0
DECODE_AHEAD = 2  # batches decoded while one is encoded

Outcome = tuple[Array, Array | None] | AudioError | torch.OutOfMemoryError


@dataclass
class Embedded:
    """What ``embed`` did.

    names: the sounds embedded, in the order given. embeddings: theirs, (D,) a scene or (N, D) with ``timestamps``, which
    are in ms, (N,) each; both lists are empty when the embeddings went to a folder. skipped: names that were there
    already. failures: name -> reason.
    """

    names: list[str] = field(default_factory=list)
    embeddings: list[Array] = field(default_factory=list)
    timestamps: list[Array] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)


def embed(
    sounds: Sequence[str | os.PathLike[str] | ArrayLike],
    model: Embedder | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    timestamps: bool = False,
    format: Format = "npy",
    overwrite: bool = False,
    sample_rate: int = SAMPLE_RATE,
    batch_seconds: float | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> Embedded:
    """Scene or timestamp embeddings of many sounds: mixed lengths batched together, decoding in parallel with encoding.

    sounds: audio files and folders of them; or arrays, (n_samples,) or (n_samples, channels), at ``sample_rate`` Hz.
    model: on the device to use; the bundled default when left out.
    out: a folder to write to (files only): NAME.embedding.npy and NAME.timestamps.json, or parquet. A second run does
    only what is missing or has changed; with other weights or settings it is refused unless ``overwrite``.
    batch_seconds: audio encoded in one call; on running out of CUDA memory it is halved and the work goes on.
    workers: decoding threads. progress: a bar on stderr.

    A sound that cannot be embedded is recorded in ``failures`` and does not stop the others. Raises OutputError when the
    folder must not be continued or two files share a name, ConfigError on bad options, OSError when a file cannot be
    written; what was finished by then is kept.
    """
    check_choice("format", format, Format)
    if batch_seconds is not None and not batch_seconds > 0:
        raise ConfigError(f"batch_seconds is {batch_seconds}; expected a positive number of seconds")
    found = _gather(sounds, sample_rate, writing=out is not None)
    model = model if model is not None else load_model()
    limit = batch_seconds or BATCH_SECONDS.get(model.device.type, BATCH_SECONDS_ELSEWHERE)
    settings = _settings(model, timestamps, format)
    sink = InMemory() if out is None else FORMATS[format](Path(out), settings, overwrite=overwrite)
    result = Embedded()
    with sink:
        durations = _durations(found, sink, result)
        with tqdm(total=sum(durations.values()), unit="s", unit_scale=True, desc="audio", disable=not progress) as bar:
            for sound, outcome in _encoded(_batches(durations, limit), model, timestamps, workers or os.cpu_count() or 1):
                if isinstance(outcome, Exception):
                    result.failures[sound.name] = _reason(outcome)
                else:
                    sink.write(sound.name, sound.path, *outcome)
                    result.names.append(sound.name)
                bar.update(durations[sound])
    order = {sound.name: index for index, sound in enumerate(found)}
    result.names.sort(key=order.__getitem__)
    if isinstance(sink, InMemory):
        result.embeddings = [sink.embeddings[name] for name in result.names]
        result.timestamps = [sink.timestamps[name] for name in result.names] if timestamps else []
    return result


def _gather(sounds: Sequence[Any], sample_rate: int, *, writing: bool) -> Sequence[Sound]:
    if isinstance(sounds, str | os.PathLike | np.ndarray | torch.Tensor):
        raise ConfigError(f"sounds is a {type(sounds).__name__}; expected a list of files or of arrays")
    are_paths = [isinstance(sound, str | os.PathLike) for sound in sounds]
    if all(are_paths):
        return find_files(sounds)
    if any(are_paths) or writing:
        raise ConfigError("arrays can neither be mixed with files nor be written to a folder; embed them without out")
    if sample_rate < 1:
        raise ConfigError(f"sample_rate is {sample_rate}; expected a positive number of Hz")
    return [ArraySound(str(index), samples, sample_rate) for index, samples in enumerate(sounds)]


def _settings(model: Embedder, timestamps: bool, format: Format) -> dict[str, Any]:
    """What must be the same for a folder of embeddings to be continued."""
    return {
        "weights_sha256": fingerprint(model.encoder),
        "architecture": model.encoder.config.to_dict(),
        "embeddings": "timestamp" if timestamps else "scene",
        "layout": "time" if timestamps else model.layout,
        "precision": str(model.compute_dtype).removeprefix("torch."),
        "format": format,
    }


def _durations(sounds: Sequence[Sound], sink: Sink, result: Embedded) -> dict[Sound, float]:
    """Seconds of each sound still to do; the others are entered in ``result``."""
    durations = {}
    for sound in sounds:
        try:
            if sound.path is not None and sound.path.is_file() and sink.is_done(sound.name, sound.path):
                result.skipped.append(sound.name)
            else:
                durations[sound] = sound.seconds()
        except AudioError as error:
            result.failures[sound.name] = _reason(error)
    return durations


def _batches(durations: dict[Sound, float], limit: float) -> Iterator[list[Sound]]:
    """Longest first, so that padding is small and memory runs out early if at all; ``limit`` s a batch, padding included."""
    batch: list[Sound] = []
    longest = 0.0
    for sound in sorted(durations, key=durations.__getitem__, reverse=True):
        if batch and longest * (len(batch) + 1) > limit:
            yield batch
            batch = []
        longest = longest if batch else durations[sound]
        batch.append(sound)
    if batch:
        yield batch


def _encoded(
    batches: Iterator[list[Sound]], model: Embedder, timestamps: bool, workers: int
) -> Iterator[tuple[Sound, Outcome]]:
    """Each sound with what became of it. Threads decode the next batches while one is encoded."""
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        ahead: deque[list[tuple[Sound, Future[Wave]]]] = deque()
        while True:
            for batch in islice(batches, DECODE_AHEAD + 1 - len(ahead)):
                ahead.append([(sound, pool.submit(sound.load)) for sound in batch])
            if not ahead:
                return
            waves: dict[Sound, Wave] = {}
            for sound, future in ahead.popleft():
                try:
                    waves[sound] = future.result()
                except AudioError as error:
                    yield sound, error
            if waves:
                yield from zip(waves, _encode(list(waves.values()), model, timestamps), strict=True)


def _encode(waves: list[Wave], model: Embedder, timestamps: bool) -> list[Outcome]:
    """Embed a batch in one call; when that fails, its halves, down to the clip that is to blame."""
    try:
        lengths = [len(wave) for wave in waves]
        clips = [torch.from_numpy(wave) for wave in waves]
        audio = clips[0][None] if len(clips) == 1 else torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
        audio = audio.to(model.device)
        with torch.inference_mode():
            if not timestamps:
                return [(scene, None) for scene in model(audio, lengths).cpu().numpy()]
            embeddings, times = (x.cpu().numpy() for x in model.timestamps(audio, lengths))
            counts = np.isfinite(times).sum(1)
            return [(e[:count], t[:count]) for e, t, count in zip(embeddings, times, counts, strict=True)]
    except (AudioError, torch.OutOfMemoryError) as error:
        if len(waves) == 1:
            return [error]
    half = len(waves) // 2
    return _encode(waves[:half], model, timestamps) + _encode(waves[half:], model, timestamps)


def _reason(error: Exception) -> str:
    return "out of memory for this clip alone" if isinstance(error, torch.OutOfMemoryError) else str(error)
