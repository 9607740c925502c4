"""The operations as their equations are written, one token after the other: what all others are tested against. Slow."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from hear_axlstm.config import InputGate
from hear_axlstm.ops import wide

EPS = 1e-6  # added to the mLSTM's normaliser


def reference_conv_silu(x: Tensor, weight: Tensor, bias: Tensor, *, reverse: bool = False) -> Tensor:
    """c_t = SiLU(bias + sum_j weight_j x_{t - (W - 1) + j}), tokens before the first being zero."""
    if reverse:
        return reference_conv_silu(x.flip(1), weight, bias).flip(1)
    taps = weight.shape[2]
    outputs = []
    for t in range(x.shape[1]):
        total = bias.expand(x.shape[0], -1)
        for j in range(taps):
            source = t - (taps - 1) + j
            if source >= 0:
                total = total + weight[:, 0, j] * x[:, source]
        outputs.append(total * torch.sigmoid(total))
    return torch.stack(outputs, dim=1)


def reference_mix(x: Tensor, mix: Tensor) -> Tensor:
    """Every four channels by a 4 x 4 matrix of their own. Shape: x (B, L, n), mix (n / 4, 4 out, 4 in) -> (B, L, n)."""
    return torch.einsum("blgi,goi->blgo", x.unflatten(-1, (-1, 4)), mix).flatten(-2)


def reference_conv_mix_gates(
    x: Tensor, weight: Tensor, bias: Tensor, mix: Tensor, gate_c: Tensor, gate_x: Tensor, *, reverse: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """c = SiLU(conv(x)); v = mix x; gates = c gate_c^T + x gate_x^T."""
    c = reference_conv_silu(x, weight, bias, reverse=reverse)
    return c, reference_mix(x, mix), c @ gate_c.T + x @ gate_x.T


def recurrent_mlstm(q: Tensor, k: Tensor, v: Tensor, log_i: Tensor, log_f: Tensor) -> Tensor:
    """C_t = f C_{t-1} + i v k^T, n_t = f n_{t-1} + i k, h_t = C_t q / max(|n_t . q|, 1), all scaled by exp(-m_t), with
    m_t = max(log f + m_{t-1}, log i).

    Shape: q, k, v (B, H, L, K), log_i and log_f (B, H, L) -> (B, H, L, K), float32 or float64.
    """
    q, k, v, log_i, log_f = (wide(x) for x in (q, k, v, log_i, log_f))
    k = k / math.sqrt(k.shape[-1])
    memory = q.new_zeros(*q.shape[:2], v.shape[-1], k.shape[-1])
    normal = q.new_zeros(*q.shape[:2], k.shape[-1])
    m = q.new_full(q.shape[:2], -math.inf)
    steps = []
    for t in range(q.shape[2]):
        m_next = torch.maximum(log_f[..., t] + m, log_i[..., t])
        forget = (log_f[..., t] + m - m_next).exp()[..., None]
        insert = (log_i[..., t] - m_next).exp()[..., None]
        m = m_next
        memory = forget[..., None] * memory + insert[..., None] * v[:, :, t, :, None] * k[:, :, t, None, :]
        normal = forget * normal + insert * k[:, :, t]
        read = (memory @ q[:, :, t, :, None]).squeeze(-1)
        scale = (normal * q[:, :, t]).sum(-1).abs().maximum((-m).exp()) + EPS
        steps.append(read / scale[..., None])
    return torch.stack(steps, dim=2)


def reference_gated_mlstm(
    c: Tensor,
    v: Tensor,
    z: Tensor,
    gates: Tensor,
    mix: Tensor,
    norm_weight: Tensor,
    skip: Tensor,
    *,
    input_gate: InputGate = "exp",
    reverse: bool = False,
) -> Tensor:
    """The recurrence of each head on q = mix c, k = c and v; layer norm of each head; + skip c; times SiLU(z)."""
    if reverse:
        c, v, z, gates = (x.flip(1) for x in (c, v, z, gates))
        y = reference_gated_mlstm(c, v, z, gates, mix, norm_weight, skip, input_gate=input_gate)
        return y.flip(1)
    log_i, log_f = gates.mT.chunk(2, dim=1)
    if input_gate == "sigmoid":
        log_i = F.logsigmoid(log_i)
    q = torch.einsum("blgi,goi->blgo", c.unflatten(-1, (-1, 4)), mix).flatten(-2)
    q, k, v = (x.unflatten(-1, (log_i.shape[1], -1)).transpose(1, 2) for x in (q, c, v))
    h = recurrent_mlstm(q, k, v, log_i, F.logsigmoid(log_f))
    h = (h - h.mean(-1, keepdim=True)) / (h.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    return (h.transpose(1, 2).flatten(2) * norm_weight + skip * c) * z * torch.sigmoid(z)


def reference_scan(x: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """state_t = exp(delta_t A) state_{t-1} + delta_t B_t x_t; y_t = C_t . state_t + D x_t."""
    state = x.new_zeros(x.shape[0], x.shape[2], a.shape[1])
    outputs = []
    for t in range(x.shape[1]):
        step = delta[:, t, :, None]
        state = (step * a).exp() * state + step * b[:, t, None, :] * x[:, t, :, None]
        outputs.append((state * c[:, t, None, :]).sum(-1) + d * x[:, t])
    return torch.stack(outputs, dim=1)


def reference_gated_scan(
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
) -> Tensor:
    """The scan with delta = softplus(step + step_bias), times SiLU(z)."""
    if reverse:
        flipped = (None if t is None else t.flip(1) for t in (x, step, b, c, z))
        x, step, b, c, z = flipped  # type: ignore[assignment]
        return reference_gated_scan(x, step, step_bias, a, b, c, d, z).flip(1)
    y = reference_scan(x, F.softplus(step + step_bias), a, b, c, d)
    return y if z is None else y * z * torch.sigmoid(z)


def reference_add_norm(
    x: Tensor, update: Tensor | None, weight: Tensor, bias: Tensor | None, *, eps: float
) -> tuple[Tensor, Tensor]:
    """r = x + update; (r - mean(r)) / sqrt(var(r) + eps) * weight + bias, over the channels."""
    total = x if update is None else x + update
    mean = total.mean(-1, keepdim=True)
    variance = ((total - mean) ** 2).mean(-1, keepdim=True)
    normed = (total - mean) / (variance + eps) ** 0.5 * weight
    return total, normed if bias is None else normed + bias
