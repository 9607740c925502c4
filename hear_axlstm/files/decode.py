"""Batches of sounds, decoded and padded ahead of their use by threads or processes."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hear_axlstm.audio import Wave, read_unless_longer
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.files.sounds import ArraySound, FileSound, Sound, reason
from hear_axlstm.parallel import WorkerDiedError, Workers, ordered_map, processors

BATCHES_AHEAD = 3  # decoded or being decoded while one is encoded
Loading = Future[Wave] | Future[Wave | None] | Future[tuple[ArraySound, Wave]]
LONGEST_SECONDS = 1_800.0  # that are held; ``embed_long`` decodes a longer recording


@dataclass
class DecodedBatch:
    """The sounds of a batch that could be decoded: audio (B, T), zero beyond each one's length, and lengths in samples.

    long: the sounds longer than LONGEST_SECONDS, which are not decoded yet. failures: the other sounds, and why.
    """

    sounds: list[Sound]
    audio: Tensor
    lengths: list[int]
    long: list[FileSound]
    failures: dict[Sound, str]


def decode_batches(batches: Iterable[Sequence[Sound]], processes: int | Workers = 0) -> Generator[DecodedBatch, None, None]:
    """Decode each batch, in order, some batches ahead of the caller. A sound much longer than planned comes by itself.

    processes: that decode files, without torch or a device; 0: as many threads of this one as it may use processors. Workers
    that are given go on afterwards.

    Raises OSError when processes do not start. A caller that may stop early uses ``contextlib.closing``.
    """
    given = processes if isinstance(processes, Workers) else None
    workers = Workers(processes, threads=processors()) if isinstance(processes, int) else processes
    count = workers.processes
    loading = ((sounds, [_load(sound, workers) for sound in sounds]) for sounds in batches)
    # A long recording is a batch by itself: of such ones, every process has one to decode.
    at_once = max(count, 1)
    decoded = ordered_map(
        lambda loads: _decoded(*loads, count),
        loading,
        threads=1,
        size=lambda loads: min(at_once, BATCHES_AHEAD * len(loads[0])),
        ahead=BATCHES_AHEAD * at_once,
        limit=0,
    )
    with closing(decoded), nullcontext() if given else workers:
        for parts in decoded:
            for batch in parts:  # noqa: UP028 - "yield from" would wait for what is being decoded before the workers end
                yield batch


def _load(sound: Sound, workers: Workers) -> Loading:
    if isinstance(sound, FileSound):
        return workers.submit(read_unless_longer, sound.path, LONGEST_SECONDS, sound.pad)
    return workers.submit(fetch, sound) if sound.is_elsewhere else workers.submit_here(sound.load)


def fetch(sound: ArraySound) -> tuple[ArraySound, Wave]:
    """A sound at an address with what its plan could not know, and its samples as ``load`` gives them. Raises AudioError."""
    there = replace(sound.held(), seconds=0.0).measured()
    return replace(there, samples=sound.address), there.load()


def _decoded(sounds: Sequence[Sound], loads: Sequence[Loading], processes: int) -> list[DecodedBatch]:
    """The sounds as one batch, and one more for each that is far longer than its header says: padding stays bounded."""
    waves: dict[Sound, Wave] = {}
    long: list[FileSound] = []
    failures: dict[Sound, str] = {}
    for sound, future in zip(sounds, loads, strict=True):
        try:
            wave = future.result()
            if isinstance(wave, tuple):
                fetched, waves[fetched] = wave
            elif wave is not None:
                waves[sound] = wave
            elif isinstance(sound, FileSound):
                long.append(sound)
        except WorkerDiedError as error:
            failures[_unknown(sound)] = f"cannot be decoded (the process that tried ended with {error.status})"
        except Exception as error:
            if processes and isinstance(error, OSError):
                raise  # the process did not start
            failures[_unknown(sound)] = reason(error, sound.name)
    planned = max(sound.seconds for sound in sounds) * SAMPLE_RATE
    alone = [sound for sound in waves if planned and len(waves[sound]) > 2 * planned + SAMPLE_RATE]
    together = [sound for sound in waves if sound not in alone]
    return [_batch(together, waves, long, failures), *(_batch([sound], waves, [], {}) for sound in alone)]


def _unknown(sound: Sound) -> Sound:
    """A sound that failed, without the duration that was assumed of one nobody could fetch."""
    return replace(sound, seconds=math.nan) if isinstance(sound, ArraySound) and sound.is_elsewhere else sound


def _batch(sounds: list[Sound], waves: dict[Sound, Wave], long: list[FileSound], failures: dict[Sound, str]) -> DecodedBatch:
    own = [waves[sound] for sound in sounds]
    return DecodedBatch(sounds, _padded(own), [len(wave) for wave in own], long, failures)


def _padded(waves: Sequence[Wave]) -> Tensor:
    """The waves as rows of one tensor. Shape: -> (B, T), T samples in the longest."""
    if len(waves) == 1:
        return torch.from_numpy(waves[0])[None]  # a long recording is held once
    audio = torch.empty(len(waves), max(map(len, waves), default=0))
    for row, wave in zip(audio.numpy(), waves, strict=True):
        row[: len(wave)] = wave
        row[len(wave) :] = 0
    return audio
