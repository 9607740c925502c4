"""Goes on with the pretraining of axlstm-tiny-synth for some seconds: python -m benchmarks.gpu.train --seconds 1500

The run is in a folder (build/gpu-train), and the next call goes on with it. What is worth keeping is written to --out as
well, each below 16 MiB: the weights in half precision, whose header has the recipe, recipe.json and curve.csv. Each call
adds to the run as many updates as it can make, over which the learning rate falls to 0.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.gpu import missing  # noqa: F401 - before what imports sound files
from benchmarks.gpu.checks import tell
from hear_axlstm.errors import HearAxlstmError
from hear_axlstm.pretraining.batches import Share, updates
from hear_axlstm.pretraining.loop import MICRO_BATCH, MICRO_BATCH_ELSEWHERE, pretrain
from hear_axlstm.pretraining.recipe import Recipe, read_recipe
from hear_axlstm.pretraining.shard_clips import ShardClips
from hear_axlstm.pretraining.state import CURVE, INIT, RECIPE, WEIGHTS, RunFolder, read_curve
from hear_axlstm.pretraining.trainer import Trainer
from hear_axlstm.weights.load import load_weights
from hear_axlstm.weights.save import save_weights

NAME = "axlstm-tiny-synth"  # weights that were trained as the papers train
WARM_UP, TIMED = 2, 5  # updates by which the pace is measured
SHARE, END = 0.85, 0.95  # of the time that is left: for updates, and when they are stopped should they take longer


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.train", description=__doc__)
    parser.add_argument("--seconds", type=float, required=True, help="time of this call, its end included")
    parser.add_argument("--run", type=Path, default=Path("build/gpu-train"), help="folder of the run")
    parser.add_argument("--out", type=Path, default=Path("build/gpu"), help="folder for the weights, recipe and curve")
    parser.add_argument("--init", help=f"weights to begin with; {NAME}")
    parser.add_argument("--shards", action="append", default=[], help="recorded sound for half of the clips; again for more")
    parser.add_argument("--batch", type=int, default=1024, help="clips of an update")
    parser.add_argument("--cpu", action="store_true", help="on the CPU")
    return parser.parse_args()


def pace(recipe: Recipe, *, cpu: bool) -> float:
    """Seconds of an update, its sound included, from some updates that are thrown away."""
    trainer = Trainer(recipe, cpu=cpu)
    passes = min(recipe.batch, MICRO_BATCH.get(trainer.device.type, MICRO_BATCH_ELSEWHERE))
    steps = range(1, 1 + WARM_UP + TIMED)
    start = time.monotonic()
    data = updates(recipe, ShardClips(recipe.shards), Share(recipe.batch, passes), steps, trainer.device, workers=0)
    for made, batch in enumerate(data):
        if made == WARM_UP:
            start = time.monotonic()
        trainer.update(batch, lr=0.0).item()  # which waits for the device
    return (time.monotonic() - start) / TIMED


def settings(options: argparse.Namespace) -> tuple[Recipe, int]:
    """The recipe of the run, new or begun, and how many updates it has made."""
    folder = RunFolder(options.run)
    recorded, rows = (folder.recorded(), read_curve(options.run / CURVE)) if folder.has_checkpoint else ({}, [])
    init = options.init or (recorded.get(INIT) or {}).get("name") or NAME
    data: dict[str, Any] = {"shards": options.shards, "synthetic": 0.5} if options.shards else {"synthetic": 1.0}
    return read_recipe(init=init, batch=options.batch, **data), int(rows[-1]["step"]) if rows else 0


def keep(weights: Path, options: argparse.Namespace) -> None:
    """Write the weights in half precision, with what the run's own say of themselves, and how they came about."""
    encoder, header = load_weights(weights)
    save_weights(encoder.half(), options.out / f"{NAME}.safetensors", header["provenance"], layout=header["layout"])
    for file in (RECIPE, CURVE):
        shutil.copyfile(options.run / file, options.out / file)


def stop(*_: object) -> None:
    """What the alarm does: the run writes a checkpoint."""
    raise KeyboardInterrupt


def main() -> int:
    """Train until the time is over. Exit status 1 where nothing could be trained."""
    options, began = arguments(), time.monotonic()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGALRM, stop)
    try:
        recipe, done = settings(options)
        seconds = pace(recipe, cpu=options.cpu)
        left = options.seconds - (time.monotonic() - began)
        steps = done + max(1, int(SHARE * left / seconds))
        tell(f"an update of {recipe.batch} clips takes {seconds:.2f} s: {steps - done} more, {steps} in all")
        signal.setitimer(signal.ITIMER_REAL, max(1.0, END * left))
        weights = options.run / WEIGHTS
        try:
            weights = pretrain(replace(recipe, steps=steps), options.run, cpu=options.cpu, checkpoint_minutes=2.0)
        except KeyboardInterrupt as stopped:
            tell(f"stopped in time: {stopped}")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if not weights.is_file():
            tell("no update was made: give it more --seconds, or a smaller --batch")
            return 1
        keep(weights, options)
    except HearAxlstmError as error:
        tell(f"error: {error}")
        return 1
    tell(f"in {options.out}: {NAME}.safetensors, {RECIPE}, {CURVE}; the same command goes on")
    return 0


if __name__ == "__main__":
    sys.exit(main())
