"""Causal depthwise convolution and SiLU, which open the mLSTM and the Mamba mixers."""

from __future__ import annotations

from torch import Tensor

from hear_axlstm.kernels.conv.eager import eager_conv_mix_gates, eager_conv_silu
from hear_axlstm.ops.backend import Backend, select

NUMBA_TAPS = 4


def causal_conv_silu(x: Tensor, weight: Tensor, bias: Tensor, *, reverse: bool = False, backend: Backend = "auto") -> Tensor:
    """SiLU(bias + sum_j weight[:, j] * x[t - (W - 1) + j]): each channel sees itself and the W - 1 tokens before.

    reverse: the tokens are read from the last to the first. Sums are made in float32 or better.

    Shape: x (B, L, n), weight (n, 1, W), bias (n) -> (B, L, n), in x's dtype.
    """
    chosen = select(backend, x, weight, bias, numba=_numba_limit(weight))
    if chosen == "triton":
        from hear_axlstm.kernels.conv.cuda import fused_conv_silu

        return fused_conv_silu(x, weight, bias, reverse=reverse)
    if chosen == "numba":
        from hear_axlstm.kernels.conv.cpu import compiled_conv_silu

        return compiled_conv_silu(x, weight, bias, reverse=reverse)
    return eager_conv_silu(x, weight, bias, reverse=reverse)


def conv_mix_gates(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    mix: Tensor,
    gate_c: Tensor,
    gate_x: Tensor,
    *,
    reverse: bool = False,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor, Tensor]:
    """What an mLSTM reads: c = ``causal_conv_silu(x)``, v = mix x, gates = c gate_c^T + x gate_x^T.

    Shape: x (B, L, n), weight (n, 1, W), bias (n), mix (n / 4, 4 out, 4 in), gate_c and gate_x (G, n)
    -> c and v (B, L, n) in x's dtype, gates (B, L, G) in float32 or better.
    """
    operands = x, weight, bias, mix, gate_c, gate_x
    chosen = select(backend, *operands, numba=_numba_limit(weight))
    if chosen == "triton":
        from hear_axlstm.kernels.conv.cuda import fused_conv_mix_gates

        return fused_conv_mix_gates(*operands, reverse=reverse)
    if chosen == "numba":
        from hear_axlstm.kernels.conv.cpu import compiled_conv_mix_gates

        return compiled_conv_mix_gates(*operands, reverse=reverse)
    return eager_conv_mix_gates(*operands, reverse=reverse)


def _numba_limit(weight: Tensor) -> str | None:
    taps = weight.shape[2]
    return None if taps == NUMBA_TAPS else f"the convolution is {taps} tokens wide; it is compiled for {NUMBA_TAPS}"
