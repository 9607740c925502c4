"""The repairs that hear-eval-kit needs on today's packages, and stand-ins for packages while it is imported.

Both are tables, in which each row says what is broken and how to tell that it is broken here.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch

# Stand-ins: modules that the kit imports and does not need.


@dataclass(frozen=True)
class Stub:
    """A module that stands in. why: what would happen without it. needed: whether that would happen here."""

    name: str
    why: str
    needed: Callable[[], bool]
    make: Callable[[], ModuleType]


@contextmanager
def standing_in(stubs: Sequence[Stub]) -> Iterator[None]:
    """Have an import of the needed stubs' names give the stubs in this block, and in no other place."""
    needed = [stub for stub in stubs if stub.needed()]
    before = {stub.name: sys.modules.get(stub.name) for stub in needed}
    sys.modules.update({stub.name: stub.make() for stub in needed})
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


class _TensorFlow(ModuleType):
    """The kit's ``tf``: the real TensorFlow as soon as a HEAR module has imported it; until then no model is of it.

    So models in TensorFlow are embedded as well, with the TensorFlow that their module brings, wherever that runs.
    """

    class _NoModel:
        pass

    def __init__(self) -> None:
        super().__init__("tensorflow")
        self.__spec__ = ModuleSpec("tensorflow", None)  # find_spec("tensorflow") raises on a module without one

    def __getattr__(self, name: str) -> Any:
        real = sys.modules.get("tensorflow")
        if real is not None and real is not self:
            return getattr(real, name)
        if name == "Module":
            return self._NoModel
        if name == "test":
            return SimpleNamespace(is_gpu_available=lambda **_: True)
        raise AttributeError(f"no HEAR module has imported tensorflow: there is no tensorflow.{name}")


def _pkg_resources() -> ModuleType:
    stub = ModuleType("pkg_resources")
    stub.declare_namespace = lambda name: None  # type: ignore[attr-defined] # Lightning 1 calls it, to no effect
    return stub


def _pynvml() -> ModuleType:
    stub: Any = ModuleType("pynvml")
    stub.NVMLError = type("NVMLError", (Exception,), {})
    stub.nvmlInit = lambda: None
    stub.nvmlDeviceGetHandleByIndex = lambda index: index
    stub.nvmlDeviceGetName = lambda index: torch.cuda.get_device_name(index).encode()
    stub.nvmlDeviceGetMemoryInfo = _memory
    return stub


def _memory(index: int) -> SimpleNamespace:
    free, total = torch.cuda.mem_get_info(index)
    return SimpleNamespace(used=total - free)


TENSORFLOW = Stub(
    "tensorflow",
    "it need not be installed; where it is, the kit refuses a GPU that TensorFlow does not see, as tensorflow-cpu",
    lambda: True,
    _TensorFlow,
)
PKG_RESOURCES = Stub(
    "pkg_resources",
    "dcase_util and Lightning 1 import it; newer versions of setuptools have none",
    lambda: find_spec("pkg_resources") is None,
    _pkg_resources,
)
PYNVML = Stub(
    "pynvml",
    "imported where there is a GPU, to note how much of its memory is used",
    lambda: torch.cuda.is_available() and find_spec("pynvml") is None,
    _pynvml,
)


# Lightning 2 for code written for Lightning 1.


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


# Repairs: the kit's modules, as imported, put right in place.


@dataclass(frozen=True)
class Repair:
    """A change of the kit's module. why: what is broken without it. needed: whether it is broken here."""

    why: str
    needed: Callable[[Any], bool]
    mend: Callable[[Any], None]


def mend(module: ModuleType, repairs: Sequence[Repair]) -> None:
    """Make the repairs that one of the kit's modules needs."""
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
