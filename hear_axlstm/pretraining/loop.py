"""A whole run of pretraining: a recipe and a folder -> pretrained weights."""

from __future__ import annotations

import math
import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from hear_axlstm.config import DEFAULT_LAYOUT
from hear_axlstm.errors import ConfigError, TrainingError
from hear_axlstm.pretraining.batches import Share, updates
from hear_axlstm.pretraining.recipe import Recipe, Schedule
from hear_axlstm.pretraining.shard_clips import ShardClips
from hear_axlstm.pretraining.state import WEIGHTS, Board, Curve, RunFolder
from hear_axlstm.pretraining.trainer import Trainer
from hear_axlstm.progress import progress_bar
from hear_axlstm.version import __version__
from hear_axlstm.weights.save import save_weights

MICRO_BATCH = {"cuda": 256}  # clips of one forward and backward pass
MICRO_BATCH_ELSEWHERE = 16
LOG_SECONDS = 10.0  # losses are fetched from the device and written this often


def pretrain(
    recipe: Recipe,
    out: str | os.PathLike[str],
    *,
    cpu: bool = False,
    micro_batch: int | None = None,
    workers: int = 0,
    checkpoint_minutes: float = 5.0,
    overwrite: bool = False,
    progress: bool = False,
) -> Path:
    """Train a new encoder by masked reconstruction, or go on with the run in ``out``; the path of its weights.

    Under ``torchrun`` or ``accelerate launch`` each process takes its part of every batch. A run that was killed goes on
    from its last checkpoint with the same command, and sees what it would have seen: on a CPU the curve is the same bit for
    bit, as long as ``micro_batch`` and the number of processes are.

    out: a folder; see RunFolder. cpu: leave CUDA devices alone. micro_batch: clips of one pass of one process; fewer take
    less memory, and the mathematics stay the same. workers: processes that decode shards, beside each one that trains.
    checkpoint_minutes: time between two checkpoints. overwrite: remove the run that ``out`` holds first. progress: a bar on
    stderr.

    Raises ConfigError on a recipe that does not fit, OutputError on a folder that must not be continued, AudioError on a
    clip that cannot be decoded, TrainingError on a loss that is not finite, OSError when a file cannot be written; the last
    checkpoint is whole then.
    """
    recorded = ShardClips(recipe.shards)
    schedule = Schedule.of(recipe, len(recorded))
    trainer = Trainer(recipe, cpu=cpu)
    if micro_batch is None:
        micro_batch = MICRO_BATCH.get(trainer.device.type, MICRO_BATCH_ELSEWHERE)
    share = Share(recipe.batch, micro_batch, trainer.process, trainer.processes)
    folder = RunFolder(Path(out))
    if trainer.is_main:
        folder.open(recipe.to_dict(), overwrite=overwrite)
    trainer.wait()
    step = folder.load(trainer)
    if len(set(trainer.gather(step))) > 1:
        raise ConfigError(f"the processes do not find the same checkpoint in {out}; put it where all machines see it")

    def checkpoint() -> None:
        folder.save(step, trainer)
        provenance = provenance_of(recipe, step, trainer.processes)
        save_weights(trainer.result, folder.path / WEIGHTS, provenance, layout=DEFAULT_LAYOUT)

    saved = time.monotonic()
    with _Log(folder, step, schedule.total, active=trainer.is_main, progress=progress) as log:
        for batch in updates(recipe, recorded, share, range(step, schedule.total), trainer.device, workers):
            lr = schedule.at(step)
            loss = trainer.update(batch, lr)
            step += 1
            log.add(step, loss, lr, recipe.batch)
            if trainer.is_main and time.monotonic() - saved > 60 * checkpoint_minutes:
                log.flush()
                checkpoint()
                saved = time.monotonic()
    if trainer.is_main:
        checkpoint()
    return folder.path / WEIGHTS


def provenance_of(recipe: Recipe, steps: int, processes: int) -> dict[str, Any]:
    """The description of a run that its weights file carries."""
    return {"recipe": recipe.to_dict(), "steps": steps, "processes": processes, "hear_axlstm": __version__}


class _Log:
    """The main process's progress bar, curve.csv and TensorBoard. Losses stay on the device until they are written."""

    def __init__(self, folder: RunFolder, step: int, total: int, *, active: bool, progress: bool) -> None:
        self.active = active
        self.pending: list[tuple[int, Tensor, float, int]] = []
        self.since = time.monotonic()
        if self.active:
            self.curve = Curve(folder, step)
            self.board = Board(folder, step)
            self.bar = progress_bar(total=total, initial=step, unit="step", shown=progress, smoothing=0.05)

    def add(self, step: int, loss: Tensor, lr: float, clips: int) -> None:
        """Take note of update ``step``; every LOG_SECONDS the notes are written."""
        if not self.active:
            return
        self.pending.append((step, loss, lr, clips))
        if time.monotonic() - self.since > LOG_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is pending. Raises TrainingError at a loss that is not finite, after the rows before it."""
        if not self.active or not self.pending:
            return
        steps, losses, rates, clips = zip(*self.pending, strict=True)
        now = time.monotonic()
        speed = round(sum(clips) / (now - self.since), 2)
        self.pending, self.since = [], now
        for step, loss, rate in zip(steps, torch.stack(losses).tolist(), rates, strict=True):
            if not math.isfinite(loss):
                raise TrainingError(
                    f"the loss of update {step} is {loss}, and the last checkpoint is from before; start again with a lower "
                    "base_lr, or with precision 'float32'"
                )
            self.curve.add({"step": step, "loss": loss, "lr": rate, "clips_per_second": speed})
            self.board.add(step, {"loss": loss, "lr": rate})
        self.board.add(steps[-1], {"clips_per_second": speed})
        self.board.flush()
        self.bar.update(len(steps))
        self.bar.set_postfix(loss=f"{loss:.4f}", clips_per_second=f"{speed:.1f}")

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
