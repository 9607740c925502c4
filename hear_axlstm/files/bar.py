"""The bar of a call: how many sounds and how much audio are done, how fast, and how long the rest takes."""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import accumulate
from time import perf_counter
from typing import Any

from hear_axlstm.config import CHUNK_FRAMES, HOP, SAMPLE_RATE
from hear_axlstm.embedder import Embedder
from hear_axlstm.files.find import Plan
from hear_axlstm.files.outcomes import Outcome
from hear_axlstm.progress import duration, progress_bar, several

CHUNK_SECONDS = CHUNK_FRAMES * HOP / SAMPLE_RATE
EVERY = 0.1  # seconds: it is drawn no more often
FORMAT = "{percentage:3.0f}%|{bar}| {desc}"


class SoundBar:
    """Counts chunks as the encoder does them, so that it moves within a batch and within a long recording.

    A batch is done at once, in the end. Until then, as many of its sounds are counted as have their share of the chunks that
    are done. On CUDA, where they are replayed many at once, it counts those of the sounds that are done.
    """

    def __init__(self, planned: Plan, model: Embedder, shown: bool | None) -> None:
        self._audio, self._all = sum(planned.seconds.values()), len(planned.names)
        self._chunks = {index: max(1, math.ceil(seconds / CHUNK_SECONDS)) for index, seconds in planned.seconds.items()}
        self._sounds, self._failed = self._all - len(self._chunks), len(planned.failures)
        self._encoded = self._finished = 0
        self._began = perf_counter()
        self._first: tuple[float, float] | None = None  # when the first chunks were done, and how many
        self._total = sum(self._chunks.values())
        order = [sound.index for batch in planned.batches for sound in batch]
        self._ends = list(accumulate(self._chunks[index] for index in order))  # chunks that are done with each sound
        self._there = self._sounds
        shown = shown if self._chunks else False
        self._bar = progress_bar(
            total=self._total,
            shown=shown,
            bar_format=FORMAT,
            miniters=1,
            mininterval=EVERY,
            desc=self._text(0.0),
        )
        watched = not self._bar.disable and model.device.type == "cpu"
        self._hook = model.encoder.register_forward_hook(self._on_chunks) if watched else None

    def __enter__(self) -> SoundBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._hook:
            self._hook.remove()
        self._bar.close()

    def finish(self, outcome: Outcome) -> None:
        """Count a sound that is done or has failed."""
        self._sounds += 1
        self._failed += bool(outcome.failure)
        self._finished += self._chunks[outcome.index]
        self._move()

    def _on_chunks(self, encoder: Any, inputs: tuple[Any, ...], outputs: Any) -> None:
        self._encoded += len(inputs[0])
        self._move()

    def _move(self) -> None:
        if self._bar.disable:
            return
        count = min(max(self._encoded, self._finished, self._bar.n), self._total)
        if self._first is None and count:
            self._first = perf_counter(), count
        self._bar.set_description_str(self._text(count), refresh=False)
        self._bar.update(count - self._bar.n)

    def _text(self, count: float) -> str:
        """What stands beside the bar when ``count`` chunks are done."""
        now = perf_counter()
        done = self._audio * count / self._total if self._total else 0.0
        sounds = max(self._sounds, self._there + bisect_right(self._ends, count))
        parts = [f"{sounds}/{several(self._all, 'sound')}", f"{duration(done)} of {duration(self._audio)}"]
        if count:
            parts.append(f"{done / max(now - self._began, 1e-9):.0f} x real time")
        if self._first and count > self._first[1]:  # what the first chunks took besides is not to come again
            left = (self._total - count) * (now - self._first[0]) / (count - self._first[1])
            parts.append(f"{self._bar.format_interval(left)} left")
        if self._failed:
            parts.append(f"{self._failed} failed")
        return ", ".join(parts)
