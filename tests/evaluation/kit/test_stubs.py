"""What stands in for TensorFlow, pkg_resources and pynvml while the kit is imported, and is gone afterwards."""

import importlib
import sys
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace

import pytest
import torch

from hear_axlstm.evaluation.kit.mend import GPU_MAX_MEM, mend
from hear_axlstm.evaluation.kit.stubs import PKG_RESOURCES, PYNVML, TENSORFLOW, standing_in

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
            "hear_axlstm.evaluation.kit.stubs.find_spec", lambda asked: None if asked == name else find_spec(asked)
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
    monkeypatch.setattr("hear_axlstm.evaluation.kit.stubs.find_spec", lambda name: object())
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
