"""The bar of a call: how many sounds and how much audio are done, how fast, and how long the rest takes."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from time import perf_counter
from typing import Any

from hear_axlstm.config import CHUNK_FRAMES, HOP, SAMPLE_RATE
from hear_axlstm.embedder import Embedder
from hear_axlstm.files.outcomes import Outcome
from hear_axlstm.files.planning import Plan
from hear_axlstm.progress import duration, progress_bar, several

CHUNK_SECONDS = CHUNK_FRAMES * HOP / SAMPLE_RATE
EVERY = 0.1  # seconds: it is drawn no more often
PATIENCE = 1.0  # seconds of looking at what is there, before it is drawn though there may be nothing to do
FORMAT = "{percentage:3.0f}%|{bar}| {desc}"


class SoundBar:
    """Counts chunks as the encoder does them, so that it moves within a batch and within a long recording.

    A batch is done at once, in the end. Until then, as many of its sounds are counted as have their share of the chunks that
    are done. On CUDA, where they are replayed many at once, it counts those of the sounds that are done. The plan may grow
    meanwhile; then the bar is of what is known so far. Nothing is drawn where there is nothing to do, unless that takes long
    to find out.
    """

    def __init__(self, planned: Plan, model: Embedder, shown: bool | None) -> None:
        self._planned = planned
        self._audio, self._ends = 0.0, array("q")  # chunks that are done with each sound
        self._done = self._encoded = self._finished = 0
        self._began = self._drawn = perf_counter()
        self._first: tuple[float, float] | None = None  # when the first chunks were done, and how many
        self._bar = progress_bar(shown=shown, bar_format=FORMAT, miniters=1, mininterval=EVERY, delay=PATIENCE, total=1)
        watched = not self._bar.disable and model.device.type == "cpu"
        self._hook = model.encoder.register_forward_hook(self._on_chunks) if watched else None

    def __enter__(self) -> SoundBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._hook:
            self._hook.remove()
        if not self._bar.disable and self._planned.is_whole and not self._ends:
            self._bar.n = self._bar.total = 1
        self._bar.close()

    def tick(self) -> None:
        """Draw what is known while nothing is finished; it may be called at any time and often."""
        now = perf_counter()
        if self._bar.disable or now - self._drawn < EVERY:
            return
        self._grow()
        if self._ends or now - self._began > PATIENCE:
            self._bar.delay = 0
            self._move()
            self._bar.refresh()
            self._drawn = now

    def begin(self) -> None:
        """Draw it where the plan has something to do."""
        self._grow()
        if self._ends:
            self._drawn = -math.inf
            self.tick()

    def finish(self, outcome: Outcome) -> None:
        """Count a sound that is done or has failed."""
        self._grow()
        self._done += 1
        self._finished += _chunks(outcome.seconds)
        self._move()

    def _on_chunks(self, encoder: Any, inputs: tuple[Any, ...], outputs: Any) -> None:
        self._grow()
        self._encoded += len(inputs[0])
        self._move()

    @property
    def _chunks_known(self) -> int:
        return self._ends[-1] if self._ends else 0

    def _grow(self) -> None:
        """Take in what was added to the plan."""
        for index in () if self._bar.disable else self._planned.order[len(self._ends) :]:
            seconds = self._planned.seconds[index]
            self._audio += seconds
            self._ends.append(self._chunks_known + _chunks(seconds))

    def _move(self) -> None:
        if self._bar.disable:
            return
        self._bar.total = self._chunks_known or 1
        count = min(max(self._encoded, self._finished, self._bar.n), self._chunks_known)
        if self._first is None and count:
            self._first = perf_counter(), count
        self._bar.set_description_str(self._text(count), refresh=False)
        self._bar.update(count - self._bar.n)

    def _text(self, count: float) -> str:
        """What stands beside the bar when ``count`` chunks are done."""
        now, planned = perf_counter(), self._planned
        done = self._audio * count / self._chunks_known if self._ends else 0.0
        known = len(planned.names)
        sounds = min(len(planned.there) + len(planned.refused) + max(self._done, bisect_right(self._ends, count)), known)
        so_far = "" if planned.is_whole else " known so far"
        parts = [f"{sounds:,}/{several(known, 'sound')}{so_far}"]
        if self._ends:
            parts.append(f"{duration(done)} of {duration(self._audio)}")
        if count:
            parts.append(f"{done / max(now - self._began, 1e-9):.0f} x real time")
        if self._first and count > self._first[1]:  # what the first chunks took besides is not to come again
            left = (self._chunks_known - count) * (now - self._first[0]) / (count - self._first[1])
            parts.append(f"{'at least ' if so_far else ''}{self._bar.format_interval(left)} left")
        if failed := len(planned.failures):
            parts.append(f"{failed:,} failed")
        return ", ".join(parts)


def _chunks(seconds: float) -> int:
    """How many chunks a sound is encoded in; one at least."""
    return max(1, math.ceil(seconds / CHUNK_SECONDS)) if math.isfinite(seconds) else 0
