"""How far an evaluation is, for whoever looks on: which task of how many, and about how much time is left for all.

The time of embedding goes by the seconds of sound, that of training by classifiers and clips. Until some of it has been seen
it is guessed; from then on what was seen decides.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Self

from torch import nn

from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.evaluation import Engine
from hear_axlstm.evaluation.protocols import Protocol
from hear_axlstm.evaluation.tasks.catalogue import KNOWN_TASKS
from hear_axlstm.evaluation.tasks.taskfolder import TaskFolder
from hear_axlstm.progress import duration, printable, progress_bar, several

EMBEDDING_GUESS = {"cpu": 0.1, "cuda": 0.001}  # seconds of work for a second of sound
TRAINING_GUESS: dict[Engine, float] = {"native": 0.01, "heareval": 0.02, "linear": 0.001}  # for a unit of training
CUDA_FASTER = 50  # times that many classifiers at once are trained faster on CUDA
TRAINING_UNITS = 200  # of a classifier for itself, beside one for each of its clips
BYTES_A_SAMPLE = 2  # of the clips of a task
REDRAWN = 1.0  # seconds from one drawing of the bar to the next
BAR = "{desc} {percentage:3.0f}% |{bar:20}| {elapsed} gone"


@dataclass
class Work:
    """What is to be done for one task. sound: seconds to embed. units: of training, for one seed. seeds: to be trained.

    classifiers: how many a seed has. heard, trained: the seconds and seeds that have been done.
    """

    title: str
    sound: float = 0.0
    units: float = 0.0
    seeds: int = 0
    classifiers: int = 0
    clips: int = 0
    heard: float = 0.0
    trained: int = 0

    @classmethod
    def of(cls, task: TaskFolder, seeds: int, protocol: Protocol, engine: Engine, *, embedded: bool) -> Work:
        """The work on a task that was read. embedded: whether there is nothing left to embed."""
        clips = {split: len(task.clips(split)) for split in task.splits}
        first, *others = (TRAINING_UNITS + sum(clips[name] for name in split.train) for split in task.data_splits)
        points = 1 if engine == "linear" else len(protocol.points(0, task.metadata))
        return cls(
            title=title_of(task.name),
            sound=0.0 if embedded else seconds_of(task),
            units=points * first + sum(others),
            seeds=seeds,
            classifiers=1 + len(others),
            clips=sum(clips.values()),
        )


def title_of(name: str) -> str:
    """What people call the task of a folder of this name."""
    return KNOWN_TASKS[name].title if name in KNOWN_TASKS else name


def seconds_of(task: TaskFolder) -> float:
    """The sound of a task, in seconds, by the sizes of its files at 16 kHz, or of the first other rate that there is."""
    rates = sorted(int(folder.name) for folder in task.path.glob("*/") if folder.name.isdigit())
    total = 0
    for split in task.splits:
        for name in task.clips(split) if rates else ():
            with suppress(OSError, ValueError):
                total += (task.audio(split, rates[0]) / name).stat().st_size
    return total / (BYTES_A_SAMPLE * rates[0]) if rates else 0.0


class Outlook:
    """The bar of an evaluation, or lines where stderr is no terminal: one as a task starts and one as it ends.

    Use it as a context manager. work: of all tasks, in their order. at_once: classifiers trained side by side.
    """

    def __init__(self, work: Sequence[Work], engine: Engine, device: str, at_once: int, *, shown: bool) -> None:
        self._work, self._at_once = list(work), max(1, at_once)
        self._shown = shown and sys.stderr is not None
        self._is_terminal = self._shown and sys.stderr.isatty()
        self._bar = progress_bar(total=1, shown=self._is_terminal, bar_format=BAR, mininterval=0, maxinterval=0)
        faster = CUDA_FASTER if device == "cuda" and engine == "native" else 1
        self._embedding = _Pace(EMBEDDING_GUESS.get(device, EMBEDDING_GUESS["cpu"]))
        self._training = _Pace(TRAINING_GUESS[engine] / faster)
        self._start = self._changed = perf_counter()
        self._begun: set[int] = set()
        self._done = threading.Event()
        self._redrawing = threading.Thread(target=self._redraw, daemon=True)

    def __enter__(self) -> Self:
        if self._is_terminal:
            self._redrawing.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        if self._redrawing.is_alive():
            self._redrawing.join()
        self._bar.close()

    @contextmanager
    def embedding(self, index: int, model: nn.Module | None) -> Iterator[None]:
        """While a task is embedded. model: what does it, where it is of this process: each batch is counted."""
        work, start = self._work[index], perf_counter()
        last = start

        def heard(module: nn.Module, arguments: tuple[Any, ...], result: Any) -> None:
            nonlocal last
            audio, *rest = arguments
            lengths = rest[0] if rest and rest[0] is not None else [audio.shape[-1]] * len(audio)
            sound, now = float(sum(lengths)) / SAMPLE_RATE, perf_counter()
            work.heard += sound
            self._embedding.note(sound, now - last)
            last = self._changed = now
            self._draw()

        handle = None if model is None else model.register_forward_hook(heard)
        self._say(index, f"embedding {several(work.clips, 'clip')}")
        try:
            yield
        finally:
            if handle is not None:
                handle.remove()
        if not work.heard:
            self._embedding.note(work.sound, perf_counter() - start)
        work.heard = work.sound
        self._end(index, f"{several(work.clips, 'clip')} embedded in {duration(perf_counter() - start)}")

    def training(self) -> None:
        """The classifiers of the next task are begun, if there is one."""
        index = next((index for index, work in enumerate(self._work) if work.trained < work.seeds), None)
        if index is not None and index not in self._begun:
            self._begun.add(index)
            work = self._work[index]
            all_of_them = work.seeds * work.classifiers
            first = f"classifiers 0 of {all_of_them:,}" if self._is_terminal else f"training {all_of_them:,} classifiers"
            self._say(index, first)

    def trained(self, index: int, seeds: int, seconds: float) -> None:
        """Seeds of a task have been trained, in seconds of work."""
        work = self._work[index]
        work.trained += seeds
        self._training.note(seeds * work.units, seconds)
        self._changed = perf_counter()
        all_of_them = work.seeds * work.classifiers
        if self._is_terminal:
            self._say(index, f"classifiers {work.trained * work.classifiers:,} of {all_of_them:,}")
        if work.trained == work.seeds:
            self._end(index, f"{all_of_them:,} classifiers trained")
            self.training()

    def failed(self, index: int) -> None:
        """Nothing more is to be done for a task."""
        work = self._work[index]
        work.heard, work.seeds = work.sound, work.trained
        if self._shown and not self._is_terminal:
            self._print(f"{self._name(index)}: failed")

    def left(self) -> float:
        """About how many seconds are left for everything."""
        sound = sum(max(0.0, work.sound - work.heard) for work in self._work)
        units = sum(work.units * (work.seeds - work.trained) for work in self._work)
        at_once = min(self._at_once, max(1, sum(work.seeds - work.trained for work in self._work)))
        expected = sound * self._embedding.rate + units * self._training.rate / at_once
        return max(0.0, expected - (perf_counter() - self._changed))

    def _name(self, index: int) -> str:
        return f"task {index + 1} of {len(self._work)}: {self._work[index].title}"

    def _say(self, index: int, what: str) -> None:
        if self._is_terminal:
            self._bar.desc = printable(f"{self._name(index)} ({what})")
            self._draw()
        elif self._shown:
            self._print(f"{self._name(index)}: {what}, {self._left_in_words()}")

    def _end(self, index: int, what: str) -> None:
        self._changed = perf_counter()
        if self._shown and not self._is_terminal:
            is_over = all(work.heard >= work.sound and work.trained == work.seeds for work in self._work)
            self._print(f"{self._name(index)}: {what}{'' if is_over else f', {self._left_in_words()}'}")

    def _left_in_words(self) -> str:
        return f"about {duration(self.left())} left for all"

    def _print(self, line: str) -> None:
        with suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(f"{printable(line)}\n")
            sys.stderr.flush()

    def _draw(self) -> None:
        if self._is_terminal:
            gone, left = perf_counter() - self._start, self.left()
            self._bar.n = max(self._bar.n, gone / max(gone + left, 1e-9))  # back it never goes
            self._bar.bar_format = f"{BAR}, {self._left_in_words()}"
            self._bar.refresh()

    def _redraw(self) -> None:
        while not self._done.wait(REDRAWN):
            self._draw()


class _Pace:
    """How long a unit of some work takes: as guessed until some of it has been done."""

    def __init__(self, guess: float) -> None:
        self._guess, self._done, self._seconds = guess, 0.0, 0.0

    def note(self, units: float, seconds: float) -> None:
        self._done += units
        self._seconds += seconds

    @property
    def rate(self) -> float:
        """Seconds for a unit."""
        return self._seconds / self._done if self._done > 0 and self._seconds > 0 else self._guess
