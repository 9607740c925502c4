"""Modules that stand in for what hear-eval-kit imports and does not need, while it is being imported."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace
from typing import Any

import torch


@dataclass(frozen=True)
class Stub:
    """why: what would happen without it. needed: whether that would happen here."""

    name: str
    why: str
    needed: Callable[[], bool]
    make: Callable[[], ModuleType]


@contextmanager
def standing_in(stubs: Sequence[Stub]) -> Iterator[None]:
    """Those that are needed are what an import of their names gives, until the block ends: nobody else shall find them."""
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
    """What the kit keeps as ``tf``: the real one as soon as a HEAR module has imported it; until then no model is of it.

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
    stub.declare_namespace = lambda name: None  # type: ignore[attr-defined] # of Lightning 1, for which it does nothing
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
