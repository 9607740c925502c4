"""What runs on a cluster: a feed of batches that are not finished, and encoders that decode and encode them."""

from __future__ import annotations

import asyncio
import os
import pickle
import platform
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow
import ray

from hear_axlstm.encoder import Layers
from hear_axlstm.errors import ConfigError
from hear_axlstm.files.decode import DecodedBatch, decode_batches
from hear_axlstm.files.outcomes import Outcome, encode_ahead
from hear_axlstm.files.sounds import Sound
from hear_axlstm.parallel import THREADS, Workers
from hear_axlstm.version import __version__

DEATHS = 2  # of actors over a batch, and then over a sound alone, that are not held against it

BATCHES = pyarrow.schema({"number": pyarrow.int64(), "sounds": pyarrow.binary()})
OUTCOMES = pyarrow.schema({"outcomes": pyarrow.large_binary()})


class Feed:
    """The batches that are not finished, by number, and over which of them actors died. An actor of Ray's, one a run."""

    def __init__(self) -> None:
        self._batches: dict[int, bytes] = {}
        self._again: list[int] = []  # batches that this round gives first
        self._first = self._count = 0  # the first number that is new in this round, and how many there have been
        self._is_ended = False
        self._changed = asyncio.Condition()
        self._started = 0
        self._tried: dict[int, int | None] = {}  # batch that is being encoded -> the sound where it is done one by one
        self._deaths: dict[int, Counter[int | None]] = {}

    async def add(self, number: int, sounds: bytes) -> None:
        async with self._changed:
            self._batches[number] = sounds
            self._count = number + 1
            self._changed.notify_all()

    async def get(self, place: int) -> tuple[int, bytes] | None:
        """The batch at a place in this round, with nothing in it when it is finished; None when there are no more.

        Raises RuntimeError where the round ends before its batches are finished, which ends Ray's work on them.
        """
        old = len(self._again)
        number = self._again[place] if place < old else self._first + place - old
        async with self._changed:
            await self._changed.wait_for(lambda: number < self._count or self._is_ended)
        if self._is_ended and self._batches:
            raise RuntimeError("nobody wants what is not finished")
        return None if self._is_ended else (number, self._batches.get(number, b""))

    async def finish(self, number: int) -> None:
        """Forget a batch whose outcomes have arrived."""
        self._batches.pop(number, None)
        self._deaths.pop(number, None)

    async def end(self) -> None:
        """Say that the round is over."""
        async with self._changed:
            self._is_ended = True
            self._changed.notify_all()

    async def again(self) -> None:
        """Begin a round with what is not finished."""
        self._again, self._first = sorted(self._batches), self._count
        self._is_ended = False
        self._started = 0

    async def enter(self) -> None:
        """Count an encoder that has started."""
        self._started += 1

    async def started(self) -> int:
        return self._started

    async def begin(self, number: int, sound: int | None = None) -> dict[int | None, int] | None:
        """Note that a batch is being encoded, or one sound of it alone. Returns how many actors died over each of them.

        None when the round is over, or the batch is finished, so that nobody wants it.
        """
        if self._is_ended or number not in self._batches:
            return None
        deaths = self._deaths.setdefault(number, Counter())
        if sound is None and number in self._tried:
            deaths[self._tried[number]] += 1
        self._tried[number] = sound
        return dict(deaths)

    async def leave(self, number: int) -> None:
        """Note that encoding a batch has come to an end."""
        self._tried.pop(number, None)


@dataclass(frozen=True)
class Job:
    """What an actor is to do. version: of this package where it was planned. decoders: processes, or 0 for threads."""

    version: str
    device: str
    processors: int
    decoders: int
    timestamps: bool
    layers: Layers | None


class BatchEncoder:
    """Encodes a block of one batch after the other with one model, and decodes the next ones meanwhile.

    Files are decoded by processes of its own, so that one that crashes them fails alone.
    """

    def __init__(self, model: Any, feed: Any, job: Job) -> None:
        os.environ[THREADS] = str(job.processors)
        self._feed, self._job = feed, job
        self._kind: dict[str, Any] = {"timestamps": job.timestamps, "layers": job.layers}
        self._decoders = Workers(job.decoders, threads=job.processors)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="encode")  # only one thread may call CUDA
        feed.enter.remote()
        self._obstacle: Exception | None = None
        try:
            if job.version != __version__:
                own = f"hear_axlstm {__version__} is installed on {platform.node()}"
                raise ConfigError(f"{own}, and {job.version} where the command runs; install the same everywhere")
            self._model = self._thread.submit(lambda: ray.get(model).to(job.device)).result()
        except Exception as error:
            self._obstacle = error  # raised where the work was planned, not by Ray

    def __call__(self, block: pyarrow.Table) -> pyarrow.Table:
        """The outcomes of a batch. Shape: a row of BATCHES -> a row of OUTCOMES."""
        found: tuple[int, list[Outcome] | Exception]
        number, packed = block["number"][0].as_py(), block["sounds"][0].as_py()
        try:
            if self._obstacle is not None:
                raise self._obstacle
            sounds = pickle.loads(packed) if packed else []  # noqa: S301 - what ``Feed`` was given
            decoded = list(decode_batches([sounds], self._decoders)) if sounds else []
            found = number, self._thread.submit(self._encoded, number, sounds, decoded).result()
        except Exception as error:
            found = number, _portable(error)
        return pyarrow.table({"outcomes": [pickle.dumps(found)]}, OUTCOMES)

    def _encoded(self, number: int, sounds: Sequence[Sound], decoded: list[DecodedBatch]) -> list[Outcome]:
        deaths = ray.get(self._feed.begin.remote(number))
        if deaths is None:
            return []
        if deaths.get(None, 0) < DEATHS:
            outcomes = list(encode_ahead(decoded, self._model, **self._kind))
        else:
            outcomes = [outcome for sound in sounds for outcome in self._alone(number, sound, deaths.get(sound.index, 0))]
        self._feed.leave.remote(number)
        return outcomes

    def _alone(self, number: int, sound: Sound, deaths: int) -> list[Outcome]:
        """The outcome of one sound of a batch over which actors died."""
        if deaths >= DEATHS:
            why = f"the process that encoded it died, {DEATHS + deaths} times; was there enough memory for it?"
            return [Outcome(sound.name, sound.source, failure=why, index=sound.index, seconds=sound.seconds)]
        ray.get(self._feed.begin.remote(number, sound.index))
        return list(encode_ahead(decode_batches([[sound]], self._decoders), self._model, **self._kind))


def _portable(error: Exception) -> Exception:
    """An error that another process can raise: itself, or what it says."""
    try:
        return pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
