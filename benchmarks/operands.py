"""The operations of the blocks, operands for them in the shapes of the variants, and the time that an action takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from hear_axlstm.ops.conv import causal_conv_silu, conv_mix_gates
from hear_axlstm.ops.mlstm import gated_mlstm
from hear_axlstm.ops.norm import add_norm
from hear_axlstm.ops.scan import gated_scan

HEADS, STATES = 4, 24
WARM_UPS = 3

Operation = Callable[..., Any]


def operations(
    batch: int, tokens: int, width: int, device: torch.device | str, dtype: torch.dtype = torch.float16
) -> Iterator[tuple[str, Operation, tuple[Tensor | None, ...]]]:
    """Name, function and operands of each operation, in the shapes of a variant with ``width``, E=3.

    Matrices are in ``dtype``. Gates are as after training, and a token's query is turned away from its own key, so that few
    of the mLSTM's normalisers cancel: those have no digits left in float16.
    """
    n = 3 * width

    def normal(*shape: int, scale: float = 1.0, to: torch.dtype = dtype) -> Tensor:
        return (scale * torch.randn(*shape, device=device)).to(to).requires_grad_()

    def small(*shape: int, scale: float = 1.0) -> Tensor:
        return normal(*shape, scale=scale, to=torch.float32)

    x, z = normal(batch, tokens, 2 * n).chunk(2, dim=-1)
    conv = small(n, 1, 4, scale=0.5), small(n)
    mix, *of_gates = small(n // 4, 4, 4, scale=0.5), *(small(2 * HEADS, n, scale=n**-0.5) for _ in range(2))
    gates = small(batch, tokens, 2 * HEADS).detach()
    gates[..., HEADS:] = 2 + 2 * gates[..., HEADS:]
    turned = 0.05 * torch.randn(n // 4, 4, 4, device=device) - 0.1 * torch.eye(4, device=device)
    decay = -torch.arange(1.0, STATES + 1, device=device).repeat(n, 1)
    yield "add_norm", lambda *a, **k: add_norm(*a, eps=1e-5, dtype=a[1].dtype, **k), (
        small(batch, tokens, width), normal(batch, tokens, width), small(width), None,
    )  # fmt: skip
    yield "causal_conv_silu", causal_conv_silu, (x, *conv)
    yield "conv_mix_gates", conv_mix_gates, (x, *conv, mix, *of_gates)
    of_heads = gates.requires_grad_(), turned.requires_grad_(), small(n), small(n)
    yield "gated_mlstm", gated_mlstm, (normal(batch, tokens, n), normal(batch, tokens, n), z, *of_heads)
    yield "gated_scan", gated_scan, (
        normal(batch, tokens, n), normal(batch, tokens, n, scale=0.1), small(n), decay.requires_grad_(),
        normal(batch, tokens, STATES), normal(batch, tokens, STATES), small(n), z,
    )  # fmt: skip


def operation_of(name: str, *shape: Any) -> tuple[Operation, tuple[Tensor | None, ...]]:
    """The function and the operands of one of the ``operations``."""
    return next((operation, arguments) for found, operation, arguments in operations(*shape) if found == name)


def results(out: Any) -> tuple[Tensor, ...]:
    """What an operation returned, as a tuple."""
    return out if isinstance(out, tuple) else (out,)


def milliseconds(action: Callable[[], object], device: torch.device, repeats: int) -> float:
    """The median of some runs after WARM_UPS, by events on CUDA."""
    times = []
    for run in range(WARM_UPS + repeats):
        taken = _seconds(action, device)
        if run >= WARM_UPS:
            times.append(1_000 * taken)
    return statistics.median(times)


def _seconds(action: Callable[[], object], device: torch.device) -> float:
    if device.type != "cuda":
        start = time.perf_counter()
        action()
        return time.perf_counter() - start
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    action()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1_000
