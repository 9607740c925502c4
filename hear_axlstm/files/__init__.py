"""Many sounds, of any length, in files or in memory -> embeddings, kept or written to a folder."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from tqdm import tqdm

from hear_axlstm.config import SAMPLE_RATE, check_choice
from hear_axlstm.embedder import Embedder
from hear_axlstm.errors import AudioError, ConfigError
from hear_axlstm.files.decode import Batch, decode_batches
from hear_axlstm.files.find import ArraySound, FileSound, Sound, find_files
from hear_axlstm.files.write import FORMATS, Array, Background, Format, InMemory, Sink
from hear_axlstm.hear import load_model
from hear_axlstm.parallel import processors
from hear_axlstm.weights.save import fingerprint

BATCH_SECONDS = {"cuda": 1024.0}  # audio encoded in one call, padding included
BATCH_SECONDS_ELSEWHERE = 64.0
BATCHES_LATE = {"cuda": 1}  # batches given to the device before the results of one are fetched; 0 elsewhere

Outcome = tuple[Array, Array | None] | AudioError | torch.OutOfMemoryError


@dataclass
class Embedded:
    """What ``embed`` did.

    names: the sounds embedded, in the order given. embeddings: theirs, (D,) a scene or (N, D) with ``timestamps``, which
    are in ms, (N,) each; both lists are empty when the embeddings went to a folder. skipped: names that were there
    already. failures: name -> reason. audio_seconds: the sound embedded.

    seconds: where the time of the call went, all of it, by what it waited for: "prepare" (the model, which files there are,
    their headers, what is done already), "decode" (decoded audio), "encode" (copying to the device, encoding, fetching
    results) and "write" (handing them to the writer, and in the end its last file). What was done meanwhile in the
    background is not counted: where a device is kept busy, nearly all is "encode".
    """

    names: list[str] = field(default_factory=list)
    embeddings: list[Array] = field(default_factory=list)
    timestamps: list[Array] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    audio_seconds: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)


def embed(
    sounds: Sequence[str | os.PathLike[str] | FileSound | ArrayLike],
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
    """Scene or timestamp embeddings of many sounds, in batches of mixed lengths.

    While a batch is encoded, the next ones are decoded and the last ones written.

    sounds: audio files and folders of them, or what ``find_files`` found; or arrays, (n_samples,) or (n_samples, channels),
    at ``sample_rate`` Hz.
    model: on the device to use; the bundled default when left out.
    out: a folder to write to (files only): NAME.embedding.npy and NAME.timestamps.json, or parquet. A second run does
    only what is missing or has changed; with other weights or settings it is refused unless ``overwrite``.
    batch_seconds: audio encoded in one call; on running out of CUDA memory it is halved and the work goes on.
    workers: processes that decode files; 0: threads of this process. Left out: as many as processors for a model on CUDA,
    which threads would keep waiting, 0 elsewhere. Each holds one recording in memory. Arrays need none.
    progress: a bar on stderr.

    A sound that cannot be embedded is recorded in ``failures`` and does not stop the others. Raises OutputError when the
    folder must not be continued or two files share a name, ConfigError on bad options, OSError when a file cannot be
    written or processes do not start; what was finished by then is kept.
    """
    check_choice("format", format, Format)
    if batch_seconds is not None and not batch_seconds > 0:
        raise ConfigError(f"batch_seconds is {batch_seconds}; expected a positive number of seconds")
    if workers is not None and workers < 0:
        raise ConfigError(f"workers is {workers}; expected 0 or more processes")
    clock = _Clock()
    found = _gather(sounds, sample_rate, writing=out is not None)
    model = model if model is not None else load_model()
    limit = batch_seconds or BATCH_SECONDS.get(model.device.type, BATCH_SECONDS_ELSEWHERE)
    if workers is None:
        workers = processors() if model.device.type == "cuda" else 0
    settings = _settings(model, timestamps, format)
    sink = InMemory() if out is None else Background(FORMATS[format](Path(out), settings, overwrite=overwrite))
    result = Embedded()
    with sink:
        durations = _durations(found, sink, result)
        files = sum(sound.path is not None for sound in durations)
        with (
            tqdm(total=sum(durations.values()), unit="s", unit_scale=True, desc="audio", disable=not progress) as bar,
            closing(decode_batches(_batches(durations, limit), min(workers, files))) as batches,
        ):
            clock.lap("prepare")
            for outcomes in _encoded(batches, model, timestamps, clock):
                for sound, outcome in outcomes:
                    if isinstance(outcome, Exception):
                        result.failures[sound.name] = _reason(outcome)
                    else:
                        sink.write(sound.name, sound.path, *outcome)
                        result.names.append(sound.name)
                        result.audio_seconds += durations[sound]
                    bar.update(durations[sound])
                clock.lap("write")
    order = {sound.name: index for index, sound in enumerate(found)}
    result.names.sort(key=order.__getitem__)
    if isinstance(sink, InMemory):
        result.embeddings = [sink.embeddings[name] for name in result.names]
        result.timestamps = [sink.timestamps[name] for name in result.names] if timestamps else []
    clock.lap("write")
    result.seconds = clock.seconds
    return result


class _Clock:
    """Accounts for all time by the stage it went to."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(("prepare", "decode", "encode", "write"), 0.0)
        self._last = perf_counter()

    def lap(self, stage: str) -> None:
        """The time since the last lap went to ``stage``."""
        now = perf_counter()
        self.seconds[stage] += now - self._last
        self._last = now


def _gather(sounds: Sequence[Any], sample_rate: int, *, writing: bool) -> Sequence[Sound]:
    if isinstance(sounds, str | os.PathLike | np.ndarray | torch.Tensor):
        raise ConfigError(f"sounds is a {type(sounds).__name__}; expected a list of files or of arrays")
    if all(isinstance(sound, FileSound) for sound in sounds):
        return sounds
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
    batches: Iterator[Batch], model: Embedder, timestamps: bool, clock: _Clock
) -> Iterator[Iterable[tuple[Sound, Outcome]]]:
    """What became of each batch's sounds. Where the device works by itself, it has the next batch before one is fetched."""
    running: deque[tuple[list[Sound], _Encoding]] = deque()

    def fetched(late: int) -> Iterator[Iterable[tuple[Sound, Outcome]]]:
        while len(running) > late:
            sounds, encoding = running.popleft()
            outcomes = encoding.outcomes()
            clock.lap("encode")
            yield zip(sounds, outcomes, strict=True)

    for batch in batches:
        clock.lap("decode")
        yield batch.failures.items()
        if batch.sounds:
            running.append((batch.sounds, _Encoding(batch.audio, batch.lengths, model, timestamps)))
            clock.lap("encode")
        yield from fetched(BATCHES_LATE.get(model.device.type, 0))
    clock.lap("decode")
    yield from fetched(0)


class _Encoding:
    """A batch given to the device. On CUDA nothing is waited for before ``outcomes``.

    Only the thread that encodes calls CUDA: one that allocated memory while a graph is captured would spoil the capture.
    """

    def __init__(self, audio: Tensor, lengths: list[int], model: Embedder, timestamps: bool) -> None:
        self._audio, self._lengths, self._model, self._timestamps = audio, lengths, model, timestamps
        self._fetched: torch.cuda.Event | None = None
        self._failure: AudioError | torch.OutOfMemoryError | None = None
        on_cuda = model.device.type == "cuda"
        try:
            on_device = (audio.pin_memory() if on_cuda else audio).to(model.device, non_blocking=on_cuda)
            with torch.inference_mode():
                results = model.timestamps(on_device, lengths) if timestamps else (model(on_device, lengths),)
                self._results = [result.to("cpu", non_blocking=on_cuda) for result in results]
            if on_cuda:
                self._fetched = torch.cuda.current_stream(model.device).record_event()
        except (AudioError, torch.OutOfMemoryError) as error:
            self._failure = error.with_traceback(None)  # which would hold the memory that ran out

    def outcomes(self) -> list[Outcome]:
        """Of each sound. A batch that failed is done by halves, down to the clip that is to blame."""
        if self._failure is None:
            if self._fetched is not None:
                self._fetched.synchronize()
            if not self._timestamps:  # copies: page-locked memory is to be used again
                return [(scene.copy(), None) for scene in self._results[0].numpy()]
            embeddings, times = (result.numpy() for result in self._results)
            counts = np.isfinite(times).sum(1)
            return [(e[:count].copy(), t[:count].copy()) for e, t, count in zip(embeddings, times, counts, strict=True)]
        if len(self._lengths) == 1:
            return [self._failure]
        half = len(self._lengths) // 2
        return self._part(slice(None, half)) + self._part(slice(half, None))

    def _part(self, clips: slice) -> list[Outcome]:
        lengths = self._lengths[clips]
        return _Encoding(self._audio[clips, : max(lengths)], lengths, self._model, self._timestamps).outcomes()


def _reason(error: Exception) -> str:
    return "out of memory for this clip alone" if isinstance(error, torch.OutOfMemoryError) else str(error)
