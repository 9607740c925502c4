"""A short pretraining run, the same interrupted and resumed, and the same by plain torch in float32."""

from __future__ import annotations

import os
import statistics
import tempfile
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
PLAIN = 2e-2  # the same between float16 kernels and float32 torch, of the first updates
COMPARED = 4  # updates


def recipe(name: str, **changes: Any) -> Recipe:
    """A run of some seconds."""
    size = {"batch": 4, "steps": 4} if rehearsing() else {"batch": 128, "steps": 24}
    return Recipe(encoder=configs()[name], synthetic=1.0, warmup_epochs=0, base_lr=1e-3, **{**size, **changes})


def losses(folder: Path) -> list[float]:
    return [float(row["loss"]) for row in read_curve(folder / CURVE)]


def difference(ours: list[float], expected: list[float]) -> float:
    require(len(ours) == len(expected), f"{len(ours)} updates, not {len(expected)}")
    return max(abs(a - b) / b for a, b in zip(ours, expected, strict=True))


def learns(name: str, folder: Path) -> dict[str, Any]:
    """The loss falls."""
    pretrain(recipe(name), folder / name, micro_batch=2 if rehearsing() else None)
    found = losses(folder / name)
    first, last = statistics.mean(found[:3]), statistics.mean(found[-3:])
    require(rehearsing() or last < 0.97 * first, f"the loss was {first:.4f} and is {last:.4f}")
    return {"loss at first": first, "and in the end": last}


def resumes(name: str, folder: Path) -> dict[str, Any]:
    """A run that is stopped half-way and goes on has the losses of one that was not."""
    stopped, update, half = folder / f"{name} stopped", Trainer.update, len(losses(folder / name)) // 2
    made = []

    def update_or_stop(*arguments: Any) -> Any:
        if len(made) == half:
            raise KeyboardInterrupt
        made.append(1)
        return update(*arguments)

    options = {"micro_batch": 2} if rehearsing() else {}
    with mock.patch.object(Trainer, "update", update_or_stop):
        try:
            pretrain(recipe(name), stopped, **options)  # type: ignore[arg-type]
        except KeyboardInterrupt:
            require(len(losses(stopped)) == half, "the interrupted run has not kept its updates")
        else:
            raise AssertionError("the run was not interrupted")
    pretrain(recipe(name), stopped, **options)  # type: ignore[arg-type]
    found = difference(losses(stopped), losses(folder / name))
    require(found <= RESUMED, f"losses differ by {found:.1e}")
    return {"largest difference of a loss": found}


def agrees(name: str, folder: Path) -> dict[str, Any]:
    """The first losses are those of plain torch in float32, so gradients are right as well."""
    backend = os.environ.get("HEAR_AXLSTM_BACKEND")
    os.environ["HEAR_AXLSTM_BACKEND"] = "torch"
    try:
        whole = recipe(name)
        pretrain(recipe(name, precision="float32"), folder / f"{name} plain", micro_batch=2 if rehearsing() else None)
    finally:
        os.environ.pop("HEAR_AXLSTM_BACKEND")
        if backend is not None:
            os.environ["HEAR_AXLSTM_BACKEND"] = backend
    count = min(COMPARED, whole.steps or COMPARED)
    found = difference(losses(folder / name)[:count], losses(folder / f"{name} plain")[:count])
    require(found <= PLAIN, f"losses differ by {found:.1e}")
    return {"difference from plain torch in float32": found}


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
