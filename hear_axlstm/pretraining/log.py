"""What a run tells while it goes on: the bar, curve.csv, curve.png, TensorBoard, and a warning where it would take days."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Self

import torch
from torch import Tensor

from hear_axlstm.errors import TrainingError
from hear_axlstm.pretraining.state import Board, Curve, RunFolder
from hear_axlstm.progress import duration, progress_bar

logger = logging.getLogger(__name__)

LOG_SECONDS = 10.0  # losses are fetched from the device and written this often
BAR = "{desc} {percentage:3.0f}% |{bar}| {remaining} left, {rate_noinv_fmt}{postfix}"
DAY = 86_400.0  # seconds; a run that would take longer is warned of


class Pace:
    """How fast a run is, by which a warning can be given early. The first pass is left out: in it kernels are compiled.

    clips: how many are left.
    """

    def __init__(self, clips: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.clips, self._clock = clips, clock
        self._since: float | None = None
        self._seen = 0
        self._known = False

    def add(self, clips: int) -> str | None:
        """Take note of a pass over some clips; the warning, once, after LOG_SECONDS, if there is reason for one."""
        self.clips -= clips
        if self._since is None:
            self._since = self._clock()
            return None
        self._seen += clips
        seconds = self._clock() - self._since
        if self._known or seconds < LOG_SECONDS:
            return None
        self._known = True
        return warning_of(self.clips, self._seen / seconds)


def warning_of(clips: int, rate: float) -> str | None:
    """What to say before ``clips`` more at ``rate`` clips a second; None where that takes a day or less.

    >>> print(warning_of(3_000_000, 6.6))
    this run will take about 5 days 6 h more: 3,000,000 clips at 6.6 a second.
    A smaller --steps, --batch or recipe makes it shorter; Ctrl-C ends it and keeps what it has learnt
    >>> warning_of(3_000, 6.6)
    """
    seconds = clips / rate
    if seconds <= DAY:
        return None
    return (
        f"this run will take about {duration(seconds)} more: {clips:,} clips at {rate:.1f} a second.\n"
        "A smaller --steps, --batch or recipe makes it shorter; Ctrl-C ends it and keeps what it has learnt"
    )


class Log:
    """The main process's bar, curve.csv and TensorBoard; other processes' is not active. Losses stay on the device until
    they are written.

    step, total: updates made, and in all. batch: clips of an update. processes: how many see another part of it.
    """

    def __init__(
        self, folder: RunFolder, step: int, total: int, batch: int, *, processes: int, active: bool, progress: bool
    ) -> None:
        self.active = active
        self.total, self.processes = total, processes
        self.pending: list[tuple[int, Tensor, float]] = []
        self.batch = batch
        self.since = time.monotonic()
        self.first = step + 1
        self.pace = Pace((total - step) * batch)
        if self.active:
            self.curve = Curve(folder, step)
            self.board = Board(folder, step)
            self.bar = progress_bar(
                shown=progress,
                desc=self._now(step),
                total=total * batch,
                initial=step * batch,
                unit=" clips",
                bar_format=BAR,
                smoothing=0.05,
            )

    def seen(self, clips: int) -> None:
        """Take note of a pass of this process over some clips."""
        if not self.active:
            return
        self.bar.update(clips * self.processes)
        if warning := self.pace.add(clips * self.processes):
            self.bar.clear()
            logger.warning(warning)

    def add(self, step: int, loss: Tensor, lr: float) -> None:
        """Take note of update ``step``; the first notes are written at once, others every LOG_SECONDS."""
        if not self.active:
            return
        self.pending.append((step, loss, lr))
        self.bar.set_description_str(self._now(step), refresh=False)
        if step == self.first or time.monotonic() - self.since > LOG_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is pending. Raises TrainingError at a loss that is not finite, after the rows before it."""
        if not self.active or not self.pending:
            return
        steps, losses, rates = zip(*self.pending, strict=True)
        now = time.monotonic()
        speed = round(len(steps) * self.batch / (now - self.since), 2)
        self.pending, self.since = [], now
        for step, loss, rate in zip(steps, torch.stack(losses).tolist(), rates, strict=True):
            if not math.isfinite(loss):
                raise TrainingError(
                    f"the loss of update {step} is {loss}; start again with a lower base_lr, or with precision 'float32'"
                )
            self.curve.add({"step": step, "loss": loss, "lr": rate, "clips_per_second": speed})
            self.board.add(step, {"loss": loss, "lr": rate})
        self.board.add(steps[-1], {"clips_per_second": speed})
        self.board.flush()
        self.bar.set_postfix_str(f"loss {loss:.4f}, lr {rate:.1e}")

    def _now(self, step: int) -> str:
        return f"update {min(step + 1, self.total)}/{self.total}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if kind is None:
                self.flush()
        finally:
            if self.active:
                with ExitStack() as stack:  # all of them, whatever one raises
                    for part in (self.bar, self.board, self.curve):
                        stack.callback(part.close)
