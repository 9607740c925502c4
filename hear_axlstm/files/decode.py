"""Batches of sounds decoded and padded ahead of their use, by threads or by processes."""

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
class Batch:
    """Sounds that could be decoded: audio (B, T), zero beyond each one's ``lengths``. failures: those that could not."""

    sounds: list[Sound]
    audio: Tensor
    lengths: list[int]
    failures: dict[Sound, AudioError]


def decode_batches(groups: Iterable[Sequence[Sound]], processes: int = 0) -> Generator[Batch, None, None]:
    """A batch for each group of sounds, in order, decoded ahead.

    processes: that decode files; 0: threads of this process do, as many as it may use processors. Neither touches a device.

    Raises OSError when processes do not start.
    """
    workers = Workers(processes, threads=processors())
    loading = ((group, [_load(sound, workers) for sound in group]) for group in groups)
    # A long recording is a batch of its own: of such ones, every process has one to decode.
    share = max(processes, 1)
    batches = ordered_map(
        _batch,
        loading,
        1,
        size=lambda loads: min(share, BATCHES_AHEAD * len(loads[0])),
        ahead=BATCHES_AHEAD * share,
        limit=0,
    )
    with closing(batches), workers:
        for batch in batches:  # noqa: UP028 - "yield from" would wait for what is being decoded before the workers end
            yield batch


def _load(sound: Sound, workers: Workers) -> Future[Wave]:
    return workers.submit(sound.load) if sound.path is None else workers.submit(read_audio, sound.path)


def _batch(loads: tuple[Sequence[Sound], Sequence[Future[Wave]]]) -> Batch:
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
    return Batch(list(waves), _padded(list(waves.values())), lengths, failures)


def _padded(waves: Sequence[Wave]) -> Tensor:
    if len(waves) == 1:
        return torch.from_numpy(waves[0])[None]  # a long recording is held once
    audio = torch.empty(len(waves), max(map(len, waves), default=0))
    for row, wave in zip(audio.numpy(), waves, strict=True):
        row[: len(wave)] = wave
        row[len(wave) :] = 0
    return audio
