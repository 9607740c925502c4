"""What gradients by hand do better than autograd, in plain torch, and where it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor


def obstacle(operation: str, operands: Sequence[Tensor]) -> str | None:
    """Why an operation cannot run on these operands: never, they run wherever torch does."""
    return None


def find(operation: str) -> Callable[..., Any] | None:
    """The kernel of an operation, or None where autograd does as well."""
    if operation != "selective_scan":
        return None
    from hear_axlstm.kernels.scan.saving import selective_scan

    return selective_scan
