"""What a run tells while it goes on: a bar in a terminal, else a line for each epoch, and a warning where it is long."""

from __future__ import annotations

import sys
import time
from typing import Self

from hear_axlstm.finetuning.state import Row
from hear_axlstm.progress import duration, progress_bar, somebody_looks

BAR = "{desc} {percentage:3.0f}% |{bar}| {remaining} left at most, {rate_noinv_fmt}{postfix}"
MEASURED = 10.0  # seconds of training after which the time left is known well enough
HOUR, DAY = 3_600.0, 86_400.0


class Log:
    """The bar of a run at a terminal or in a notebook, elsewhere its lines on stderr.

    shown: false for neither, None for the bar alone.

    epochs: at most. clips: of an epoch. done: epochs, or parts of one, that an earlier start of the run made.
    """

    def __init__(self, epochs: int, clips: int, done: float, *, shown: bool | None) -> None:
        self.epochs, self.clips = epochs, clips
        self.has_bar = shown is not False and somebody_looks()
        self.has_lines = shown is True or self.has_bar
        self.bar = progress_bar(
            total=epochs * clips,
            initial=round(done * clips),
            unit=" clips",
            shown=self.has_bar,
            bar_format=BAR,
            smoothing=0.05,
        )
        self.since = time.monotonic()
        self.left, self.seen = round((epochs - done) * clips), 0
        self.warned = False
        self.accuracy = ""

    def update(self, epoch: int, clips: int, loss: float) -> None:
        """Take note of an update with some clips in an epoch; warn, once, of a run that takes long."""
        self.seen += clips
        self.bar.set_description_str(f"epoch {epoch} of {self.epochs}", refresh=False)
        self.bar.set_postfix_str(f"loss {loss:.3f}{self.accuracy}", refresh=False)
        self.bar.update(clips)
        seconds = time.monotonic() - self.since
        if not self.warned and seconds > MEASURED:
            self.warned = True
            if warning := warning_of((self.left - self.seen) * seconds / self.seen):
                self._say(warning)

    def epoch(self, row: Row) -> None:
        """Take note of a finished epoch."""
        self.accuracy = f", validation accuracy {row.accuracy:.3f}"
        if self.has_bar:
            return
        name = f"epoch {row.epoch} of {self.epochs}: loss {row.loss:.3f}" if row.epoch else "the head alone:"
        line = f"{name}, validation loss {row.validation_loss:.3f}, accuracy {row.accuracy:.3f}".replace(":,", ":")
        if self.seen:
            rate = self.seen / (time.monotonic() - self.since)
            line += f"; {rate:.1f} clips/s, {duration((self.left - self.seen) / rate)} left at most"
        self._say(line)

    def _say(self, line: str) -> None:
        if self.has_lines:
            self.bar.clear()
            try:
                sys.stderr.write(f"{line}\n")
                sys.stderr.flush()
            except (OSError, ValueError):  # full or closed: the work goes on
                self.has_lines = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.close()


def warning_of(seconds: float) -> str | None:
    """What to say of a run that takes so much longer; None where that is an hour or less.

    >>> print(warning_of(90_000.0))
    This run takes 25 h more at most, which is more than a day. It is shorter with --frozen, with fewer --epochs, or
    from a later layer on (--from-layer). It can be interrupted (Ctrl-C): the same command goes on.
    >>> warning_of(3_000.0)
    """
    if seconds <= HOUR:
        return None
    long = ", which is more than a day" if seconds > DAY else ""
    return (
        f"This run takes {duration(seconds)} more at most{long}. It is shorter with --frozen, with fewer --epochs, or\n"
        "from a later layer on (--from-layer). It can be interrupted (Ctrl-C): the same command goes on."
    )
