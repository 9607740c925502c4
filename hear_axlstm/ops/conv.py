"""Causal depthwise convolution and SiLU, which open the mLSTM and the Mamba mixers."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from hear_axlstm.ops import wide
from hear_axlstm.ops.backend import Backend, find_kernel


def causal_conv_silu(x: Tensor, weight: Tensor, bias: Tensor, *, reverse: bool = False, backend: Backend = "auto") -> Tensor:
    """SiLU(bias + sum_j weight[:, j] * x[t - (W - 1) + j]): each channel sees itself and the W - 1 tokens before.

    reverse: tokens are read from the last to the first. Sums are float32 or better.

    Shape: x (B, L, n), weight (n, 1, W), bias (n) -> (B, L, n), in x's dtype.
    """
    if kernel := find_kernel("causal_conv_silu", backend, x, weight, bias):
        return kernel(x, weight, bias, reverse=reverse)
    length, taps = x.shape[1], weight.shape[2]
    padded = F.pad(wide(x), (0, 0, 0, taps - 1) if reverse else (0, 0, taps - 1, 0))
    weight, out = wide(weight), wide(bias).expand(x.shape)
    for tap in range(taps):
        start = taps - 1 - tap if reverse else tap
        out = torch.addcmul(out, padded[:, start : start + length], weight[:, 0, tap])
    return F.silu(out).to(x.dtype)


def mix_fours(x: Tensor, mix: Tensor) -> Tensor:
    """Multiply every four channels by a 4 x 4 matrix of their own.

    Products of 4 x 4 are too small to be fast, so up to four matrices are multiplied as one, with zeros between them.
    Shape: x (B, L, n), mix (n / 4, 4 out, 4 in) -> (B, L, n).
    """
    group = math.gcd(4, len(mix))
    diagonal = torch.eye(group, device=mix.device, dtype=mix.dtype)
    weight = torch.einsum("ngoi,gh->ngohi", mix.unflatten(0, (-1, group)), diagonal).reshape(-1, 4 * group, 4 * group)
    return torch.einsum("blni,noi->blno", x.unflatten(-1, (-1, 4 * group)), weight.to(x.dtype)).flatten(-2)


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
    """The three inputs of an mLSTM: c = causal_conv_silu(x), v = mix x, gates = c gate_c^T + x gate_x^T.

    Shape: x (B, L, n), weight (n, 1, W), bias (n), mix (n / 4, 4 out, 4 in), gate_c and gate_x (G, n)
    -> c and v (B, L, n) in x's dtype, gates (B, L, G) in float32 or better.
    """
    if kernel := find_kernel("conv_mix_gates", backend, x, weight, bias, mix, gate_c, gate_x):
        return kernel(x, weight, bias, mix, gate_c, gate_x, reverse=reverse)
    c = causal_conv_silu(x, weight, bias, reverse=reverse, backend="torch")
    gates = F.linear(c, gate_c.to(c.dtype)) + F.linear(x, gate_x.to(x.dtype))
    return c, mix_fours(x, mix), wide(gates)
