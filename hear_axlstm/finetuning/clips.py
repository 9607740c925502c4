"""Labelled sounds -> the log-mels of their chunks, computed once."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import torch
from torch import Tensor
from torch.nn.functional import pad

from hear_axlstm.classification.labelled import Labelled
from hear_axlstm.config import CHUNK_FRAMES, MIN_SAMPLES, N_MELS
from hear_axlstm.errors import AudioError
from hear_axlstm.files.decode import LONGEST_SECONDS, decode_batches
from hear_axlstm.files.planning import plan
from hear_axlstm.files.result import Failures
from hear_axlstm.frontend import log_mel
from hear_axlstm.patches import scene_steps
from hear_axlstm.progress import progress_bar, several

IN_MEMORY = 1 << 30  # bytes of log-mels that are kept in memory: nine hours of sound; more go to a file
CHUNK_BYTES = 4 * CHUNK_FRAMES * N_MELS


class Shelf:
    """Chunks (200, 80), float32, one after the other: in memory, and beyond ``limit`` bytes in a file without a name.

    folder: where the file is, which vanishes with the process.
    """

    def __init__(self, folder: Path, limit: int = IN_MEMORY) -> None:
        self._folder, self._room = folder, limit // CHUNK_BYTES
        self._chunks: list[Tensor] = []
        self._file: IO[bytes] | None = None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, chunks: Tensor) -> None:
        """Keep chunks (n, 200, 80). Raises OSError when the file cannot be written."""
        for chunk in chunks:
            if len(self._chunks) < self._room:
                self._chunks.append(chunk.clone())
            else:
                self._file = self._file or tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - as long as the run
                self._file.write(chunk.contiguous().numpy().tobytes())
            self._count += 1

    def take(self, places: Sequence[int]) -> Tensor:
        """The chunks of these places. Shape: -> (n, 200, 80)."""
        return torch.stack([self._chunks[place] if place < len(self._chunks) else self._read(place) for place in places])

    def _read(self, place: int) -> Tensor:
        assert self._file is not None
        self._file.seek((place - len(self._chunks)) * CHUNK_BYTES)
        return torch.frombuffer(bytearray(self._file.read(CHUNK_BYTES)), dtype=torch.float32).view(CHUNK_FRAMES, N_MELS)


@dataclass
class Clips:
    """The sounds that could be decoded, as chunks of 2 seconds.

    names, labels: of each clip. given: its place among the sounds that were given.
    chunks: of each clip, its places in ``shelf``. steps: how many steps of each chunk count, by its place.
    failures: name -> why the sound could not be read.
    """

    shelf: Shelf
    names: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    given: list[int] = field(default_factory=list)
    chunks: list[range] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    failures: Failures = field(default_factory=Failures)

    def __len__(self) -> int:
        return len(self.names)


def read_clips(labelled: Labelled, columns: int, folder: Path, *, pad_short: bool = False, progress: bool = False) -> Clips:
    """Decode labelled sounds, and compute the log-mels of the chunks that an embedding of them is made of.

    columns: steps of a chunk. folder: where log-mels go for which memory has no room. pad_short: whether sounds too short to
    embed are padded with zeros. Clips come in the order of the sounds.
    """
    planned = plan(labelled.sounds, pad_short=pad_short)
    found: dict[int, tuple[range, list[int]]] = {}
    clips = Clips(Shelf(folder), failures=Failures(planned.failures))
    count = sum(map(len, planned.batches))
    with (
        progress_bar(total=count, unit=" clips", desc="read", shown=progress) as bar,
        closing(decode_batches(planned.batches)) as batches,
    ):
        for batch in batches:
            clips.failures.update({sound.name: why for sound, why in batch.failures.items()})
            for long in batch.long:
                clips.failures[long.name] = f"{long.name}: longer than {LONGEST_SECONDS / 60:.0f} minutes; cut it into clips"
            for sound, audio, length in zip(batch.sounds, batch.audio, batch.lengths, strict=True):
                try:
                    chunks, steps = chunks_of(audio[:length], columns)
                except AudioError as error:
                    clips.failures[sound.name] = f"{sound.name}: {error}"
                    continue
                found[sound.index] = range(len(clips.shelf), len(clips.shelf) + len(chunks)), steps
                clips.shelf.add(chunks)
                clips.steps += steps
            bar.update(len(batch.sounds) + len(batch.long) + len(batch.failures))
    for index in sorted(found):
        clips.names.append(planned.names[index])
        clips.labels.append(labelled.labels[index])
        clips.given.append(index)
        clips.chunks.append(found[index][0])
    return clips


def chunks_of(audio: Tensor, columns: int) -> tuple[Tensor, list[int]]:
    """The chunks that a clip's scene embedding is the mean over, and how many steps of each count.

    Shape: (T,) -> (n, 200, 80). Raises AudioError on a clip that is too short or not finite.
    """
    if (samples := len(audio)) < MIN_SAMPLES:
        raise AudioError(f"{several(samples, 'sample')} at 16 kHz; expected {MIN_SAMPLES} at least: drop or pad it")
    mel, counted = log_mel(audio[None])[0], scene_steps(samples, columns)
    count = -(-counted // columns)
    frames = min(len(mel), count * CHUNK_FRAMES)
    chunks = pad(mel[:frames], (0, 0, 0, count * CHUNK_FRAMES - frames)).unflatten(0, (count, CHUNK_FRAMES))
    return chunks, [min(columns, counted - index * columns) for index in range(count)]
