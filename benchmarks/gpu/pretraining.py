"""A short pretraining run, the same interrupted and resumed, and the same by plain torch in float32."""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.gpu import missing  # noqa: F401 - before what imports sound files
from benchmarks.gpu.checks import Checks, rehearsing, require
from benchmarks.gpu.graphs import configs
from hear_axlstm.pretraining.loop import pretrain
from hear_axlstm.pretraining.recipe import Recipe
from hear_axlstm.pretraining.state import CURVE, read_curve
from hear_axlstm.pretraining.trainer import Trainer

RESUMED = 2e-2  # relative difference of losses of the same updates, where an update came out otherwise by rounding
PLAIN = 1e-2  # the same between float16 kernels and float32 torch, of the first updates
COMPARED = 8  # updates
MICRO_BATCH = 2 if rehearsing() else None


def recipe(name: str, **changes: Any) -> Recipe:
    """A run of some seconds."""
    size = {"batch": 4, "steps": 4, "base_lr": 0.1} if rehearsing() else {"batch": 128, "steps": 24, "base_lr": 1e-3}
    return Recipe(encoder=configs()[name], synthetic=1.0, warmup_epochs=0, **{**size, **changes})


def losses(folder: Path) -> list[float]:
    return [float(row["loss"]) for row in read_curve(folder / CURVE)]


def difference(ours: list[float], expected: list[float]) -> float:
    require(len(ours) == len(expected), f"{len(ours)} updates, not {len(expected)}")
    return max(abs(a - b) / b for a, b in zip(ours, expected, strict=True))


def uninterrupted(name: str, folder: Path) -> list[float]:
    """The losses of the run, which is made where an earlier check has not made it."""
    pretrain(recipe(name), folder / name, micro_batch=MICRO_BATCH)
    return losses(folder / name)


def learns(name: str, folder: Path) -> dict[str, Any]:
    """The loss falls."""
    found = uninterrupted(name, folder)
    first, last = statistics.mean(found[:3]), statistics.mean(found[-3:])
    require(rehearsing() or last < 0.97 * first, f"the loss was {first:.4f} and is {last:.4f}")
    return {"loss at first": first, "and in the end": last}


@contextmanager
def stopped_after(count: int) -> Iterator[None]:
    """In the block, a run is interrupted after some updates, and keeps them."""
    update, made = Trainer.update, list[int]()

    def update_or_stop(*arguments: Any) -> Any:
        if len(made) == count:
            raise KeyboardInterrupt
        made.append(1)
        return update(*arguments)

    with mock.patch.object(Trainer, "update", update_or_stop), suppress(KeyboardInterrupt):
        yield


def resumes(name: str, folder: Path) -> dict[str, Any]:
    """A run that is stopped half-way and goes on has the losses of one that was not."""
    whole, stopped = uninterrupted(name, folder), folder / f"{name} stopped"
    with stopped_after(len(whole) // 2):
        pretrain(recipe(name), stopped, micro_batch=MICRO_BATCH)
    require(len(losses(stopped)) == len(whole) // 2, "the interrupted run has not kept its updates")
    pretrain(recipe(name), stopped, micro_batch=MICRO_BATCH)
    found = difference(losses(stopped), whole)
    require(found <= RESUMED, f"losses differ by {found:.1e}")
    return {"largest difference of a loss": found}


def agrees(name: str, folder: Path) -> dict[str, Any]:
    """The first losses are those of plain torch in float32, so gradients are right as well."""
    ours, plain = uninterrupted(name, folder), folder / f"{name} plain"
    with mock.patch.dict(os.environ, HEAR_AXLSTM_BACKEND="torch"), stopped_after(COMPARED):
        pretrain(recipe(name, precision="float32"), plain, micro_batch=MICRO_BATCH)
    found = difference(ours[:COMPARED], losses(plain)[:COMPARED])
    require(found <= PLAIN, f"losses differ by {found:.1e}")
    return {"difference from plain torch in float32": found, "loss by then": ours[:COMPARED][-1]}


def main() -> None:
    """Train an encoder of each recurrent family."""
    checks = Checks()
    with tempfile.TemporaryDirectory() as folder:
        for name in list(configs())[:2]:
            for check in (learns, resumes, agrees):
                checks.run(f"{name}: {check.__name__}", partial(check, name, Path(folder)))
    checks.end()


if __name__ == "__main__":
    main()
