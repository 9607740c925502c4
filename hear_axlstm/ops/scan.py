"""The selective scan of Mamba (Gu and Dao, 2023, algorithm 2) with the softplus of its step, its skip and its gate."""

import torch
import torch.nn.functional as F
from torch import Tensor

from hear_axlstm.ops import wide
from hear_axlstm.ops.backend import Backend, find_kernel


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

    reverse: tokens are read from the last to the first. Steps, states and sums are float32 or better.

    Shape: x, step and z (B, L, n), step_bias and d (n), a (n, N) negative, b and c (B, L, N) -> (B, L, n), in x's dtype.
    """
    if kernel := find_kernel("gated_scan", backend, x, step, step_bias, a, b, c, d, z):
        return kernel(x, step, step_bias, a, b, c, d, z, reverse=reverse)
    with torch.autocast(x.device.type, enabled=False):
        delta = F.softplus(wide(step) + step_bias)
        operands = delta * x, delta, wide(b), wide(c)
        drive, delta, b, c = ((t.flip(1) if reverse else t).transpose(0, 1) for t in operands)
        y = selective_scan(drive, delta, b, c, a).transpose(0, 1)
        y = (y.flip(1) if reverse else y) + d * x
        return (y if z is None else y * F.silu(z)).to(x.dtype)


def selective_scan(drive: Tensor, delta: Tensor, b: Tensor, c: Tensor, a: Tensor) -> Tensor:
    """y_t = C_t . state_t, state_t = exp(delta_t A) state_{t-1} + drive_t B_t, tokens first.

    Shape: drive and delta (L, B, n), b and c (L, B, N), a (n, N) -> (L, B, n). All in one dtype, float32 or float64.
    """
    if kernel := find_kernel("selective_scan", "torch", drive, delta, b, c, a):
        return kernel(drive, delta, b, c, a)
    state, y = drive.new_zeros(*drive.shape[1:], a.shape[1]), []
    for drive_t, delta_t, b_t, c_t in zip(drive, delta, b, c, strict=True):
        decay = (delta_t.unsqueeze(-1) * a).exp()
        state = torch.addcmul(drive_t.unsqueeze(-1) * b_t.unsqueeze(-2), decay, state)
        y.append((state @ c_t.unsqueeze(-1)).squeeze(-1))
    return torch.stack(y)
