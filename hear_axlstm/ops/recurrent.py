"""The mLSTM and the selective scan of tokens that come a few at a time, after a state that holds all before them."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from hear_axlstm.config import InputGate
from hear_axlstm.ops import wide
from hear_axlstm.ops.backend import Backend, find_kernel
from hear_axlstm.ops.conv import mix_fours
from hear_axlstm.ops.mlstm import EPS, NORM_EPS


def recurrent_mlstm(
    c: Tensor,
    v: Tensor,
    z: Tensor,
    gates: Tensor,
    mix: Tensor,
    norm_weight: Tensor,
    skip: Tensor,
    memory: Tensor,
    normal: Tensor,
    m: Tensor,
    places: Tensor | None = None,
    *,
    input_gate: InputGate = "exp",
    backend: Backend = "auto",
) -> Tensor:
    """``ops.mlstm.gated_mlstm`` of the next L tokens of S streams, whose states move on in place. No gradients.

    memory, normal and m: the states of P streams, as ``chunkwise_mlstm`` has them. places: those of these S streams, each
    once; all of them, in order, if None.

    Shape: c, v and z (S, L, n), gates (S, L, 2 H), mix (n / 4, 4 out, 4 in), norm_weight and skip (n), memory (P, H, K, K),
    normal (P, H, K), m (P, H), places (S,) -> (S, L, n), in c's dtype. All between is float32 or better, as the states are.
    """
    if kernel := find_kernel("recurrent_mlstm", backend, c, v, z, gates, mix, norm_weight, skip, memory, normal, m):
        return kernel(c, v, z, gates, mix, norm_weight, skip, memory, normal, m, places, input_gate=input_gate)
    with torch.autocast(c.device.type, enabled=False):
        log_i, log_f = wide(gates).mT.chunk(2, dim=1)  # (S, H, L) each
        if input_gate == "sigmoid":
            log_i = F.logsigmoid(log_i)
        q, k, v = mix_fours(wide(c), wide(mix)), wide(c), wide(v)
        q, k, v = (x.unflatten(-1, (log_i.shape[1], -1)).transpose(1, 2) for x in (q, k, v))  # (S, H, L, K)
        state = (at_places(x, places) for x in (memory, normal, m))
        h, *after = chunkwise_mlstm(q, k, v, log_i, F.logsigmoid(log_f), *state)
        for x, value in zip((memory, normal, m), after, strict=True):
            put_at_places(x, places, value)
        h = F.layer_norm(h, h.shape[-1:], eps=NORM_EPS).transpose(1, 2).flatten(2) * norm_weight
        return ((h + skip * c) * F.silu(wide(z))).to(c.dtype)


def chunkwise_mlstm(
    q: Tensor, k: Tensor, v: Tensor, log_i: Tensor, log_f: Tensor, memory: Tensor, normal: Tensor, m: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The mLSTM of L tokens and its state after them: ``ops.mlstm.parallel_mlstm`` with a decaying memory of the past.

    With F = cumsum(log f) over these tokens, token s weighs exp(F_t - F_s + log i_s) for token t, the state before all of
    them exp(F_t + m). Write a_s = log i_s - F_s: the largest exponent of a row is m_t = F_t + max(m, max_{s<=t} a_s). The
    state is memory = sum_s w_s k_s v_s^T, normal = sum_s w_s k_s and m, w_s the weights for the last token over exp(m).
    Before the first token of a stream it is 0, 0 and -inf.

    Shape: q, k and v (S, H, L, K), log_i and log_f (S, H, L), memory (S, H, K, K), normal (S, H, K), m (S, H)
    -> (S, H, L, K), and the state as it was given. All float32 or float64.
    """
    cumulative_f = log_f.cumsum(-1)
    a = log_i - cumulative_f
    row_max = a.cummax(-1).values.maximum(m[..., None])
    carried = (m[..., None] - row_max).exp()  # the weight of the state, for each token
    unseen = torch.ones(*q.shape[-2:-1], q.shape[-2], dtype=torch.bool, device=q.device).triu(1)
    decay = (a[..., None, :] - row_max[..., None]).masked_fill(unseen, -math.inf).exp()
    weights = q @ k.mT * decay  # (S, H, t, s)
    # Scores are divided by scale = sqrt(K); numerator and normaliser are both multiplied by it instead.
    scale = math.sqrt(q.shape[-1])
    total = weights.sum(-1) + carried * (q @ normal[..., None]).squeeze(-1)
    normaliser = total.abs().maximum(scale * (-cumulative_f - row_max).exp()) + scale * EPS
    h = (weights @ v + carried[..., None] * (q @ memory)) / normaliser[..., None]
    kept, weighted = carried[..., -1:], decay[..., -1, :, None] * k
    memory = torch.addcmul(weighted.mT @ v, kept[..., None], memory)
    return h, memory, kept * normal + weighted.sum(-2), cumulative_f[..., -1] + row_max[..., -1]


def recurrent_scan(
    x: Tensor,
    step: Tensor,
    step_bias: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor,
    z: Tensor,
    state: Tensor,
    places: Tensor | None = None,
    *,
    backend: Backend = "auto",
) -> Tensor:
    """``ops.scan.gated_scan`` of the next L tokens of S streams, whose states move on in place. No gradients.

    state: of P streams, 0 before their first token. places: those of these S streams, each once; all of them, in order, if
    None.

    Shape: x, step and z (S, L, n), step_bias and d (n), a (n, N) negative, b and c (S, L, N), state (P, N, n), places (S,)
    -> (S, L, n), in x's dtype. Steps, states and sums are float32 or better.
    """
    if kernel := find_kernel("recurrent_scan", backend, x, step, step_bias, a, b, c, d, z, state):
        return kernel(x, step, step_bias, a, b, c, d, z, state, places)
    with torch.autocast(x.device.type, enabled=False):
        delta, rates, y = F.softplus(wide(step) + step_bias), a.mT, []
        now, drive, b, c = at_places(state, places), delta * x, wide(b), wide(c)
        for t in range(x.shape[1]):
            decay = (delta[:, t, None] * rates).exp()
            now = torch.addcmul(b[:, t, :, None] * drive[:, t, None], decay, now)
            y.append(c[:, t, None] @ now)
        put_at_places(state, places, now)
        return ((torch.cat(y, dim=1) + d * x) * F.silu(wide(z))).to(x.dtype)


def at_places(state: Tensor, places: Tensor | None) -> Tensor:
    """The states of some places, all of them if None. Shape: (P, ...) -> (S, ...)."""
    return state if places is None else state[places]


def put_at_places(state: Tensor, places: Tensor | None, values: Tensor) -> None:
    """Replace what ``at_places`` returned."""
    if places is None:
        state.copy_(values)
    else:
        state[places] = values.to(state.dtype)
