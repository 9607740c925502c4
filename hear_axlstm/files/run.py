"""``embed``: finds sounds, decodes, encodes and writes them, all at the same time, and says what became of each."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hear_axlstm.config import check_choice, require
from hear_axlstm.embedder import Embedder
from hear_axlstm.encoder import Layers
from hear_axlstm.errors import ConfigError
from hear_axlstm.files import Format
from hear_axlstm.files.ahead import DrawnAhead
from hear_axlstm.files.bar import SoundBar
from hear_axlstm.files.decode import decode_batches
from hear_axlstm.files.items import are_held, as_sounds
from hear_axlstm.files.outcomes import Outcome, encode_ahead
from hear_axlstm.files.planning import BATCH_SECONDS, WINDOW_BATCHES, Plan, add_failure
from hear_axlstm.files.result import Embedded, Failures
from hear_axlstm.files.sounds import Given, Sound
from hear_axlstm.files.target import Target, is_short
from hear_axlstm.files.write import centring_of, open_folder, sink
from hear_axlstm.hear import load_model
from hear_axlstm.ops.backend import find_device
from hear_axlstm.parallel import processors
from hear_axlstm.progress import several
from hear_axlstm.weights.find import list_models
from hear_axlstm.weights.names import weights_name

if TYPE_CHECKING:
    from hear_axlstm.files.cluster import Cluster

BATCH_SECONDS_ON = {"cuda": 1024.0}  # audio encoded in one call, padding included; BATCH_SECONDS elsewhere
FIRST_WINDOW, WINDOW = 256, 4_096  # sounds that are planned at once on their way to a folder: the first ones, and others
AHEAD = 16 * WINDOW  # sounds that may be planned and wait; about 32 MB
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
    format: Format | None = None,
    overwrite: bool = False,
    prune: bool = False,
    retry: bool = False,
    sample_rate: float | None = None,
    pad_short: bool = False,
    batch_seconds: float | None = None,
    workers: int | None = None,
    ray: bool | str = False,
    progress: bool | None = None,
) -> Embedded:
    """Scene or timestamp embeddings of many sounds, in batches of mixed lengths.

    While a batch is encoded, the next ones are decoded and the last ones written.

    sounds: one or many, in a list, a generator or a data set, mixed: audio files and folders of them, or what
    ``find_files`` found; text files, .txt, .lst or .list, that list them one a line; addresses, also of folders; arrays,
    (n_samples,) or (n_samples, channels) or (channels, n_samples) of up to 8 channels, at ``sample_rate`` Hz; and what else
    ``hear_axlstm.audio.to_wave`` takes: pairs (array, sample rate), rows of data sets, decoders, bytes, open files. Files
    that share a name are called by their paths, as listed ones always are; what has no name by its index. Of a generator or
    a data set few sounds are held at a time.
    model: what ``load_model`` returns, or takes: a variant, a file, a folder; the bundled default when left out.
    device: where ``load_model`` puts the model, "cpu" when left out. A model that is given stays where it is.
    out: a folder to write to (no arrays): NAME.embedding.npy and NAME.timestamps.json, or parquet. A second run does
    only what is missing or damaged, or whose file has changed: its path, size or time. With other weights or settings it is
    refused unless ``overwrite``. Several runs may share the folder. A name is one file's: another with it fails.
    ``load_embeddings`` reads it. Nothing is written where none of the sounds can be embedded. Work begins before all sounds
    are found, and memory grows with their names alone.
    prune: whether what is in ``out`` of sounds that are not there any more is removed first; not where no sound is found.
    retry: whether sounds that failed before, as a parquet folder records it, are tried again though they have not changed.
    format: of ``out``, "npy" or "parquet"; left out: npy, and with Ray parquet.
    layers: outputs of the encoder to give, a number, several or "all"; 0 is the patch embedding, -1 the final norm.
    batch_seconds: audio encoded in one call; on running out of CUDA memory it is halved and the work goes on.
    workers: processes that decode files; 0: threads of this process. Left out: as many as processors for a model on CUDA,
    which threads would keep waiting, 0 elsewhere; with Ray, as an actor has processors. Each holds one recording in memory.
    Arrays need none.
    ray: whether Ray Data encodes into ``out``, an actor on each GPU or processor, each of which decodes for itself: True for
    a Ray of this machine, or the address of a cluster, HOST:PORT or "auto", whose machines see the files. What the caller
    has connected to is used. ``device`` is theirs then, "auto" when left out: GPUs where there are any.
    pad_short: whether a sound too short to embed, of less than 201 samples at 16 kHz, is padded with zeros; else it fails.
    progress: whether to show a bar on stderr; left out: where that is a terminal, and in notebooks.

    A sound that cannot be embedded is recorded in ``failures`` and does not stop the others; the log gets a warning. Raises
    AudioError when the one path given is not there, OutputError when the folder must not be continued, ConfigError on bad
    options, on arrays without a rate and on lists that are empty or no text, OSError when nothing can be written any more,
    processes do not start or Ray ends the work; what was finished by then is kept.
    """
    format = format or ("parquet" if ray else "npy")
    _check(format, batch_seconds, workers)
    require(out is not None or not prune, "prune removes embeddings from a folder; say from which: out=...")
    require(out is not None or not retry, "retry is for what failed before in a folder; say in which: out=...")
    require(out is not None or not ray, "with ray, embeddings are written to a folder; say to which: out=...")
    clock = _Clock()
    kind: dict[str, Any] = {"timestamps": timestamps, "layers": layers}
    options: dict[str, Any] = {"pad_short": pad_short, "overwrite": overwrite}
    left_out: list[Path] = []
    found: Iterable[Given] = as_sounds(sounds, sample_rate, left_out, expand=True)
    target = None if out is None else Target(out, sounds, prune=prune, **options)
    model = loaded(model, None if ray else device)
    cluster = _connected(ray, device, model) if ray else None
    model = cluster.model if cluster else model
    planned = Plan(pad_short=pad_short)
    bar = SoundBar(planned, model, progress)
    batch_seconds = batch_seconds or BATCH_SECONDS_ON.get((cluster or model.device).type, BATCH_SECONDS)
    fetched: dict[str, Any] = {"are_held": are_held(sounds), "at_once": WINDOW_BATCHES}
    if target is None:
        batches = planned.batch(found, batch_seconds, **fetched)
    else:
        found = target.opening(found, partial(open_folder, target.out, model, format=format, **options, **kind))
        fetched["fetch"] = not cluster
        asked = target.is_done, None if retry else target.failure_of
        batches = planned.batch(_watched(found, bar), batch_seconds, *asked, **fetched, windows=windows())
    drawn = _in_advance(batches, bar) if target and are_held(sounds) else batches
    with cluster or nullcontext(), closing(drawn), bar:
        begun = _begun(drawn)
        bar.begin()
        clock.lap("prepare")
        processes = workers if cluster else _processes(workers, planned, model)
        with _encoded(begun, cluster or model, processes, lap=clock.lap, **kind) as encoded:
            outcomes = _with_failures(encoded, planned)
            folder = target.folder if target else None
            written = outcomes if folder is None else sink(outcomes, folder)
            with closing(written):
                result = _collected(planned, written, bar, timestamps)
    if target is not None:
        result.embeddings, result.timestamps, result.pruned = [], [], target.pruned
    if folder is not None:
        result.folder, result.gone = folder.folder, folder.gone()
    result.size = model.timestamp_embedding_size if timestamps else model.scene_embedding_size
    result.left_out = left_out
    result.weights, result.centring = weights_name(model.encoder), centring_of(model, **kind)
    clock.lap("write")
    result.seconds = clock.seconds
    if result.failures and out is None:
        logger.warning("%s", _failed(result))
    return result


def _connected(address: bool | str, device: str | torch.device | None, model: Embedder) -> Cluster:
    """Ray with the model. Raises ConfigError where it is missing, and as ``Cluster`` does."""
    try:
        from hear_axlstm.files.cluster import Cluster
    except ImportError as error:
        raise ConfigError(f"Ray Data is missing or too old ({error}): pip install 'hear-axlstm[ray]'") from error
    return Cluster(address, str(device or ("auto" if model.device.type == "cpu" else model.device.type)), model)


@contextmanager
def _encoded(
    batches: Iterator[list[Sound]],
    where: Cluster | Embedder,
    processes: int | None,
    *,
    lap: Callable[[str], None],
    **kind: Any,
) -> Iterator[Iterator[Outcome]]:
    """The outcomes of batches, by a model here or by a cluster. processes: that decode."""
    if isinstance(where, Embedder):
        with closing(decode_batches(batches, processes or 0)) as decoded:
            yield encode_ahead(decoded, where, lap=lap, **kind)
    else:
        from hear_axlstm.files.on_ray import encode_on_ray

        with closing(encode_on_ray(batches, where, decoders=processes, lap=lap, **kind)) as outcomes:
            yield outcomes


def windows() -> Iterator[int]:
    """How many sounds are planned at once on their way to a folder: few first, so that work begins."""
    return chain([FIRST_WINDOW], repeat(WINDOW))


def _watched(sounds: Iterable[Given], bar: SoundBar) -> Iterator[Given]:
    """The sounds as they are; the bar has a look at how many there are."""
    for sound in sounds:
        bar.tick()
        yield sound


def _in_advance(batches: Generator[list[Sound], None, None], bar: SoundBar) -> DrawnAhead[list[Sound]]:
    """The batches, planned in the background. Of those with fetched sounds one waits, of others ``AHEAD`` sounds."""

    def size(batch: list[Sound]) -> int:
        return len(batch) if all(sound.path is not None for sound in batch) else AHEAD

    return DrawnAhead(batches, size=size, limit=AHEAD, while_waiting=bar.tick)


def _begun(batches: Iterator[list[Sound]]) -> Iterator[list[Sound]]:
    """The batches, the first of which is planned already."""
    first = next(batches, None)
    return iter(()) if first is None else chain([first], batches)


def _with_failures(outcomes: Iterable[Outcome], planned: Plan) -> Generator[Outcome, None, None]:
    """The outcomes, and among them those of sounds that failed in planning."""
    for outcome in outcomes:
        yield from planned.take_failed()
        yield outcome
    yield from planned.take_failed()


def loaded(model: Embedder | str | os.PathLike[str] | None, device: str | torch.device | None) -> Embedder:
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
    ended, held = bytearray(), dict[int, Outcome]()  # whether each sound has an embedding, and those that are not written
    for outcome in outcomes:
        if (index := outcome.index) in planned.refused:
            continue
        ended.extend(bytes(max(index + 1 - len(ended), 0)))
        ended[index] = not outcome.failure
        planned.seconds[index] = outcome.seconds  # known only now where it was fetched elsewhere
        if outcome.failure:
            held.pop(index, None)
            add_failure(planned.failures, outcome.name, outcome.source and outcome.source.path, outcome.failure)
        elif outcome.embedding is not None:
            held[index] = outcome
        bar.finish(outcome)
    planned.tell_apart()
    ok, durations = np.zeros(len(planned.names), dtype=bool), np.array(planned.seconds, dtype=np.float64)
    ok[: len(ended)] = np.frombuffer(ended, dtype=bool)
    done = np.flatnonzero(ok)
    ok[np.array(planned.there, dtype=np.intp)] = True
    in_order = [held.get(index) for index in range(len(ok) if held else 0)]
    return Embedded(
        planned.names,
        embeddings=[one.embedding if one else None for one in in_order] if held else [None] * len(ok),
        timestamps=[one.timestamps if one else None for one in in_order] if timestamps else [],
        ok=ok,
        paths=planned.paths,
        durations=durations,
        skipped=planned.skipped,
        padded=[planned.names[index] for index in done if planned.pad_short and is_short(durations[index])],
        failures=Failures(planned.failures),
        audio_seconds=float(durations[done].sum()),
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
