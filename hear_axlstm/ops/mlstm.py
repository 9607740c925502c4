"""The mLSTM (Beck et al., xLSTM, 2024), from its convolution to its projection down."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from hear_axlstm.config import InputGate
from hear_axlstm.ops import wide
from hear_axlstm.ops.backend import Backend, find_kernel
from hear_axlstm.ops.conv import mix_fours

EPS = 1e-6  # added to the normaliser
NORM_EPS = 1e-5
QUERY_BLOCK = 128  # queries whose weights are held at once; keys after them are left out


def fold(q: Tensor, k: Tensor, v: Tensor, gates: Tensor, *, backend: Backend = "auto") -> tuple[Tensor, Tensor, Tensor]:
    """Weights that read c and x in place of q, k and v: k . q = c . (Wk^T Wq) c, and gates linear in q, k, v are so in c, x.

    Shape: q, k and v (n / 4, 4 out, 4 in), gates (2 H, 3 n), of q, k and v side by side -> Wk^T Wq (n / 4, 4, 4), and the
    gates' weights for c, the convolution's output, and x, its input, (2 H, n) each. All float32 or better.
    """
    if kernel := find_kernel("fold", backend, q, k, v, gates):
        return kernel(q, k, v, gates)
    with torch.autocast(q.device.type, enabled=False):
        blocks = wide(torch.stack([q, k, v]))  # (3, n / 4, 4, 4)
        of_q, of_k, of_v = torch.einsum("hpgo,pgoi->phgi", wide(gates).unflatten(1, (3, -1, 4)), blocks).flatten(2)
        return blocks[1].mT @ blocks[0], of_q + of_k, of_v


def gated_mlstm(
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
    backend: Backend = "auto",
) -> Tensor:
    """(norm(mLSTM(q, k, v)) * norm_weight + skip * c) * SiLU(z), for each of H heads of K = n / H channels.

    Keys are c and queries are mix c: projections Wq and Wk only meet in k . q, so mix is Wk^T Wq. The norm is a layer norm
    over a head's channels. gates: pre-activations of the input gates of all heads, then of their forget gates.
    reverse: tokens are read from the last to the first.

    Shape: c, v and z (B, L, n), gates (B, L, 2 H), mix (n / 4, 4 out, 4 in), norm_weight and skip (n) -> (B, L, n), in c's
    dtype. Gates, normalisers and norms are float32 or better.
    """
    if kernel := find_kernel("gated_mlstm", backend, c, v, z, gates, mix, norm_weight, skip):
        return kernel(c, v, z, gates, mix, norm_weight, skip, input_gate=input_gate, reverse=reverse)
    log_i, log_f = wide(gates).mT.chunk(2, dim=1)  # (B, H, L) each
    heads = log_i.shape[1]
    if input_gate == "sigmoid":
        log_i = F.logsigmoid(log_i)
    scale = power_of_two(mix, heads)  # mix may be too small for float16
    q = mix_fours(c, mix * scale.repeat_interleave(len(mix) // heads)[:, None, None])
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, c, v))  # (B, H, L, K)
    h = parallel_mlstm(q, k, v, log_i, F.logsigmoid(log_f), q_scale=scale[:, None], reverse=reverse)
    h = F.layer_norm(h, h.shape[-1:], eps=NORM_EPS).transpose(1, 2).flatten(2) * norm_weight
    return ((h + skip * c) * F.silu(z)).to(c.dtype)


def parallel_mlstm(
    q: Tensor, k: Tensor, v: Tensor, log_i: Tensor, log_f: Tensor, *, q_scale: float | Tensor = 1.0, reverse: bool = False
) -> Tensor:
    """All tokens at once, as gated causal attention: quadratic in L, equal to the recurrence of equations 1 to 9.

    With F = cumsum(log f), token s weighs exp(F_t - F_s + log i_s) for token t. Write a_s = log i_s - F_s: the largest
    exponent of a row is m_t = F_t + max_{s<=t} a_s, so after stabilising only exp(a_s - cummax(a)_t) is left.

    q_scale: the factor by which q is too large. Shape: q, k, v (B, H, L, K), log_i and log_f (B, H, L),
    q_scale (H, 1) -> (B, H, L, K), float32 or float64.
    """
    flip = (lambda x: x.flip(-1)) if reverse else (lambda x: x)
    cumulative_f = flip(flip(wide(log_f)).cumsum(-1))
    a = wide(log_i) - cumulative_f
    row_max = flip(flip(a).cummax(-1).values)
    least = (-cumulative_f - row_max).exp()  # exp(-m)
    # Scores are divided by scale = sqrt(K); numerator and normaliser are both multiplied by it instead.
    length, scale = q.shape[2], math.sqrt(q.shape[-1]) * q_scale
    index = torch.arange(length, device=q.device)
    outputs = []
    for start in range(0, length, QUERY_BLOCK):
        rows = slice(start, min(start + QUERY_BLOCK, length))
        seen = slice(start, length) if reverse else slice(0, rows.stop)
        query, key = index[rows, None], index[seen]
        unseen = key < query if reverse else key > query
        decay = (a[..., None, seen] - row_max[..., rows, None]).masked_fill_(unseen, -math.inf).exp_()
        weights = wide(q[:, :, rows] @ k[:, :, seen].mT) * decay  # (B, H, t, s)
        normaliser = weights.sum(-1).abs().maximum(scale * least[..., rows]) + scale * EPS
        outputs.append(wide(weights.to(v.dtype) @ v[:, :, seen]) / normaliser.unsqueeze(-1))
    return torch.cat(outputs, dim=2)


def power_of_two(mix: Tensor, heads: int) -> Tensor:
    """The power of two that brings each head's largest entry of ``mix`` to [0.5, 1). Shape: (n / 4, 4, 4) -> (H)."""
    largest = mix.detach().view(heads, -1).abs().amax(1).clamp(min=2.0**-60)
    return torch.ldexp(torch.ones_like(largest), -torch.frexp(largest).exponent)
