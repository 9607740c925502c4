"""Batches of sounds, decoded and padded ahead of their use by threads or processes."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import Tensor

from hear_axlstm.audio import Wave, read_audio
from hear_axlstm.errors import AudioError
from hear_axlstm.files.find import Sound
from hear_axlstm.parallel import WorkerDiedError, Workers, ordered_map, processors

BATCHES_AHEAD = 3  # decoded or being decoded while one is encoded


@dataclass
class DecodedBatch:
    """The sounds of a batch that could be decoded: audio (B, T), zero beyond each one's length, and lengths in samples.

    failures: the other sounds and why.
    """

    sounds: list[Sound]
    audio: Tensor
    lengths: list[int]
    failures: dict[Sound, AudioError]


def decode_batches(batches: Iterable[Sequence[Sound]], processes: int = 0) -> Generator[DecodedBatch, None, None]:
    """Decode each batch, in order, some batches ahead of the caller.

    processes: that decode files, without torch or a device; 0: as many threads of this one as it may use processors.

    Raises OSError when processes do not start. A caller that may stop early uses ``contextlib.closing``.
    """
    workers = Workers(processes, threads=processors())
    loading = ((sounds, [_load(sound, workers) for sound in sounds]) for sounds in batches)
    # A long recording is a batch by itself: of such ones, every process has one to decode.
    at_once = max(processes, 1)
    decoded = ordered_map(
        _padded_batch,
        loading,
        threads=1,
        size=lambda loads: min(at_once, BATCHES_AHEAD * len(loads[0])),
        ahead=BATCHES_AHEAD * at_once,
        limit=0,
    )
    with closing(decoded), workers:
        for batch in decoded:  # noqa: UP028 - "yield from" would wait for what is being decoded before the workers end
            yield batch


def _load(sound: Sound, workers: Workers) -> Future[Wave]:
    return workers.submit(sound.load) if sound.path is None else workers.submit(read_audio, sound.path)


def _padded_batch(loads: tuple[Sequence[Sound], Sequence[Future[Wave]]]) -> DecodedBatch:
    waves: dict[Sound, Wave] = {}
    failures: dict[Sound, AudioError] = {}
    for sound, future in zip(*loads, strict=True):
        try:
            waves[sound] = future.result()
        except AudioError as error:
            failures[sound] = error
        except (WorkerDiedError, MemoryError) as error:
            how = f"ended with {error.status}" if isinstance(error, WorkerDiedError) else "ran out of memory"
            failures[sound] = AudioError(f"{sound.path}: cannot be decoded (the process that tried {how})")
    lengths = [len(wave) for wave in waves.values()]
    return DecodedBatch(list(waves), _padded(list(waves.values())), lengths, failures)


def _padded(waves: Sequence[Wave]) -> Tensor:
    """The waves as rows of one tensor. Shape: -> (B, T), T samples in the longest."""
    if len(waves) == 1:
        return torch.from_numpy(waves[0])[None]  # a long recording is held once
    audio = torch.empty(len(waves), max(map(len, waves), default=0))
    for row, wave in zip(audio.numpy(), waves, strict=True):
        row[: len(wave)] = wave
        row[len(wave) :] = 0
    return audio
