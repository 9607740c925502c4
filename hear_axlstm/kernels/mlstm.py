"""The mLSTM cell: matrix memory with exponential gating (Beck et al., xLSTM, 2024; AxLSTM eqs. 1-9)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hear_axlstm.kernels import wide

EPS = 1e-6  # added to the normaliser
QUERY_BLOCK = 128  # queries whose weights are held at once; the keys after them are left out


def parallel_mlstm(q: Tensor, k: Tensor, v: Tensor, log_i: Tensor, log_f: Tensor) -> Tensor:
    """All tokens at once, as gated causal attention. Quadratic in L; values are those of ``recurrent_mlstm``.

    With F = cumsum(log f), token s weighs exp(F_t - F_s + log i_s) for token t. Write a_s = log i_s - F_s: the largest
    exponent of a row is m_t = F_t + max_{s<=t} a_s, so after stabilising only exp(a_s - cummax(a)_t) is left.

    Shape: q, k, v (B, H, L, K), log_i and log_f (B, H, L) -> (B, H, L, K), float32 or float64.
    """
    cumulative_f = wide(log_f).cumsum(-1)
    a = wide(log_i) - cumulative_f
    row_max = a.cummax(-1).values
    # Scores are divided by scale = sqrt(K); numerator and normaliser are both multiplied by it instead.
    scale = math.sqrt(q.shape[-1])
    least = scale * (-cumulative_f - row_max).exp()  # scale * exp(-m)
    outputs = []
    for start in range(0, q.shape[2], QUERY_BLOCK):
        rows = slice(start, min(start + QUERY_BLOCK, q.shape[2]))
        seen = slice(0, rows.stop)
        exponent = a[..., None, seen] - row_max[..., rows, None]  # (B, H, t, s), not positive where s <= t
        decay = exponent.masked_fill_(_later(rows, a.device), -math.inf).exp_()
        weights = wide(q[:, :, rows] @ k[:, :, seen].mT) * decay
        normaliser = weights.sum(-1).abs().maximum(least[..., rows]) + scale * EPS
        outputs.append(wide(weights.to(v.dtype) @ v[:, :, seen]) / normaliser.unsqueeze(-1))
    return torch.cat(outputs, dim=2)


def _later(rows: slice, device: torch.device) -> Tensor:
    """True where key s comes after query t, (t, s), for the queries ``rows`` and the keys up to the last of them."""
    position = torch.arange(rows.stop, device=device)
    return position > position[rows, None]


def recurrent_mlstm(q: Tensor, k: Tensor, v: Tensor, log_i: Tensor, log_f: Tensor) -> Tensor:
    """The same, one token after the other, as the equations are written: the reference. Slow.

    C_t = f C_{t-1} + i v k^T, n_t = f n_{t-1} + i k, h_t = C_t q / max(|n_t . q|, 1), all scaled by exp(-m_t), with
    m_t = max(log f + m_{t-1}, log i).
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
