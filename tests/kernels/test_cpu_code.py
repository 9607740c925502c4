"""Machine code that is compiled once, by one process, and kept where the next finds it."""

import ctypes
import json
import os
import subprocess
import sys
import tempfile
from importlib import import_module

import numpy as np
import pytest

pytest.importorskip("numba")

from hear_axlstm.kernels import cpu, cpu_code
from hear_axlstm.kernels.cpu_parts import SIGNATURE, jit, share
from hear_axlstm.kernels.cpu_source import described, intrinsic, ir, made, numba, types

FACTOR = 2


def double(p):
    p[0] = FACTOR * p[1]


def with_an_array(p):
    squares = np.empty(p[1], np.int64)
    for i in range(p[1]):
        squares[i] = i * i
    p[0] = squares.sum()


def callback(function):
    return made(numba.cfunc(SIGNATURE, fastmath=True, error_model="numpy")(function))


def run(kernel, number):
    numbers = np.array([0, number], np.int64)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(kernel.address)(numbers.ctypes.data)
    return numbers[0]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    return tmp_path / "hear-axlstm"


@pytest.fixture
def compiled(cache):
    """Get a kernel as a process does that has just started; gives how often it was compiled."""
    times = []

    def get(function=double):
        kernel = cpu_code.kept("test", described(function), lambda: times.append(1) or callback(function))
        assert run(kernel, 21) == (42 if function is double else 2870)
        return len(times)

    return get


@pytest.mark.parametrize("function", [double, with_an_array])
def test_a_kernel_is_compiled_once(compiled, function):
    assert [compiled(function) for _ in range(3)] == [1, 1, 1]


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: b"", lambda data: data[:40] + b"?" + data[41:]])
def test_a_damaged_file_is_compiled_anew(compiled, cache, damage):
    compiled()
    [path] = cache.glob("*.code")
    path.write_bytes(damage(path.read_bytes()))
    assert [compiled(), compiled()] == [2, 2]
    assert {path.suffix for path in cache.iterdir()} == {".code", ".lock"}


def test_another_processor_and_other_settings_do_not_run_this_code(compiled, monkeypatch):
    compiled()
    before = cpu_code._machine()
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(cpu_code, "_machine", lambda: ("x86_64", "pentium", *before[2:]))
        assert compiled() == 2
    monkeypatch.setenv("NUMBA_OPT", "1")
    assert compiled() == 3


PROGRAM = """
import json, os, sys, time
from tests.kernels.test_cpu_code import callback, cpu_code, described, double, run

def compile():
    os.write(2, b"compiled\\n")
    return callback(double)

start, children = time.time() + 0.2, []
for _ in range(6):
    if not (child := os.fork()):
        time.sleep(max(start - time.time(), 0))
        os._exit(run(cpu_code.kept("test", described(double), compile), 21))
    children.append(child)
print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]))
"""


def test_of_processes_that_start_together_one_compiles_and_all_have_the_kernel(cache):
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert (json.loads(result.stdout), result.stderr) == ([42] * 6, "compiled\n")


def test_every_kernel_is_kept_so_that_the_next_process_does_without_numba():
    modules = {module: import_module(module) for module in cpu.MODULES.values()}
    program = f"import sys, {', '.join(modules)}; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.fixture
def places(tmp_path, monkeypatch):
    """An installation and a user of whom nothing is known but a temporary folder."""
    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "HEAR_AXLSTM_CACHE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "read-only").touch()
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(cpu_code, "__file__", str(tmp_path / "read-only" / "cpu_code.py"))  # no folder can be made in a file
    monkeypatch.setenv("HOME", str(tmp_path / "read-only"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path


def own_folder(places):
    return places / "temporary" / f"hear-axlstm-{os.getuid()}"


def where():
    with cpu_code._alone() as folder:
        return folder


def test_code_is_kept_beside_the_package_or_else_in_the_cache_or_else_in_a_temporary_folder(places, monkeypatch):
    assert where() == own_folder(places)
    assert own_folder(places).stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv("XDG_CACHE_HOME", str(places / "xdg"))
    assert where() == places / "xdg" / "hear-axlstm" / "kernels"
    monkeypatch.setenv("HEAR_AXLSTM_CACHE", str(places / "ours"))
    assert where() == places / "ours" / "kernels"
    monkeypatch.setattr(cpu_code, "__file__", str(places / "package" / "cpu_code.py"))
    assert where() == places / "package" / "__pycache__"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(places / "numba"))
    assert where() == places / "numba" / "hear-axlstm"


def test_a_temporary_folder_that_others_can_write_is_not_trusted(places):
    own_folder(places).mkdir()
    own_folder(places).chmod(0o777)
    assert where() is None
    own_folder(places).rmdir()
    own_folder(places).symlink_to(places)
    assert where() is None


def test_a_kernel_runs_where_nothing_can_be_kept(places):
    own_folder(places).touch()
    assert run(cpu_code.kept("test", described(double), lambda: callback(double)), 4) == 8


def test_a_description_has_all_that_the_code_depends_on(monkeypatch):
    @jit()
    def inner(x):
        return x + 1

    def factory(kind):
        @intrinsic
        def zero(context, x):
            return kind(x), lambda context, builder, signature, arguments: ir.IntType(64)(0)

        return zero

    def outer(p):
        p[0] = FACTOR * inner(p[1])

    before = described(outer)
    assert described(outer) == before
    assert "share" in described(lambda p: share(p[0]))
    assert described(factory(types.int64)) != described(factory(types.int32))
    monkeypatch.setitem(outer.__globals__, "FACTOR", 3)
    assert described(outer) != before
    monkeypatch.setitem(outer.__globals__, "FACTOR", object())
    with pytest.raises(TypeError, match="expected a number, a module, or a function"):
        described(outer)
