"""Values and gradients of one operation's kernels on the device, beside plain torch in float64.

    python -m benchmarks.gpu.kernels gated_mlstm

Widths are those of tiny, small and base. What the compiler says of each kernel is noted: registers, spills, shared memory.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.checks import Checks, rehearsing, require
from benchmarks.operands import Operation, operation_of, results

WIDTHS = (192, 384, 768)
BATCH, TOKENS = 2, 251
SECONDS = 120.0  # of a check, in which the forward and backward kernels are compiled
# Relative deviations, of norms: float32 sums in another order; roundings to float16, of 2^-11 each; and of float16
# gradients that are small differences of large sums.
FLOAT32, FLOAT16, FLOAT16_GRADIENT = 5e-5, 2e-3, 1e-2


@contextmanager
def compiled() -> Iterator[dict[str, Any]]:
    """The kernels that are launched in the block, by name, as Triton compiled them."""
    found: dict[str, Any] = {}
    try:
        from triton.runtime.jit import JITFunction
    except ImportError:
        yield found
        return
    launch = JITFunction.run

    def noting(kernel: Any, *arguments: Any, **options: Any) -> Any:
        found[kernel.__name__] = made = launch(kernel, *arguments, **options)
        return made

    JITFunction.run = noting
    try:
        yield found
    finally:
        JITFunction.run = launch


def facts(kernels: dict[str, Any]) -> str:
    """Registers, spilled bytes and shared memory of each kernel."""
    words = []
    for name, kernel in kernels.items():
        memory = getattr(getattr(kernel, "metadata", None), "shared", "?")
        words.append(f"{name} {getattr(kernel, 'n_regs', '?')}/{getattr(kernel, 'n_spills', '?')}/{memory}")
    return ", ".join(words)


def run(
    operation: Operation, arguments: tuple[Tensor | None, ...], backend: str, dtype: torch.dtype | None = None
) -> list[Tensor]:
    """Results, and the gradients of all operands for a gradient of results that is the same every time."""
    leaves = [None if a is None else a.detach().to(dtype or a.dtype).requires_grad_() for a in arguments]
    out = results(operation(*leaves, backend=backend))
    torch.manual_seed(1)
    gradients = [torch.randn(o.shape, device=o.device).half().to(o.dtype) for o in out]
    given = [leaf for leaf in leaves if leaf is not None]
    return [*(o.detach() for o in out), *torch.autograd.grad(out, given, gradients)]


def deviations(ours: list[Tensor], truth: list[Tensor], count: int) -> tuple[float, float]:
    """The largest relative deviation of ``count`` results, and of the gradients after them."""
    found = []
    for mine, expected in zip(ours, truth, strict=True):
        require(mine.isfinite().all(), "a value is not finite")
        found.append(float((mine.double() - expected).norm() / expected.norm().clamp(min=1e-30)))
    return max(found[:count]), max(found[count:])


def check(name: str, width: int, dtype: torch.dtype, device: str) -> dict[str, Any]:
    """Compile and run the operation in ``dtype``, and compare."""
    torch.manual_seed(0)
    batch, tokens = (1, 9) if rehearsing() else (BATCH, TOKENS)
    operation, arguments = operation_of(name, batch, tokens, width, device, dtype)
    start = time.perf_counter()
    with compiled() as kernels:
        ours = run(operation, arguments, "triton")
        if device == "cuda":
            torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    truth = run(operation, arguments, "torch", torch.float64)
    count = len(truth) - sum(a is not None for a in arguments)
    values, gradients = deviations(ours, truth, count)
    plain = deviations(run(operation, arguments, "torch"), truth, count)
    allowed = (FLOAT16, FLOAT16_GRADIENT) if dtype == torch.float16 else (FLOAT32, FLOAT32)
    within = values <= max(allowed[0], 1.5 * plain[0]) and gradients <= max(allowed[1], 1.5 * plain[1])
    text = f"values deviate by {values:.1e}, gradients by {gradients:.1e}; allowed {allowed}, plain torch {plain}"
    require(within, text)
    return {
        "deviation": values, "of gradients": gradients, "plain torch's": plain[0], "its gradients'": plain[1],
        "compiled and run, s": round(seconds, 1), "registers/spilled bytes/shared bytes": facts(kernels),
    }  # fmt: skip


def main() -> None:
    """Check one operation in every width and dtype."""
    name, checks = sys.argv[1], Checks()
    device, widths = ("cpu", (16,)) if rehearsing() else ("cuda", WIDTHS)
    for dtype in (torch.float16, torch.float32):
        for width in widths:
            label = f"{name} {str(dtype).removeprefix('torch.')} width {width}"
            checks.run(label, partial(check, name, width, dtype, device), SECONDS)
    checks.end()


if __name__ == "__main__":
    main()
