"""Training clips a second: one update of a recipe, on sound that is ready and on sound synthesised as it trains.

    python -m benchmarks.pretraining [--recipe axlstm-tiny --recipe ssam-tiny] [--batch 1024] [--micro-batch 256]
    python -m benchmarks.pretraining --backend auto --backend torch    # our kernels beside plain torch, in one run

Medians over the updates after two to warm up. Appends to benchmarks/results/pretraining.json.
"""

import itertools
import os
import statistics
import time

import click
import torch

from benchmarks.records import RESULTS, add_record, machine, table
from hear_axlstm.pretraining.batches import Share, updates
from hear_axlstm.pretraining.loop import MICRO_BATCH, MICRO_BATCH_ELSEWHERE
from hear_axlstm.pretraining.recipe import read_recipe
from hear_axlstm.pretraining.shard_clips import ShardClips
from hear_axlstm.pretraining.trainer import Trainer

WARM_UP = 2
COLUMNS = ["recipe", "batch", "pass", "precision", "compile", "backend", "clips/s", "with synthesis", "GiB"]


def seconds(action, device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    result = action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return result, time.perf_counter() - start


def measure(name, backend, batch, micro_batch, updates_timed, cpu, changes):
    os.environ["HEAR_AXLSTM_BACKEND"] = backend
    recipe = read_recipe(name, synthetic=1.0, batch=batch, steps=WARM_UP + updates_timed, **changes)
    trainer = Trainer(recipe, cpu=cpu)
    device = trainer.device
    passes = micro_batch or MICRO_BATCH.get(device.type, MICRO_BATCH_ELSEWHERE)
    data = updates(recipe, ShardClips([]), Share(batch, passes), range(recipe.steps), device, workers=0)
    making, training = [], []
    for _ in range(recipe.steps):
        sound, made = seconds(lambda: list(next(data)), device)
        _, trained = seconds(lambda sound=sound: trainer.update(sound, lr=1e-5), device)
        making.append(made)
        training.append(trained)
    trained = statistics.median(training[WARM_UP:])
    both = trained + statistics.median(making[WARM_UP:])
    cuda = device.type == "cuda"
    return {
        "recipe": name,
        "batch": batch,
        "pass": passes,
        "precision": str(trainer.dtype).removeprefix("torch."),
        "compile": recipe.compile,
        "backend": backend,
        "clips/s": round(batch / trained, 1),
        "with synthesis": round(batch / both, 1),
        "GiB": round(torch.cuda.max_memory_allocated(device) / 2**30, 1) if cuda else None,
        **machine(device),
    }


@click.command()
@click.option("--recipe", "recipes", multiple=True, default=["axlstm-tiny", "ssam-tiny"], show_default=True)
@click.option("--backend", "backends", multiple=True, default=["auto"], show_default=True)
@click.option("--batch", default=1024, show_default=True)
@click.option("--micro-batch", type=int)
@click.option("--updates", "updates_timed", default=10, show_default=True)
@click.option("--precision")
@click.option("--compile/--eager", default=None)
@click.option("--cpu", is_flag=True)
def main(recipes, backends, batch, micro_batch, updates_timed, cpu, **changes):
    """Time one update of each recipe with each backend, on sound that is ready and on sound synthesised as it trains."""
    for name, backend in itertools.product(recipes, backends):
        row = measure(name, backend, batch, micro_batch, updates_timed, cpu, changes)
        add_record(RESULTS / "pretraining.json", row)
        click.echo(table(COLUMNS, [[str(row[column]) for column in COLUMNS]]))


if __name__ == "__main__":
    main()
