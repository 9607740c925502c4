"""What mends the kit: stand-ins that are gone after its import, and Lightning 2 for code for Lightning 1."""

import importlib
import sys
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace

import pytest
import torch

from hear_axlstm.evaluation.kit.mend import (
    GPU_MAX_MEM,
    PKG_RESOURCES,
    PYNVML,
    TENSORFLOW,
    calls_epoch_ends,
    mend,
    restore_epoch_end,
    standing_in,
    takes_gpus,
    with_gpus,
)

GPU = "NVIDIA H200"


@pytest.fixture
def gpu(monkeypatch):
    """What torch says where there is a GPU, half of whose 16 GiB are used; and the kit is not imported yet."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index=0: GPU)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index=0: (8 << 30, 16 << 30))
    monkeypatch.delitem(sys.modules, "heareval.gpu_max_mem", raising=False)
    yield
    sys.modules.pop("heareval.gpu_max_mem", None)


@pytest.fixture
def hidden(monkeypatch):
    """Hide modules, whether they are installed or not: ``hidden(name)``."""

    def hide(name):
        monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.setattr(
            "hear_axlstm.evaluation.kit.mend.find_spec", lambda asked: None if asked == name else find_spec(asked)
        )

    return hide


def test_tensorflow_stands_aside_after_the_import(monkeypatch):
    real = ModuleType("tensorflow")
    real.Module = type("Module", (), {})
    monkeypatch.setitem(sys.modules, "tensorflow", real)
    with standing_in([TENSORFLOW]):
        tf = importlib.import_module("tensorflow")
        assert tf is not real
        assert find_spec("tensorflow") is not None
        assert tf.test.is_gpu_available(cuda_only=False, min_cuda_compute_capability=None)
    assert sys.modules["tensorflow"] is real
    assert tf.Module is real.Module
    monkeypatch.delitem(sys.modules, "tensorflow")
    assert not isinstance(torch.nn.Linear(1, 1), tf.Module)
    with pytest.raises(AttributeError, match="no HEAR module has imported tensorflow"):
        tf.convert_to_tensor  # noqa: B018


def test_a_stub_is_gone_even_when_the_import_fails(hidden):
    hidden("pkg_resources")

    with pytest.raises(ModuleNotFoundError, match=r"pkg_resources\.missing"), standing_in([PKG_RESOURCES]):
        importlib.import_module("pkg_resources.missing")
    assert "pkg_resources" not in sys.modules


def test_what_is_installed_is_left_in_place(monkeypatch):
    monkeypatch.setattr("hear_axlstm.evaluation.kit.mend.find_spec", lambda name: object())
    before = dict(sys.modules)
    with standing_in([PKG_RESOURCES, PYNVML]):
        assert sys.modules == before


def test_without_pynvml_torch_tells_of_the_gpu(gpu, hidden):
    hidden("pynvml")
    with standing_in([PYNVML]):
        kit = importlib.import_module("heareval.gpu_max_mem")
    mend(kit, GPU_MAX_MEM)
    kit.reset()
    assert kit.measure() == 8
    assert kit.device_name() == GPU


def test_a_pynvml_that_gives_the_name_as_text_is_not_asked_for_it(gpu, monkeypatch):
    pynvml = ModuleType("pynvml")
    pynvml.NVMLError = type("NVMLError", (Exception,), {})
    pynvml.nvmlInit = lambda: None
    pynvml.nvmlDeviceGetHandleByIndex = lambda index: index
    pynvml.nvmlDeviceGetMemoryInfo = lambda handle: SimpleNamespace(used=3 << 30)
    pynvml.nvmlDeviceGetName = lambda handle: "as text"
    monkeypatch.setitem(sys.modules, "pynvml", pynvml)
    kit = importlib.import_module("heareval.gpu_max_mem")
    with pytest.raises(AttributeError):
        kit.device_name()
    mend(kit, GPU_MAX_MEM)
    assert kit.device_name() == GPU
    assert kit.measure() == 3


def test_a_pynvml_that_gives_the_name_as_bytes_is(gpu, monkeypatch):
    pynvml = PYNVML.make()
    pynvml.nvmlDeviceGetName = lambda handle: b"as bytes"
    monkeypatch.setitem(sys.modules, "pynvml", pynvml)
    kit = importlib.import_module("heareval.gpu_max_mem")
    mend(kit, GPU_MAX_MEM)
    assert kit.device_name() == "as bytes"


class Model:
    """For Lightning 1."""

    def __init__(self):
        self.seen = []

    def validation_step(self, batch, batch_idx):
        return batch + batch_idx

    def validation_epoch_end(self, outputs):
        self.seen.append(outputs)


def test_an_epochs_end_sees_what_its_steps_returned():
    model_class = type("Model", (Model,), dict(vars(Model)))
    restore_epoch_end(model_class, "validation")
    assert "validation_epoch_end" not in vars(model_class)
    first, second = model_class(), model_class()
    for batches in ([10, 20], [30]):
        for index, batch in enumerate(batches):
            assert first.validation_step(batch, index) == batch + index
            second.validation_step(-batch, batch_idx=index)
        first.on_validation_epoch_end()
    assert first.seen == [[10, 21], [30]]
    second.on_validation_epoch_end()
    assert second.seen == [[-10, -19, -30]]


@pytest.mark.parametrize(
    ("gpus", "accelerator", "devices"),
    [(None, "cpu", 1), (0, "cpu", 1), ([], "cpu", 1), (1, "gpu", 1), ([0], "gpu", [0]), ([2, 3], "gpu", [2, 3])],
)
def test_gpus_become_devices(gpus, accelerator, devices):
    assert with_gpus(dict)(gpus=gpus, max_epochs=3) == {"accelerator": accelerator, "devices": devices, "max_epochs": 3}


def test_lightnings_are_told_apart():
    class Trainer1:
        def __init__(self, gpus=None, max_epochs=None): ...

    class Trainer2:
        def __init__(self, *, accelerator="auto", max_epochs=None): ...

    assert takes_gpus(Trainer1)
    assert not takes_gpus(Trainer2)
    assert calls_epoch_ends(Model)
    assert not calls_epoch_ends(Trainer2)
