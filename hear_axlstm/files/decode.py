"""Sounds -> padded batches, decoded by threads or by processes while earlier batches are encoded."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import LifoQueue
from typing import Self

import torch
from torch import Tensor

from hear_axlstm.audio import Wave
from hear_axlstm.errors import AudioError
from hear_axlstm.files.decoder_process import Reader
from hear_axlstm.files.find import Sound

BATCHES_AHEAD = 2  # decoded while one is encoded


@dataclass
class Batch:
    """Sounds that could be decoded: audio (B, T), zero beyond each one's ``lengths``. failures: those that could not."""

    sounds: list[Sound]
    audio: Tensor
    lengths: list[int]
    failures: dict[Sound, AudioError]


class Decoding:
    """Decodes ahead. Use it as a context manager.

    processes: that decode files; 0: threads of this process do, as many as it may use processors. Neither touches a device.
    """

    def __init__(self, processes: int = 0) -> None:
        self._readers = [Reader() for _ in range(processes)]
        self._idle: LifoQueue[Reader] = LifoQueue()  # last in, first out: no more are started than are needed
        for reader in self._readers:
            self._idle.put(reader)
        self._pool = ThreadPoolExecutor(processes or processors(), thread_name_prefix="decode")
        self._padding = ThreadPoolExecutor(1, thread_name_prefix="pad")

    def batches(self, groups: Iterator[list[Sound]]) -> Iterator[Batch]:
        """A batch for each group, in order. Raises OSError when processes do not start."""
        ahead: deque[tuple[int, Future[Batch]]] = deque()
        while True:
            # A long recording is a batch of its own: of such ones, every process has one to decode.
            while len(ahead) <= BATCHES_AHEAD or sum(count for count, _ in ahead) < len(self._readers):
                if not (group := next(groups, [])):
                    break
                loading = [self._pool.submit(self._load, sound) for sound in group]
                ahead.append((len(group), self._padding.submit(self._batch, group, loading)))
            if not ahead:
                return
            yield ahead.popleft()[1].result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        for reader in self._readers:
            reader.kill()
        self._padding.shutdown(cancel_futures=True)
        self._pool.shutdown()
        for reader in self._readers:
            reader.end()

    def _load(self, sound: Sound) -> Wave:
        if sound.path is None or not self._readers:
            return sound.load()
        reader = self._idle.get()
        try:
            return reader.read_audio(sound.path)
        finally:
            self._idle.put(reader)

    def _batch(self, sounds: Sequence[Sound], loading: Sequence[Future[Wave]]) -> Batch:
        waves: dict[Sound, Wave] = {}
        failures: dict[Sound, AudioError] = {}
        for sound, future in zip(sounds, loading, strict=True):
            try:
                waves[sound] = future.result()
            except AudioError as error:
                failures[sound] = error
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


def processors() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
