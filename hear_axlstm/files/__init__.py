"""Many sounds, of any length, in files or in memory -> embeddings, returned or written to a folder.

``embed`` does all of it here. ``open_folder``, ``plan``, ``encode`` and ``sink`` are its parts for a cluster: one process
plans and writes, and others, each with a model, encode one batch after the other.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from hear_axlstm.config import SAMPLE_RATE, check_choice
from hear_axlstm.embedder import Embedder
from hear_axlstm.encoder import Layers
from hear_axlstm.errors import ConfigError
from hear_axlstm.files.decode import decode_batches
from hear_axlstm.files.find import BATCH_SECONDS, Plan, add_failure, as_sounds, plan
from hear_axlstm.files.outcomes import Array, Outcome, encode, encode_ahead
from hear_axlstm.files.sounds import ArraySound, NoSound
from hear_axlstm.files.write import Format, open_folder, sink
from hear_axlstm.hear import load_model
from hear_axlstm.parallel import processors
from hear_axlstm.progress import progress_bar

BATCH_SECONDS_ON = {"cuda": 1024.0}  # audio encoded in one call, padding included; BATCH_SECONDS elsewhere
UNWRITABLE = "arrays cannot be written to a folder"

__all__ = ["Embedded", "Outcome", "Plan", "embed", "encode", "open_folder", "plan", "sink"]


@dataclass
class Embedded:
    """The result of ``embed``.

    names: the sounds embedded, in the order given. embeddings: theirs, (D,) a scene or (N, D) with ``timestamps``, which
    are in ms, (N,) each; (layers, D) and (layers, N, D) where layers were asked for. Both lists are empty when the
    embeddings went to a folder. skipped: names that were there already. failures: name -> reason. left_out: files in folders
    that have none of the suffixes of audio; one that is sound is read when it is given by name, or after
    ``ffmpeg -i x.m4a x.flac``. audio_seconds: the sound embedded.

    seconds: where the time of the call went, all of it, by what it waited for: "prepare" (the model, which files there are,
    their headers, what is done already), "decode" (decoded audio), "encode" (copying to the device, encoding, fetching
    results) and "write" (handing them to the writer, and in the end its last file). Work in the background is not counted:
    where a device is kept busy, nearly all is "encode".
    """

    names: list[str] = field(default_factory=list)
    embeddings: list[Array] = field(default_factory=list)
    timestamps: list[Array] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    left_out: list[Path] = field(default_factory=list)
    audio_seconds: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)


def embed(
    sounds: Iterable[Any],
    model: Embedder | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    timestamps: bool = False,
    layers: Layers | None = None,
    format: Format = "npy",
    overwrite: bool = False,
    sample_rate: int = SAMPLE_RATE,
    batch_seconds: float | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> Embedded:
    """Scene or timestamp embeddings of many sounds, in batches of mixed lengths.

    While a batch is encoded, the next ones are decoded and the last ones written.

    sounds: audio files and folders of them, or what ``find_files`` found; arrays, (n_samples,) or (n_samples, channels), at
    ``sample_rate`` Hz; pairs (array, sample rate), or a data set's dictionaries with "array" and "sampling_rate". Files that
    share a name are called by their paths, arrays by their index.
    model: on the device to use; the bundled default when left out.
    out: a folder to write to (files only): NAME.embedding.npy and NAME.timestamps.json, or parquet. A second run does
    only what is missing or damaged, or whose file has changed: its path, size or time. With other weights or settings it is
    refused unless ``overwrite``. Several runs may share the folder. A name is one file's: another with it fails.
    layers: outputs of the encoder to give, a number, several or "all"; 0 is the patch embedding, -1 the final norm.
    batch_seconds: audio encoded in one call; on running out of CUDA memory it is halved and the work goes on.
    workers: processes that decode files; 0: threads of this process. Left out: as many as processors for a model on CUDA,
    which threads would keep waiting, 0 elsewhere. Each holds one recording in memory. Arrays need none.
    progress: a bar on stderr.

    A sound that cannot be embedded is recorded in ``failures`` and does not stop the others. Raises OutputError when the
    folder must not be continued, ConfigError on bad options, OSError when nothing can be written any more or processes do
    not start; what was finished by then is kept.
    """
    _check(format, batch_seconds, workers)
    clock = _Clock()
    left_out: list[Path] = []
    found = as_sounds(sounds, sample_rate, left_out)
    if out is not None and found and all(isinstance(sound, ArraySound) for sound in found):
        raise ConfigError(f"{UNWRITABLE}; embed them without out")
    if out is not None:
        advice = f"{UNWRITABLE}; save the sound to a file"
        found = [NoSound(one.name, f"{one.name}: {advice}") if isinstance(one, ArraySound) else one for one in found]
    model = load_model() if model is None else model
    kind: dict[str, Any] = {"timestamps": timestamps, "layers": layers}
    folder = None if out is None else open_folder(Path(out), model, format=format, overwrite=overwrite, **kind)
    batch_seconds = batch_seconds or BATCH_SECONDS_ON.get(model.device.type, BATCH_SECONDS)
    planned = plan(found, batch_seconds=batch_seconds, is_done=folder.is_done if folder else None)
    clock.lap("prepare")
    decoded = decode_batches(planned.batches, _processes(workers, planned, model))
    outcomes = encode_ahead(decoded, model, lap=clock.lap, **kind)
    written = outcomes if folder is None else sink(outcomes, folder)
    with closing(decoded), closing(written):
        result = _collected(planned, written, progress)
    clock.lap("write")
    result.left_out = left_out
    result.seconds = clock.seconds
    return result


def _check(format: Format, batch_seconds: float | None, workers: int | None) -> None:
    check_choice("format", format, Format)
    if batch_seconds is not None and not batch_seconds > 0:
        raise ConfigError(f"batch_seconds is {batch_seconds}; expected a positive number of seconds")
    if workers is not None and workers < 0:
        raise ConfigError(f"workers is {workers}; expected 0 or more processes")


def _processes(workers: int | None, planned: Plan, model: Embedder) -> int:
    """How many processes decode: no more than there are files."""
    if workers is None:
        workers = processors() if model.device.type == "cuda" else 0
    return min(workers, sum(sound.path is not None for batch in planned.batches for sound in batch))


def _collected(planned: Plan, outcomes: Iterable[Outcome], progress: bool) -> Embedded:
    """The result of a plan, in the order given, of outcomes that may have arrays."""
    done: dict[int, Outcome] = {}
    failures = dict(planned.failures)
    total = sum(planned.seconds.values())
    with progress_bar(total=total, unit="s", unit_scale=True, desc="audio", shown=progress) as bar:
        for outcome in outcomes:
            if outcome.failure:
                done.pop(outcome.index, None)
                add_failure(failures, outcome.name, outcome.source and outcome.source.path, outcome.failure)
            else:
                done[outcome.index] = outcome
            bar.update(planned.seconds[outcome.index])
    in_order = [done[index] for index in sorted(done)]
    return Embedded(
        [outcome.name for outcome in in_order],
        embeddings=[outcome.embedding for outcome in in_order if outcome.embedding is not None],
        timestamps=[outcome.timestamps for outcome in in_order if outcome.timestamps is not None],
        skipped=planned.skipped,
        failures=failures,
        audio_seconds=sum(planned.seconds[index] for index in done),
    )


class _Clock:
    """Accounts for all time by the stage it went to."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(("prepare", "decode", "encode", "write"), 0.0)
        self._last = perf_counter()

    def lap(self, stage: str) -> None:
        """Add the time since the last lap to ``stage``."""
        now = perf_counter()
        self.seconds[stage] += now - self._last
        self._last = now
