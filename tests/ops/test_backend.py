"""Which implementation runs, and what is said when one cannot."""

import importlib
import logging
import sys
from types import SimpleNamespace

import pytest
import torch

from hear_axlstm import kernels
from hear_axlstm.errors import BackendError, ConfigError
from hear_axlstm.kernels import cpu
from hear_axlstm.ops import backend as module
from hear_axlstm.ops.backend import find_kernel
from hear_axlstm.ops.conv import causal_conv_silu
from hear_axlstm.ops.mlstm import gated_mlstm
from hear_axlstm.ops.norm import add_norm

FLOATS = torch.zeros(2, 3, 4)


def select(backend, *operands):
    """Whose kernel of the scan runs on these operands."""
    kernel = find_kernel("gated_scan", backend, *operands)
    return {None: "torch", "cpu": "numba", "cuda": "triton"}[kernel and kernel.__module__.rpartition(".")[2]]


@pytest.fixture(autouse=True)
def fresh_log():
    module._log_once.cache_clear()


@pytest.fixture
def without_interpreter(monkeypatch):
    """As it is for users: Triton's kernels need a GPU."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)


@pytest.fixture
def without_gradients(monkeypatch):
    """As if no kernel had gradients on a CPU."""
    monkeypatch.setattr(cpu, "GRADIENTS", {})


@pytest.fixture
def unimportable(monkeypatch):
    """Make the import of a package raise."""

    def make(package, error):
        def import_module(name):
            if name == package:
                raise error
            return importlib.import_module(name)

        kernels.import_obstacle.cache_clear()
        monkeypatch.setattr(kernels, "importlib", SimpleNamespace(import_module=import_module))

    yield make
    kernels.import_obstacle.cache_clear()


def missing(package):
    return ModuleNotFoundError(f"No module named {package!r}", name=package)


def test_a_cpu_runs_numba_and_what_it_cannot_in_torch():
    assert select("auto", FLOATS) == "numba"
    assert select("auto", FLOATS.double()) == "torch"
    assert select("auto", FLOATS.half()) == "torch"
    assert select("auto", FLOATS.clone().requires_grad_()) == "numba"


def test_gradients_of_any_operand_count_where_a_kernel_has_none(without_gradients):
    assert select("auto", FLOATS.clone().requires_grad_()) == "torch"
    assert select("auto", FLOATS, FLOATS.clone().requires_grad_()) == "torch"
    with torch.no_grad():
        assert select("auto", FLOATS.clone().requires_grad_()) == "numba"


def test_torch_runs_everything():
    assert {select("torch", FLOATS.to(dtype)) for dtype in (torch.float16, torch.float64)} == {"torch"}


def test_every_reason_to_fall_back_is_logged_once(unimportable, caplog):
    caplog.set_level(logging.INFO)
    for _ in range(3):
        select("auto", FLOATS.double())
    unimportable("hear_axlstm.kernels.scan.cpu", missing("numba"))
    for _ in range(3):
        select("auto", FLOATS)
    assert [record.getMessage() for record in caplog.records] == [
        "going on with torch operations, without numba kernels: the tensors are float64; it computes in float32 and "
        "takes bfloat16",
        "going on with torch operations, without numba kernels: the package numba is not installed: "
        "pip install 'hear-axlstm[cpu]'",
    ]


@pytest.mark.parametrize(
    ("backend", "x", "reason"),
    [
        ("triton", FLOATS, "on the device cpu; it runs on CUDA"),
        ("numba", FLOATS.double(), "are float64"),
        ("numba", torch.zeros(2, 3, 4, device="meta"), "on the device meta; it runs on a CPU"),
        ("numba", FLOATS.clone().requires_grad_(), "no gradients"),
    ],
)
def test_a_named_backend_runs_or_raises(without_interpreter, without_gradients, backend, x, reason):
    with pytest.raises(BackendError, match=rf"'{backend}' cannot run: .*{reason}.*choose 'auto' or 'torch'"):
        select(backend, x)


@pytest.mark.parametrize("package", ["triton", "numba"])
def test_a_named_backend_that_is_not_installed_says_so(monkeypatch, unimportable, package):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    unimportable({"triton": "triton", "numba": "hear_axlstm.kernels.scan.cpu"}[package], missing(package))
    with pytest.raises(BackendError, match=f"the package {package} is not installed"):
        select(package, FLOATS)


def test_a_broken_installation_is_an_obstacle_and_no_crash(unimportable):
    unimportable("hear_axlstm.kernels.scan.cpu", ImportError("Numba needs NumPy 2.1 or less. Got NumPy 2.4."))
    assert select("auto", FLOATS) == "torch"
    with pytest.raises(BackendError, match=r"scan.cpu cannot be imported \(Numba needs NumPy 2.1"):
        select("numba", FLOATS)


@pytest.mark.parametrize("error", [RuntimeError("cannot cache\nin detail"), AttributeError(), SystemExit(3)], ids=repr)
def test_whatever_an_import_raises_means_plain_torch_and_one_line_in_the_log(unimportable, caplog, error):
    caplog.set_level(logging.INFO)
    unimportable("hear_axlstm.kernels.scan.cpu", error)
    assert select("auto", FLOATS) == "torch"
    assert len(caplog.records) == 1
    assert "without numba kernels: hear_axlstm.kernels.scan.cpu cannot be imported (" in caplog.text
    assert "in detail" not in caplog.text
    with pytest.raises(BackendError, match="cannot be imported"):
        select("numba", FLOATS)


def test_triton_is_not_imported_after_tensorflow(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setitem(sys.modules, "tensorflow", object())
    monkeypatch.delitem(sys.modules, "triton", raising=False)
    with pytest.raises(BackendError, match=r"TensorFlow was imported first.*import triton before"):
        select("triton", FLOATS)


def test_triton_computes_in_no_float64(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert select("triton", FLOATS) == "triton"
    with pytest.raises(BackendError, match="float64"):
        select("triton", FLOATS.double())


def test_a_device_of_another_kind_runs_torch(without_interpreter):
    assert select("auto", torch.zeros(2, 3, 4, device="meta")) == "torch"


def test_an_operation_that_a_backend_is_not_made_for_runs_in_torch_or_raises(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    x, weight, bias = torch.randn(1, 5, 4), torch.randn(4, 1, 3), torch.randn(4)
    torch.testing.assert_close(causal_conv_silu(x, weight, bias), causal_conv_silu(x, weight, bias, backend="torch"))
    with pytest.raises(BackendError, match="3 tokens wide; it is compiled for 4"):
        causal_conv_silu(x, weight, bias, backend="numba")
    wide = torch.zeros(1, 2, 772)
    with pytest.raises(BackendError, match="heads have 772 channels; it takes 768 or fewer"):
        gated_mlstm(wide, wide, wide, torch.zeros(1, 2, 2), torch.zeros(193, 4, 4), wide[0, 0], wide[0, 0], backend="triton")
    x = torch.zeros(1, 4097)
    with pytest.raises(BackendError, match="there are 4097 channels; it takes 4096 or fewer"):
        add_norm(x, None, x[0], None, eps=1e-5, dtype=torch.float32, backend="triton")


def test_the_variable_overrules_auto_and_nothing_else(monkeypatch):
    monkeypatch.setenv("HEAR_AXLSTM_BACKEND", "torch")
    assert select("auto", FLOATS) == "torch"
    assert select("numba", FLOATS) == "numba"
    monkeypatch.setenv("HEAR_AXLSTM_BACKEND", "cuda")
    with pytest.raises(ConfigError, match="expected one of"):
        select("auto", FLOATS)
