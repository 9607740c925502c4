"""The mLSTM in plain torch: any device and dtype, differentiable."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from hear_axlstm.config import InputGate
from hear_axlstm.kernels.conv.eager import eager_mix
from hear_axlstm.ops import wide

EPS = 1e-6  # added to the normaliser
NORM_EPS = 1e-5
QUERY_BLOCK = 128  # queries whose weights are held at once; the keys after them are left out


def eager_gated_mlstm(
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
    log_i, log_f = wide(gates).mT.chunk(2, dim=1)  # (B, H, L) each
    heads = log_i.shape[1]
    if input_gate == "sigmoid":
        log_i = F.logsigmoid(log_i)
    enlarge = power_of_two(mix, heads)
    q = eager_mix(c, mix * enlarge.repeat_interleave(len(mix) // heads)[:, None, None])
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, c, v))  # (B, H, L, K)
    h = parallel_mlstm(q, k, v, log_i, F.logsigmoid(log_f), enlarged=enlarge[:, None], reverse=reverse)
    h = F.layer_norm(h, h.shape[-1:], eps=NORM_EPS).transpose(1, 2).flatten(2) * norm_weight
    return ((h + skip * c) * F.silu(z)).to(c.dtype)


def power_of_two(mix: Tensor, heads: int) -> Tensor:
    """What to multiply each head's mix by so that its largest entry is in [0.5, 1): tiny ones would be lost in float16.

    Shape: (n / 4, 4, 4) -> (H).
    """
    largest = mix.detach().view(heads, -1).abs().amax(1).clamp(min=2.0**-60)
    return torch.ldexp(torch.ones_like(largest), -torch.frexp(largest).exponent)


def parallel_mlstm(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_i: Tensor,
    log_f: Tensor,
    *,
    enlarged: float | Tensor = 1.0,
    reverse: bool = False,
) -> Tensor:
    """All tokens at once, as gated causal attention. Quadratic in L; values are those of ``recurrent_mlstm``.

    With F = cumsum(log f), token s weighs exp(F_t - F_s + log i_s) for token t. Write a_s = log i_s - F_s: the largest
    exponent of a row is m_t = F_t + max_{s<=t} a_s, so after stabilising only exp(a_s - cummax(a)_t) is left.

    enlarged: q is so many times as large as it should be.

    Shape: q, k, v (B, H, L, K), log_i and log_f (B, H, L), enlarged (H, 1) -> (B, H, L, K), float32 or float64.
    """
    a, row_max, least = stabilised(log_i, log_f, reverse=reverse)
    # Scores are divided by scale = sqrt(K); numerator and normaliser are both multiplied by it instead.
    length, scale = q.shape[2], math.sqrt(q.shape[-1]) * enlarged
    outputs = []
    for start in range(0, length, QUERY_BLOCK):
        rows = slice(start, min(start + QUERY_BLOCK, length))
        seen = slice(rows.start, length) if reverse else slice(0, rows.stop)
        exponent = a[..., None, seen] - row_max[..., rows, None]  # (B, H, t, s), not positive where s <= t
        hidden = _hidden(rows, seen, reverse, a.device)
        decay = exponent.masked_fill_(hidden, -math.inf).exp_()
        weights = wide(q[:, :, rows] @ k[:, :, seen].mT) * decay
        normaliser = weights.sum(-1).abs().maximum(scale * least[..., rows]) + scale * EPS
        outputs.append(wide(weights.to(v.dtype) @ v[:, :, seen]) / normaliser.unsqueeze(-1))
    return torch.cat(outputs, dim=2)


def stabilised(log_i: Tensor, log_f: Tensor, *, reverse: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """a = log i - cumsum(log f), its running maximum, and exp(-m): all that is left of the gates. Shape: (B, H, L) each."""
    if reverse:
        a, row_max, least = (x.flip(-1) for x in stabilised(log_i.flip(-1), log_f.flip(-1)))
        return a, row_max, least
    cumulative_f = wide(log_f).cumsum(-1)
    a = wide(log_i) - cumulative_f
    row_max = a.cummax(-1).values
    return a, row_max, (-cumulative_f - row_max).exp()


def _hidden(rows: slice, seen: slice, reverse: bool, device: torch.device) -> Tensor:
    """True where query t, of ``rows``, is read before key s, of ``seen``. Shape: (t, s)."""
    query = torch.arange(rows.start, rows.stop, device=device)[:, None]
    key = torch.arange(seen.start, seen.stop, device=device)
    return key < query if reverse else key > query
