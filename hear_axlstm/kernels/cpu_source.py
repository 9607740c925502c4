"""Numba's names, for kernels to be written with. Numba itself, half a second of import, comes when one is compiled.

``numba``, ``types``, ``ir`` and ``intrinsic`` stand for what is called so in Numba and llvmlite. What is made of them
outside of functions is noted, and made when a kernel that uses it is compiled: one whose machine code is kept needs no
compiler.
"""

from __future__ import annotations

import types as python
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

Function = Callable[..., Any]


class Later:
    """An expression that is noted now and evaluated when it is needed. words: the expression, the same in every process."""

    def __init__(self, make: Callable[[], Any], words: str) -> None:
        self._make, self._words = make, words
        self._made: list[Any] = []

    def __repr__(self) -> str:
        return self._words

    def __getattr__(self, name: str) -> Later:
        if name.startswith("__"):
            raise AttributeError(name)
        return Later(lambda: getattr(made(self), name), f"{self}.{name}")

    def __call__(self, *given: Any, **named: Any) -> Later:
        def make() -> Any:
            return made(self)(*map(made, given), **{name: made(value) for name, value in named.items()})

        every = [*map(described, given), *(f"{name}={described(value)}" for name, value in named.items())]
        return Later(make, f"{self}({', '.join(every)})")


def later(module: str, name: str | None = None) -> Any:
    """A module, or something in it."""

    def make() -> Any:
        return getattr(import_module(module), name) if name else import_module(module)

    return Later(make, f"{module}.{name}" if name else module)


numba, types, ir = later("numba"), later("numba.core.types"), later("llvmlite.ir")
intrinsic = later("numba.extending", "intrinsic")


def made(value: Any) -> Any:
    """What Numba is given for a value: an expression evaluated, a function with all that it uses evaluated."""
    if isinstance(value, Later):
        if not value._made:
            value._made.append(value._make())
        return value._made[0]
    if not isinstance(value, python.FunctionType):
        return value
    used = {name: made(one) for name, one in _used(value) if isinstance(one, Later)}
    cells = tuple(python.CellType(made(cell.cell_contents)) for cell in value.__closure__ or ())
    return python.FunctionType(value.__code__, value.__globals__ | used, value.__name__, value.__defaults__, cells)


def described(value: Any) -> str:
    """All that the machine code made of a value depends on in Python: code, the functions it calls, numbers.

    Raises TypeError on what has no description that is the same in every process.
    """
    if isinstance(value, python.ModuleType):
        return value.__name__
    if not isinstance(value, python.FunctionType):
        if " at 0x" in repr(value):
            raise TypeError(f"a kernel uses {value!r}; expected a number, a module, or a function with @jit or @intrinsic")
        return repr(value)
    lines = [line for code in _codes(value.__code__) for line in _in_words(code)]
    cells = zip(value.__code__.co_freevars, (cell.cell_contents for cell in value.__closure__ or ()), strict=True)
    return "\n".join([*lines, *(f"{name}: {described(one)}" for name, one in (*_used(value), *cells))])


def _codes(code: python.CodeType) -> Iterator[python.CodeType]:
    """The code of a function, and of those inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, python.CodeType):
            yield from _codes(constant)


def _in_words(code: python.CodeType) -> Iterator[str]:
    yield f"{code.co_code.hex()} {code.co_names} {code.co_varnames}"
    yield from (repr(constant) for constant in code.co_consts if not isinstance(constant, python.CodeType))


def _used(function: Function) -> Iterator[tuple[str, Any]]:
    """The names of its module that a function uses, and what they stand for."""
    names = dict.fromkeys(name for code in _codes(function.__code__) for name in code.co_names)
    return ((name, function.__globals__[name]) for name in names if name in function.__globals__)
