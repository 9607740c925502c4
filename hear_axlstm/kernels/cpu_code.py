"""The machine code of the CPU kernels: compiled once for an installation and a processor, kept in files, and linked by LLVM.

Numba has a cache as well. It unpickles what it finds, compiles in every process that starts before the first is done, gives
up where the installation and the home folder cannot be written, and needs the import of Numba.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from llvmlite import binding as llvm

# Functions of Numba's that the code of a kernel calls: those that allocate and free its arrays, and those that raise errors,
# which no kernel does unless there is no memory left.
ALLOCATES = re.compile(r"^declare (.*@NRT_MemInfo_alloc_aligned)\(.*$", re.MULTILINE)
FREES = re.compile(r"^declare (.*@NRT_MemInfo_call_dtor)\(.*$", re.MULTILINE)
RAISES = re.compile(r"^declare (.*@(?:numba_\w+|NRT_Free)\(.*)$", re.MULTILINE)
# An array as Numba has it: at 0 the number of references, at 24 the address of its numbers.
ALLOCATE = r"""define internal \1(i64 %size, i32 %align) {
  %room = add i64 %size, 128
  %block = call BYTES @malloc(i64 %room)
  %references = bitcast BYTES %block to LONGS
  store i64 1, LONGS %references
  %address = ptrtoint BYTES %block to i64
  %beyond = add i64 %address, 127
  %aligned = and i64 %beyond, -64
  %place = getelementptr i64, LONGS %references, i64 3
  store i64 %aligned, LONGS %place
  ret BYTES %block
}
declare BYTES @malloc(i64)"""
FREE = r"""define internal \1(BYTES %block) {
  call void @free(BYTES %block)
  ret void
}
declare void @free(BYTES)"""
RAISE = r"""define internal \1 {
  call void @llvm.trap()
  unreachable
}"""
DIGEST = hashlib.sha256().digest_size
VARIABLES = ("NUMBA_CACHE_DIR", "NUMBA_NUM_THREADS")  # of Numba's, that its code does not depend on


class Code(NamedTuple):
    """An object file with one kernel. calls: the functions that it needs of this process."""

    name: str
    calls: Sequence[str]
    machine: bytes

    def write(self, path: Path) -> None:
        """Write a file that appears whole, behind a digest of what it holds. Raises OSError."""
        content = " ".join([self.name, *self.calls]).encode() + b"\n" + self.machine
        part = path.with_name(f".{path.name}-{os.urandom(4).hex()}.part")
        try:
            part.write_bytes(hashlib.sha256(content).digest() + content)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    @classmethod
    def read(cls, path: Path) -> Code | None:
        """What ``write`` wrote; None where there is no such file, or it is damaged."""
        with suppress(OSError):
            data = path.read_bytes()
            if hashlib.sha256(data[DIGEST:]).digest() == data[:DIGEST]:
                head, _, machine = data[DIGEST:].partition(b"\n")
                name, *calls = head.decode().split(" ")
                return cls(name, calls, machine)
        return None


def kept(name: str, description: str, compile: Callable[[], Any]) -> Any:
    """A kernel with its ``address``, from the file that keeps it or else compiled, by one process while others wait.

    compile: makes the callback of Numba, which is also what is returned where its code cannot be kept.
    """
    file = f"{name}-{_key(description)}.code"
    for folder in folders():
        if linked := _linked(Code.read(folder / file)):
            return linked
    with _alone() as own:
        if own and (linked := _linked(Code.read(own / file))):
            return linked  # another process was first
        callback = compile()
        code = _emitted(callback)
        if own and code:
            with suppress(OSError):  # no space is left, say
                code.write(own / file)
        return _linked(code) or callback


def folders() -> Iterator[Path]:
    """Where code may be: NUMBA_CACHE_DIR, beside this file, the user's cache, and the user's own temporary folder."""
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        yield Path(chosen, "hear-axlstm")
    yield Path(__file__).parent / "__pycache__"
    caches = os.environ.get("XDG_CACHE_HOME", "")
    home = os.path.join(caches if os.path.isabs(caches) else os.path.expanduser("~/.cache"), "hear-axlstm")
    if os.path.isabs(home := os.environ.get("HEAR_AXLSTM_CACHE") or home):
        yield Path(home, "kernels")
    own = Path(tempfile.gettempdir(), f"hear-axlstm-{os.getuid()}")
    with suppress(OSError):
        own.mkdir(mode=0o700, exist_ok=True)
        facts = own.lstat()
        if own.is_dir() and not own.is_symlink() and facts.st_uid == os.getuid() and not facts.st_mode & 0o022:
            yield own  # nobody else can have put code there


@contextmanager
def _alone() -> Iterator[Path | None]:
    """The first folder that can be written, while no other process is in such a block; None where there is none."""
    for folder in folders():
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(folder / "kernels.lock", os.O_RDWR | os.O_CREAT, 0o666)
            break
    else:
        yield None
        return
    try:
        with suppress(OSError):  # file systems without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    finally:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_UN)  # a process that was forked meanwhile has it open, too
        os.close(lock)


def _key(description: str) -> str:
    """A hash of all that a kernel's code depends on."""
    numbas = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("NUMBA_")]
    settings = [setting for setting in numbas if setting.partition("=")[0] not in VARIABLES]
    return hashlib.sha256("\n".join([description, *_machine(), *settings]).encode()).hexdigest()[:32]


@functools.cache
def _machine() -> Sequence[str]:
    """The processor, whose instructions the code uses, and the versions of what makes it."""
    triple, processor, features = _target()
    return triple, processor, features, sys.version, version("numba"), version("llvmlite"), version("numpy")


@functools.cache
def _target() -> tuple[str, str, str]:
    """What LLVM calls this system, its processor, and what that can do."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.get_process_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


def _target_machine() -> Any:
    """As Numba has it for code that stays on this machine."""
    triple, processor, features = _target()
    reloc = "static" if triple.startswith("x86") else "default"
    options = {"cpu": processor, "features": features, "opt": 3, "reloc": reloc, "codemodel": "jitdefault", "jit": True}
    return llvm.Target.from_triple(triple).create_target_machine(**options)


def _emitted(callback: Any) -> Code | None:
    """The code of a callback that Numba has compiled; None where it needs more of Numba than can be done without."""
    text = callback.inspect_llvm() + "\ndeclare void @llvm.trap()\n"
    for called, does in ((ALLOCATES, ALLOCATE), (FREES, FREE), (RAISES, RAISE)):
        text = called.sub(does, text)
    typed = "i8*" in text  # of LLVM before 17
    text = text.replace("BYTES", "i8*" if typed else "ptr").replace("LONGS", "i64*" if typed else "ptr")
    with suppress(RuntimeError):  # of another Numba than these functions were written for
        module = llvm.parse_assembly(text)
        outside = [x.name for x in (*module.functions, *module.global_variables) if x.is_declaration]
        calls = [name for name in outside if not name.startswith("llvm.")]
        if not any(name.startswith("NRT_") for name in calls):
            return Code(callback.native_name, calls, _target_machine().emit_object(module))
    return None


def _linked(code: Code | None) -> Any:
    """The kernel at its address in this process; None where something that it calls is not there."""
    if code is None:
        return None
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target_machine())  # after this, symbols are found
    if any(llvm.address_of_symbol(name) is None for name in code.calls):
        return None
    engine.add_object_file(llvm.ObjectFileRef.from_data(code.machine))
    engine.finalize_object()
    return SimpleNamespace(address=engine.get_function_address(code.name), engine=engine)
