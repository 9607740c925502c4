"""hear-eval-kit's modules, as imported -> put right in place: a table of what is broken, where, and what mends it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch

from hear_axlstm.evaluation.kit.lightning import calls_epoch_ends, restore_epoch_end, takes_gpus, with_gpus


@dataclass(frozen=True)
class Repair:
    """why: what is broken without it. needed: whether it is broken here. mend: of the kit's module."""

    why: str
    needed: Callable[[Any], bool]
    mend: Callable[[Any], None]


def mend(module: ModuleType, repairs: Sequence[Repair]) -> None:
    """Mend what is broken of one of the kit's modules."""
    for repair in repairs:
        if repair.needed(module):
            repair.mend(module)


def _has_no_device_name(gpu_max_mem: Any) -> bool:
    try:
        gpu_max_mem.device_name()
    except Exception:  # AttributeError of a str's decode, or NVML's own
        return True
    return False


def _name_device(gpu_max_mem: Any) -> None:
    gpu_max_mem.device_name = torch.cuda.get_device_name


def _trust_hyperparameters(kit: Any) -> None:
    """The functions and classes that the kit's grid names, as every checkpoint of its does. No others."""
    grid: dict[str, list[Any]] = kit.PARAM_GRID
    torch.serialization.add_safe_globals([value for values in grid.values() for value in values if callable(value)])


def _keep_postprocessing(kit: Any) -> None:
    test = kit.task_predictions_test

    @wraps(test)
    def wrapped(*, grid_point: Any, **options: Any) -> Any:
        grid_point.predictor.epoch_best_postprocessing_or_default = lambda epoch: grid_point.postprocessing
        return test(grid_point=grid_point, **options)

    kit.task_predictions_test = wrapped


def _restore_epoch_ends(kit: Any) -> None:
    for stage in ("validation", "test"):
        restore_epoch_end(kit.AbstractPredictionModel, stage)


def _take_gpus(kit: Any) -> None:
    kit.pl = SimpleNamespace(Trainer=with_gpus(kit.pl.Trainer))


def _lacks_infinity(kit: Any) -> bool:
    return takes_gpus(kit.pl.Trainer) and not hasattr(np, "Inf")


def _restore_infinity(kit: Any) -> None:
    np.Inf = np.inf  # type: ignore[attr-defined]


def _always(kit: Any) -> bool:
    return True


GPU_MAX_MEM = [
    Repair("it decodes a GPU's name, which newer versions of pynvml give as text", _has_no_device_name, _name_device),
]
TASK_PREDICTIONS = [
    Repair(
        "Lightning 1 reads np.Inf, which NumPy 2 has not, unless torchmetrics puts it back",
        _lacks_infinity,
        _restore_infinity,
    ),
    Repair("torch.load refuses the kit's own checkpoints since torch 2.6", _always, _trust_hyperparameters),
    Repair(
        "a task of events whose trainings its score ends is tested with the post-processing of an epoch that Lightning 1.6 "
        "and later do not let the kit set: KeyError",
        _always,
        _keep_postprocessing,
    ),
    Repair(
        "Lightning 2 does not call *_epoch_end",
        lambda kit: not calls_epoch_ends(kit.pl.LightningModule),
        _restore_epoch_ends,
    ),
    Repair("Lightning 2's Trainer takes no gpus", lambda kit: not takes_gpus(kit.pl.Trainer), _take_gpus),
]
