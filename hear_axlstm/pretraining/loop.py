"""A whole run of pretraining: a recipe and a folder -> pretrained weights."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hear_axlstm.errors import AudioError, ConfigError
from hear_axlstm.pretraining.batches import Batch, Share, targets_of, updates
from hear_axlstm.pretraining.log import Log
from hear_axlstm.pretraining.plot import draw_curve
from hear_axlstm.pretraining.recipe import Recipe, Schedule, name_of
from hear_axlstm.pretraining.shard_clips import ShardClips
from hear_axlstm.pretraining.start import Start, start_of
from hear_axlstm.pretraining.state import GUESSES, INIT, STEPS, WEIGHTS, RunFolder
from hear_axlstm.pretraining.trainer import Trainer
from hear_axlstm.pretraining.watch import Watch
from hear_axlstm.progress import several
from hear_axlstm.version import __version__
from hear_axlstm.weights.save import save_weights

logger = logging.getLogger(__name__)

MICRO_BATCH = {"cuda": 256}  # clips of one forward and backward pass
MICRO_BATCH_ELSEWHERE = 16
PLOT_SECONDS = 60.0  # between two pictures, where checkpoints are more frequent: TensorBoard keeps each, of 200 kB


def pretrain(
    recipe: Recipe,
    out: str | os.PathLike[str],
    *,
    cpu: bool = False,
    micro_batch: int | None = None,
    workers: int = 0,
    checkpoint_minutes: float = 5.0,
    watch: Sequence[str | os.PathLike[str]] | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> Path:
    """Train an encoder by masked reconstruction, or go on with the run in ``out``; the path of its weights.

    It begins with random weights, or with those that ``recipe.init`` names. A run that was stopped goes on from its last
    checkpoint with the same recipe, and sees what it would have seen: on a CPU the curve is the same bit for bit, as long as
    ``micro_batch`` and the number of processes are. A recipe with other ``steps`` makes a run longer or shorter: from then
    on the learning rate is that of a run of the new length. One without ``steps`` leaves the length as it is. Ctrl-C writes
    a checkpoint, and then raises KeyboardInterrupt. Under ``torchrun`` or ``accelerate launch`` each process takes its part
    of every batch.

    out: a folder; see RunFolder. cpu: leave CUDA devices alone. micro_batch: clips that each process takes through the
    encoder at once; fewer take less memory, and the mathematics stay the same. workers: processes that decode shards, beside
    each one that trains. checkpoint_minutes: time between two checkpoints. watch: up to four recordings of which guesses.png
    shows what the encoder guesses, in place of four synthesised clips; none, (): it is not drawn. overwrite: remove the run
    that ``out`` holds first. progress: a bar on stderr.

    Raises ConfigError on a recipe that does not fit, WeightsError on initial weights that cannot be loaded, OutputError on a
    folder that must not be continued, AudioError on a clip that cannot be decoded, TrainingError on a loss that is not
    finite, OSError when a file cannot be written; the last checkpoint, if there is one, is whole then. A run that could not
    decode a clip of its first update leaves nothing behind.
    """
    folder = RunFolder(Path(out))
    recorded = {} if overwrite else folder.recorded()
    if recipe.steps is None and isinstance(recorded.get(STEPS), int):
        recipe = replace(recipe, steps=recorded[STEPS])
    shards = ShardClips(recipe.shards)
    targets = targets_of(recipe, shards)
    schedule = Schedule.of(recipe, len(shards))
    watched = Watch(watch)
    start = start_of(recipe, folder, overwrite=overwrite)
    trainer = Trainer(recipe, cpu=cpu, start=start.encoder, targets=targets)
    processes = trainer.processes
    if micro_batch is None:
        micro_batch = MICRO_BATCH.get(trainer.device.type, MICRO_BATCH_ELSEWHERE)
    share = Share(recipe.batch, micro_batch, processes.rank, processes.count)
    if processes.is_main:
        folder.open({**recipe.to_dict(), INIT: start.record}, overwrite=overwrite)
    processes.wait()
    step = folder.load(trainer)
    if len(set(processes.gather(step))) > 1:
        raise ConfigError(f"the processes do not find the same checkpoint in {out}; put it where all machines see it")
    run = _Run(recipe, folder, trainer, schedule, Start(record=start.record), watched, step)
    if processes.is_main:
        run.begin(Schedule.of(replace(recipe, steps=recorded.get(STEPS)), len(shards)) if recorded else schedule)
    made = updates(recipe, shards, share, range(step, schedule.total), trainer.device, workers)
    try:
        run.train(made, 60 * checkpoint_minutes, progress=progress)
    except AudioError:
        if processes.is_main and run.step == 0:
            folder.discard()
        raise
    return folder.path / WEIGHTS


def provenance_of(recipe: Recipe, steps: int, processes: int) -> dict[str, Any]:
    """The description of a run that its weights file carries."""
    return {"recipe": recipe.to_dict(), "steps": steps, "processes": processes, "hear_axlstm": __version__}


class _Run:
    """A run that has been set up. step: updates made. kept: updates that its checkpoint has.

    lengths: how many updates it was to make, and since when, as recipe.json has them; set in the main process.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: RunFolder,
        trainer: Trainer,
        schedule: Schedule,
        start: Start,
        watch: Watch,
        step: int,
    ) -> None:
        self.recipe, self.folder, self.trainer = recipe, folder, trainer
        self.schedule, self.start, self.watch = schedule, start, watch
        self.step = self.kept = step
        self.drawn, self.can_draw = -math.inf, True  # the pictures: when they were last
        self.lengths: Sequence[Mapping[str, int]] = []

    def begin(self, before: Schedule) -> None:
        """Record the length of the run, which was that of the schedule ``before``, and tell what is going to be done."""
        total = self.schedule.total
        self.lengths = self.folder.lengthen(self.step, self.recipe.steps, total, before.total)
        if self.step == total:
            logger.info("finished already (%d steps); --steps %d, for example, prolongs it", total, 2 * total)
        elif self.step and self.lengths[-1]["after"] == self.step:
            was = self.lengths[-2]["updates"]
            text = (
                "going on after update %d: the run now has %d updates, not %d; from here on its learning rate is that of %d"
            )
            logger.info(text, self.step, total, was, total)
        elif self.step:
            logger.info("going on after update %d of %d", self.step, total)

    def train(self, made: Iterable[Iterable[Batch]], checkpoint_seconds: float, *, progress: bool) -> None:
        """Make the updates that are left, with checkpoints as they are due, in the end, and at Ctrl-C."""
        trainer, total, batch = self.trainer, self.schedule.total, self.recipe.batch
        main, saved = trainer.processes.is_main, time.monotonic()
        log = Log(
            self.folder,
            self.step,
            total,
            batch,
            processes=trainer.processes.count,
            active=main,
            progress=progress and self.step < total,
        )
        with log:
            try:
                for passes in made:
                    trainer.grow(self.schedule.blocks(self.step))
                    lr = self.schedule.at(self.step)
                    loss = trainer.update(passes, lr, log.seen)
                    self.step += 1
                    log.add(self.step, loss, lr)
                    if due := main and self.step < total and time.monotonic() - saved > checkpoint_seconds:
                        log.flush()
                    trainer.settled = True
                    if due:
                        self.checkpoint(log)
                        saved = time.monotonic()
            except KeyboardInterrupt:
                if main and trainer.settled and self.step > self.kept:
                    log.flush()
                    self.checkpoint(log)
                raise KeyboardInterrupt(
                    f"{self.kept} of {several(total, 'update')} are kept in {self.folder.path}"
                ) from None
            if main:
                log.flush()
                self.checkpoint(log)
        trainer.processes.wait()  # meanwhile threads let go of what was exchanged: where the interpreter ends, they abort it

    def checkpoint(self, log: Log) -> None:
        """Write all that it takes to go on, the weights so far, and from time to time the pictures."""
        self.folder.save(self.step, self.trainer)
        self.kept = self.step
        provenance = provenance_of(self.recipe, self.step, self.trainer.processes.count)
        if self.start.record is not None:
            provenance["init"] = self.start.record
        if len(self.lengths) > 1:
            provenance["lengths"] = self.lengths
        layout = self.start.layout(self.recipe)
        save_weights(self.trainer.result, self.folder.path / WEIGHTS, provenance, layout=layout)
        due = self.step == self.schedule.total or time.monotonic() - self.drawn > PLOT_SECONDS
        if self.can_draw and due:
            self.can_draw = draw_curve(self.folder, self._title(), self.lengths)
            guesses = self.watch.draw(self.folder, self.trainer, self._title()) if self.can_draw else None
            if guesses is not None:
                log.board.add_picture(self.step, GUESSES, guesses)
            self.drawn = time.monotonic()

    def _title(self) -> str:
        name = name_of(self.recipe.encoder) or self.recipe.encoder.family
        origin = f", from {self.recipe.init}" if self.recipe.init else ""
        updates, clips = several(self.schedule.total, "update"), several(self.recipe.batch, "clip")
        return f"{name}{origin}: {self.step:,} of {updates} of {clips}"
