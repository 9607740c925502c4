"""Operands of the gated scan with NaN around them, and the errors of a kernel's values and gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.ops.equations import reference_gated_scan

NAMES = "x", "step", "step_bias", "a", "b", "c", "d", "z"
RANK = 12  # of the step's projection, which stands before b and c in their rows


def within_nan(values: Tensor, before: int, after: int) -> Tensor:
    """The values as a view with NaN on every side: clips, rows, and as many columns as said."""
    if values.dim() == 1:
        around = torch.full((before + len(values) + after,), torch.nan)
        around[before : before + len(values)] = values
        return around[before : before + len(values)]
    batch, length, width = values.shape
    around = torch.full((batch + 2, length + 2, before + width + after), torch.nan, dtype=values.dtype)
    view = around[1 : batch + 1, 1 : length + 1, before : before + width]
    view.copy_(values)
    return view


def operands(
    length: int,
    inner: int = 5,
    states: int = 24,
    batch: int = 2,
    dtype: torch.dtype = torch.float32,
    gated: bool = True,
    spare: int = 0,
) -> list[Tensor | None]:
    """Arguments of the scan as the block lays them out: x and z are halves of rows, b and c slices of others.

    spare: columns behind b and c; their rows begin at multiples of four elements as in our models unless it is odd.
    """
    x, step, z = (torch.randn(batch, length, inner).to(dtype) for _ in range(3))
    b, c = (torch.randn(batch, length, states).to(dtype) for _ in range(2))
    a = -torch.arange(1.0, states + 1) * (0.5 + torch.rand(inner, 1))
    rates = within_nan(a[None], 0, 0)[0]
    return [
        within_nan(x, 0, inner),
        within_nan(step, 1, 2),
        within_nan(torch.randn(inner) - 2, 1, 3),
        rates,
        within_nan(b, RANK, states + spare),
        within_nan(c, RANK + states, spare),
        within_nan(torch.randn(inner), 3, 1),
        within_nan(z, inner, 0) if gated else None,
    ]


def results(scan, arguments: list[Tensor | None], reverse: bool, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """y and the gradient of every argument."""
    leaves = [None if x is None else x.detach().to(dtype or x.dtype).requires_grad_() for x in arguments]
    y = scan(*leaves, reverse=reverse)
    torch.manual_seed(1)
    y.backward(torch.randn(y.shape).to(arguments[0].dtype).to(y.dtype))
    return {"y": y.detach()} | {name: x.grad for name, x in zip(NAMES, leaves, strict=True) if x is not None}


def relative_errors(scan, arguments: list[Tensor | None], reverse: bool = False) -> dict[str, float]:
    """Of y and every gradient: the largest error, as a share of the largest value that the equations give in float64."""
    ours = results(scan, arguments, reverse)
    truth = results(reference_gated_scan, arguments, reverse, torch.float64)
    assert ours.keys() == truth.keys()
    for name, x in zip(NAMES, arguments, strict=True):
        assert x is None or ours[name].dtype == x.dtype
    assert all(x.isfinite().all() for x in ours.values()), "a maximum does not see NaN"
    return {key: ((ours[key] - truth[key]).abs().max() / truth[key].abs().max().clamp(min=1e-30)).item() for key in truth}
