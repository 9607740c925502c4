"""A batch of sounds and a model -> what became of each sound: its embedding, or the reason why there is none."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hear_axlstm.audio import audio_blocks
from hear_axlstm.embedder import Embedder
from hear_axlstm.encoder import Layers
from hear_axlstm.errors import AudioError, HearAxlstmError
from hear_axlstm.files.decode import DecodedBatch, decode_batches
from hear_axlstm.files.long import embed_long
from hear_axlstm.files.planning import unnamed
from hear_axlstm.files.sounds import FileSound, Sound, Source

BATCHES_LATE = {"cuda": 1}  # batches given to the device before the results of one are fetched; 0 elsewhere

Array = NDArray[np.float32]
Row = tuple[Array, Array | None] | str  # the embedding and timestamps of a clip, or why there are none


@dataclass
class Outcome:
    """The embedding of a sound, or the reason why there is none.

    name: the sound's. source: its file as it was before it was decoded, None in memory. embedding: (D,) for a scene, (N, D)
    with timestamps, (layers, D) and (layers, N, D) where layers were asked for; None where the sound failed. timestamps:
    (N,) in ms, None for a scene. failure: why there is no embedding, empty where there is one. index: the sound's place
    among the names of the plan. seconds: how long the sound is, as planned. sample_rate: the sound's own in Hz, by its
    header; 0 where nothing says it.
    """

    name: str
    source: Source | None
    embedding: Array | None = None
    timestamps: Array | None = None
    failure: str = ""
    index: int = 0
    seconds: float = 0.0
    sample_rate: float = 0.0


def encode(
    sounds: Sequence[Sound], model: Embedder, *, timestamps: bool = False, layers: Layers | None = None
) -> list[Outcome]:
    """Decode and embed one batch of a plan's sounds. Returns an outcome a sound, the failed ones first.

    model: on the device to use. timestamps: an embedding every 40 ms instead of one a sound. layers: as ``Embedder`` takes
    them. Out of memory on CUDA, or when one clip makes the model fail, the batch is done by halves, down to single clips.

    Raises what no single clip is to blame for: ConfigError on layers that the model does not have, BackendError, and errors
    of CUDA.
    """
    return list(encode_ahead(decode_batches([sounds]), model, timestamps=timestamps, layers=layers))


def encode_ahead(
    batches: Iterable[DecodedBatch],
    model: Embedder,
    *,
    timestamps: bool = False,
    layers: Layers | None = None,
    lap: Callable[[str], None] = lambda stage: None,
) -> Generator[Outcome, None, None]:
    """Outcomes of decoded batches. On CUDA the device has the next batch before the results of one are fetched.

    lap: called with the stage that the time since the last call went to: "decode", "encode" or "write".
    """
    running: deque[tuple[list[Sound], Callable[[], list[Row]]]] = deque()

    def fetched(late: int) -> Iterator[Outcome]:
        while len(running) > late:
            sounds, fetch = running.popleft()
            rows = fetch()
            lap("encode")
            for sound, row in zip(sounds, rows, strict=True):
                yield _outcome(sound, row)
            lap("write")

    for batch in batches:
        lap("decode")
        for sound, why in batch.failures.items():
            yield _outcome(sound, why)
        lap("write")
        for long in batch.long:
            row = _embed_long(long, model, timestamps, layers)
            lap("encode")
            yield _outcome(long, row)
            lap("write")
        if batch.sounds:
            running.append((batch.sounds, _launch(batch.audio, batch.lengths, model, timestamps, layers)))
            lap("encode")
        del batch
        yield from fetched(BATCHES_LATE.get(model.device.type, 0))
    lap("decode")
    yield from fetched(0)


def _outcome(sound: Sound, row: Row) -> Outcome:
    found = {"failure": row} if isinstance(row, str) else {"embedding": row[0], "timestamps": row[1]}
    return Outcome(sound.name, sound.source, index=sound.index, seconds=sound.seconds, **found)


def _embed_long(sound: FileSound, model: Embedder, timestamps: bool, layers: Layers | None) -> Row:
    try:
        return embed_long(lambda: audio_blocks(sound.path), model, timestamps=timestamps, layers=layers, name=sound.name)
    except Exception as error:
        if _is_nobodys(error):
            raise
        return unnamed(_failure(error), sound.name)


def _failure(error: Exception) -> str:
    """Why one clip alone has no embedding."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return "out of memory for this clip alone"
    return str(error) if isinstance(error, AudioError) else f"the model fails on it ({type(error).__name__}: {error})"


def _launch(
    audio: Tensor, lengths: list[int], model: Embedder, timestamps: bool, layers: Layers | None
) -> Callable[[], list[Row]]:
    """Give clips, (B, T), to the device. The function returned fetches a row a clip; on CUDA nothing is waited for before.

    Only the thread that encodes calls CUDA: one that allocated memory while a graph is captured would spoil the capture.
    """
    on_cuda = model.device.type == "cuda"
    try:
        on_device = (audio.pin_memory() if on_cuda else audio).to(model.device, non_blocking=on_cuda)
        with torch.inference_mode():
            found = model.timestamps(on_device, lengths, layers) if timestamps else (model(on_device, lengths, layers),)
            results = [result.to("cpu", non_blocking=on_cuda) for result in found]
        ready = torch.cuda.current_stream(model.device).record_event() if on_cuda else None
    except Exception as error:  # not kept: its traceback would hold the memory that ran out
        if _is_nobodys(error):
            raise
        failure = _failure(error)
    else:
        return lambda: _rows(results, ready)
    if len(lengths) == 1:
        return lambda: [failure]

    def by_halves() -> list[Row]:
        half = len(lengths) // 2
        rows: list[Row] = []
        for clips in (slice(None, half), slice(half, None)):
            longest = max(lengths[clips])
            rows += _launch(audio[clips, :longest], lengths[clips], model, timestamps, layers)()
        return rows

    return by_halves


def _is_nobodys(error: Exception) -> bool:
    """Whether an error would meet every clip: our own but those of sounds, and errors of CUDA but for lack of memory."""
    if isinstance(error, HearAxlstmError):
        return not isinstance(error, AudioError)
    return "CUDA" in str(error) and not isinstance(error, torch.OutOfMemoryError)


def _rows(results: Sequence[Tensor], ready: torch.cuda.Event | None) -> list[Row]:
    """The results on the CPU clip by clip, without the padding; copies, so that page-locked memory can be used again.

    results: scenes ([layers,] B, D), or embeddings ([layers,] B, N, D) and times (B, N), NaN in the padding.
    """
    if ready is not None:
        ready.synchronize()
    arrays = [result.numpy() for result in results]
    if len(arrays) == 1:
        return [(scene.copy(), None) for scene in np.moveaxis(arrays[0], -2, 0)]
    embeddings, times = arrays
    counts = np.isfinite(times).sum(1)
    return [
        (embedding[..., :count, :].copy(), own[:count].copy())
        for embedding, own, count in zip(np.moveaxis(embeddings, -3, 0), times, counts, strict=True)
    ]
