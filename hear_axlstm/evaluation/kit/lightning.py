"""What Lightning 2 left out of Lightning 1, for code written for the latter."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


def takes_gpus(trainer: type) -> bool:
    """Whether a Trainer has the argument ``gpus``, as Lightning 1 has."""
    return "gpus" in inspect.signature(trainer).parameters


def with_gpus(trainer: Callable[..., Any]) -> Callable[..., Any]:
    """A Trainer of Lightning 2 that takes ``gpus``: None, how many, or a list of them."""

    def make(*, gpus: int | list[int] | None, **options: Any) -> Any:
        return trainer(accelerator="gpu" if gpus else "cpu", devices=gpus or 1, **options)

    return make


def calls_epoch_ends(module: type) -> bool:
    """Whether a LightningModule's ``validation_epoch_end`` is called, as in Lightning 1."""
    return hasattr(module, "validation_epoch_end")


def restore_epoch_end(model: Any, stage: str) -> None:
    """Have Lightning 2 call a model class's ``STAGE_epoch_end`` with what its ``STAGE_step`` returned, batch by batch.

    The method takes another name, since Lightning 2 refuses models that have one of this.
    """
    step, epoch_end = getattr(model, f"{stage}_step"), getattr(model, f"{stage}_epoch_end")

    def collecting_step(self: Any, batch: Any, batch_idx: int) -> Any:
        output = step(self, batch, batch_idx)
        self.__dict__.setdefault("_outputs", []).append(output)
        return output

    def on_epoch_end(self: Any) -> None:
        epoch_end(self, self.__dict__.pop("_outputs"))

    delattr(model, f"{stage}_epoch_end")
    setattr(model, f"{stage}_step", collecting_step)
    setattr(model, f"on_{stage}_epoch_end", on_epoch_end)
