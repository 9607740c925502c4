"""The equations, one token after the other: what the other implementations are tested against. Slow."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from hear_axlstm.config import InputGate
from hear_axlstm.ops import wide

EPS = 1e-6  # added to the normaliser


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
