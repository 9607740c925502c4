"""``embed``: finds sounds, decodes, encodes and writes them, all at the same time, and says what became of each."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from hear_axlstm.config import MIN_SAMPLES, SAMPLE_RATE, check_choice, require
from hear_axlstm.embedder import Embedder
from hear_axlstm.encoder import Layers
from hear_axlstm.errors import ConfigError
from hear_axlstm.files import Format
from hear_axlstm.files.bar import SoundBar
from hear_axlstm.files.decode import decode_batches
from hear_axlstm.files.items import are_held, as_sounds
from hear_axlstm.files.outcomes import Outcome, encode_ahead
from hear_axlstm.files.planning import BATCH_SECONDS, WINDOW_BATCHES, Plan, add_failure
from hear_axlstm.files.result import Embedded, Failures
from hear_axlstm.files.settings import read_settings
from hear_axlstm.files.sounds import ArraySound, Given, NoSound, Sound
from hear_axlstm.files.write import centring_of, check_place, open_folder, sink
from hear_axlstm.hear import load_model
from hear_axlstm.ops.backend import find_device
from hear_axlstm.parallel import processors
from hear_axlstm.progress import several
from hear_axlstm.weights.find import list_models
from hear_axlstm.weights.names import weights_name

BATCH_SECONDS_ON = {"cuda": 1024.0}  # audio encoded in one call, padding included; BATCH_SECONDS elsewhere
UNWRITABLE = "arrays, and sounds at addresses, cannot be written to a folder"
NAMED = 3  # failures in the log

logger = logging.getLogger(__name__)


def embed(
    sounds: Any,
    model: Embedder | str | os.PathLike[str] | None = None,
    *,
    device: str | torch.device | None = None,
    out: str | os.PathLike[str] | None = None,
    timestamps: bool = False,
    layers: Layers | None = None,
    format: Format = "npy",
    overwrite: bool = False,
    prune: bool = False,
    sample_rate: float | None = None,
    pad_short: bool = False,
    batch_seconds: float | None = None,
    workers: int | None = None,
    progress: bool | None = None,
) -> Embedded:
    """Scene or timestamp embeddings of many sounds, in batches of mixed lengths.

    While a batch is encoded, the next ones are decoded and the last ones written.

    sounds: one or many, in a list, a generator or a data set, mixed: audio files and folders of them, or what ``find_files``
    found; addresses; arrays, (n_samples,) or (n_samples, channels) or (channels, n_samples) of up to 8 channels, at
    ``sample_rate`` Hz; and what else ``hear_axlstm.audio.to_wave`` takes: pairs (array, sample rate), rows of data sets,
    decoders, bytes, open files. Files that share a name are called by their paths, what has no name by its index. Of a
    generator or a data set few sounds are held at a time.
    model: what ``load_model`` returns, or takes: a variant, a file, a folder; the bundled default when left out.
    device: where ``load_model`` puts the model, "cpu" when left out. A model that is given stays where it is.
    out: a folder to write to (files only): NAME.embedding.npy and NAME.timestamps.json, or parquet. A second run does
    only what is missing or damaged, or whose file has changed: its path, size or time. With other weights or settings it is
    refused unless ``overwrite``. Several runs may share the folder. A name is one file's: another with it fails.
    ``load_embeddings`` reads it. Nothing is written where none of the sounds can be embedded.
    prune: whether what is in ``out`` of sounds that are not there any more is removed first.
    layers: outputs of the encoder to give, a number, several or "all"; 0 is the patch embedding, -1 the final norm.
    batch_seconds: audio encoded in one call; on running out of CUDA memory it is halved and the work goes on.
    workers: processes that decode files; 0: threads of this process. Left out: as many as processors for a model on CUDA,
    which threads would keep waiting, 0 elsewhere. Each holds one recording in memory. Arrays need none.
    pad_short: whether a sound too short to embed, of less than 201 samples at 16 kHz, is padded with zeros; else it fails.
    progress: whether to show a bar on stderr; left out: where that is a terminal, and in notebooks.

    A sound that cannot be embedded is recorded in ``failures`` and does not stop the others; the log gets a warning. Raises
    AudioError when the one path given is not there, OutputError when the folder must not be continued, ConfigError on bad
    options and on arrays without a rate, OSError when nothing can be written any more or processes do not start; what was
    finished by then is kept.
    """
    _check(format, batch_seconds, workers)
    require(out is not None or not prune, "prune removes embeddings from a folder; say from which: out=...")
    clock = _Clock()
    left_out: list[Path] = []
    found: Iterable[Given] = as_sounds(sounds, sample_rate, left_out)
    listed = list[Given]()
    if out is not None:
        out = Path(os.path.expanduser(out))
        found = listed = _writable(found)
        check_place(out, listed)
    model = _loaded(model, device)
    kind: dict[str, Any] = {"timestamps": timestamps, "layers": layers}
    options: dict[str, Any] = {"format": format, "pad_short": pad_short, "overwrite": overwrite}
    folder = None
    if out is not None and _is_to_be_opened(out, listed, pad_short, overwrite):
        folder = open_folder(out, model, **options, **kind)
    pruned = folder.prune() if folder is not None and prune else []
    batch_seconds = batch_seconds or BATCH_SECONDS_ON.get(model.device.type, BATCH_SECONDS)
    is_done = folder.is_done if folder else None
    planned = Plan(pad_short=pad_short)
    batches = _begun(planned.batch(found, batch_seconds, is_done, are_held=are_held(sounds), at_once=WINDOW_BATCHES))
    clock.lap("prepare")
    decoded = decode_batches(batches, _processes(workers, planned, model))
    outcomes = encode_ahead(decoded, model, lap=clock.lap, **kind)
    written = outcomes if folder is None else sink(outcomes, folder)
    with closing(decoded), closing(written), SoundBar(planned, model, progress) as bar:
        result = _collected(planned, written, bar, timestamps)
    if folder is not None:
        result.folder, result.embeddings, result.timestamps, result.gone = folder.folder, [], [], folder.gone()
    result.size = model.timestamp_embedding_size if timestamps else model.scene_embedding_size
    result.pruned, result.left_out = pruned, left_out
    result.weights, result.centring = weights_name(model.encoder), centring_of(model, **kind)
    clock.lap("write")
    result.seconds = clock.seconds
    if result.failures and out is None:
        logger.warning("%s", _failed(result))
    return result


def _writable(found: Iterable[Given]) -> list[Given]:
    """The sounds with a failure for each array. Raises ConfigError when there is nothing else."""
    advice, has_files, kept = f"{UNWRITABLE}; save the sound to a file", False, list[Given]()
    for one in found:
        has_files |= not isinstance(one, ArraySound)
        kept.append(NoSound(one.name, advice, address=one.address) if isinstance(one, ArraySound) else one)
    if kept and not has_files:
        raise ConfigError(f"{UNWRITABLE}; embed them without out, and then result.save('embeddings.npz')")
    return kept


def _begun(batches: Iterator[list[Sound]]) -> Iterator[list[Sound]]:
    """The batches, the first of which is planned already."""
    first = next(batches, None)
    return iter(()) if first is None else chain([first], batches)


def _is_to_be_opened(out: Path, sounds: list[Given], pad_short: bool, overwrite: bool) -> bool:
    """Whether there is something to write, or embeddings are there already, which are not to be lost for nothing."""
    if not overwrite and read_settings(out) is not None:
        return True
    return any(_can_be_embedded(sound, pad_short) for sound in sounds)


def _can_be_embedded(sound: Given, pad_short: bool) -> bool:
    """Whether nothing is known, before it is decoded, that speaks against a sound; the plan says what does."""
    try:
        seconds = sound.measured()
    except Exception:
        return False
    return pad_short or not _is_short(seconds)


def _loaded(model: Embedder | str | os.PathLike[str] | None, device: str | torch.device | None) -> Embedder:
    """The model that is meant. Raises ConfigError when it is none, or is on another device than is asked for."""
    if model is None or isinstance(model, str | os.PathLike):
        return load_model(model or "", device=device or "cpu")
    if not isinstance(model, Embedder):
        expected = f"a name ({', '.join(list_models()[:2])}, ...), a path, or what hear_axlstm.load_model returns"
        raise ConfigError(f"model is a {type(model).__name__}; expected {expected}")
    if device is not None:
        wanted, there = find_device(device), model.device
        if wanted.type != there.type or wanted.index not in (None, there.index):
            raise ConfigError(f"the model is on {there}, device is {wanted}; move it first, model.to({str(wanted)!r})")
    return model


def _failed(result: Embedded) -> str:
    shown = "; ".join(f"{name}: {why}" for name, why in list(result.failures.items())[:NAMED])
    more = "; ..." if len(result.failures) > NAMED else ""
    verb = "has" if len(result.failures) == 1 else "have"
    return f"{len(result.failures):,} of {several(len(result), 'sound')} {verb} no embedding: {shown}{more}"


def _check(format: Format, batch_seconds: float | None, workers: int | None) -> None:
    check_choice("format", format, Format)
    if batch_seconds is not None and not batch_seconds > 0:
        raise ConfigError(f"batch_seconds is {batch_seconds}; expected a positive number of seconds")
    if workers is not None and workers < 0:
        raise ConfigError(f"workers is {workers}; expected 0 or more processes")


def _processes(workers: int | None, planned: Plan, model: Embedder) -> int:
    """How many processes decode: no more than there are files, where all are known."""
    if workers is None:
        workers = processors() if model.device.type == "cuda" else 0
    return min(workers, sum(bool(planned.paths[index]) for index in planned.order) if planned.is_whole else workers)


def _collected(planned: Plan, outcomes: Iterable[Outcome], bar: SoundBar, timestamps: bool) -> Embedded:
    """The result of a plan, in the order given, of outcomes that may have arrays."""
    done: dict[int, Outcome] = {}
    for outcome in outcomes:
        if outcome.failure:
            done.pop(outcome.index, None)
            add_failure(planned.failures, outcome.name, outcome.source and outcome.source.path, outcome.failure)
        else:
            done[outcome.index] = outcome
        bar.finish(outcome)
    planned.tell_apart()
    indices, there = range(len(planned.names)), {*done, *planned.there}
    in_order = [done.get(index) for index in indices]
    return Embedded(
        list(planned.names),
        embeddings=[one.embedding if one else None for one in in_order],
        timestamps=[one.timestamps if one else None for one in in_order] if timestamps else [],
        ok=np.array([index in there for index in indices], dtype=bool),
        paths=planned.paths,
        durations=np.array([planned.seconds.get(index, np.nan) for index in indices]),
        skipped=planned.skipped,
        padded=[planned.names[index] for index in sorted(done) if planned.pad_short and _is_short(planned.seconds[index])],
        failures=Failures(planned.failures),
        audio_seconds=sum(planned.seconds[index] for index in done),
    )


def _is_short(seconds: float) -> bool:
    return round(seconds * SAMPLE_RATE) < MIN_SAMPLES


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
