"""The selective scan with what surrounds it: softplus of the step, skip, and gate."""

from __future__ import annotations

from torch import Tensor

from hear_axlstm.kernels.scan.eager import eager_gated_scan
from hear_axlstm.ops.backend import Backend, select


def gated_scan(
    x: Tensor,
    step: Tensor,
    step_bias: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor,
    z: Tensor | None,
    *,
    reverse: bool = False,
    backend: Backend = "auto",
) -> Tensor:
    """y_t = C_t . state_t + D x_t, with state_t = exp(delta_t A) state_{t-1} + delta_t B_t x_t and
    delta = softplus(step + step_bias); times SiLU(z) unless that is None.

    reverse: the tokens are read from the last to the first. Steps, states and sums are float32 or better.

    Shape: x, step and z (B, L, n), step_bias and d (n), a (n, N) negative, b and c (B, L, N) -> (B, L, n), in x's dtype.
    """
    operands = x, step, step_bias, a, b, c, d
    chosen = select(backend, *operands, *([] if z is None else [z]))
    if chosen == "triton":
        from hear_axlstm.kernels.scan.cuda import fused_gated_scan

        return fused_gated_scan(*operands, z, reverse=reverse)
    if chosen == "numba":
        from hear_axlstm.kernels.scan.cpu import compiled_gated_scan

        return compiled_gated_scan(*operands, z, reverse=reverse)
    return eager_gated_scan(*operands, z, reverse=reverse)
