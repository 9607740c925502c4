"""The equations, as they are written: what the other implementations are tested against."""

from __future__ import annotations

from torch import Tensor


def reference_add_norm(
    x: Tensor, update: Tensor | None, weight: Tensor, bias: Tensor | None, *, eps: float
) -> tuple[Tensor, Tensor]:
    """r = x + update; (r - mean(r)) / sqrt(var(r) + eps) * weight + bias, over the channels."""
    total = x if update is None else x + update
    mean = total.mean(-1, keepdim=True)
    variance = ((total - mean) ** 2).mean(-1, keepdim=True)
    normed = (total - mean) / (variance + eps) ** 0.5 * weight
    return total, normed if bias is None else normed + bias
