"""The operations as torch.export records them: in few nodes, which ONNX has as well, and without a size that is data.

The plain bodies in ``ops`` save memory by blocks of queries, by writing in place, and by loops over tokens: recorded, each
becomes hundreds of nodes. What is not here is recorded as it stands there. All sums are float32 or better.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._higher_order_ops.scan import scan

from hear_axlstm.config import InputGate
from hear_axlstm.ops import wide
from hear_axlstm.ops.conv import mix_fours
from hear_axlstm.ops.mlstm import EPS, NORM_EPS


def causal_conv_silu(x: Tensor, weight: Tensor, bias: Tensor, *, reverse: bool = False) -> Tensor:
    """The operation of ``ops.conv`` as a depthwise convolution: one node for all taps."""
    others = weight.shape[2] - 1
    padded = F.pad(wide(x).mT, (0, others) if reverse else (others, 0))
    taps = wide(weight).flip(2) if reverse else wide(weight)
    return F.silu(F.conv1d(padded, taps, wide(bias), groups=len(weight)).mT).to(x.dtype)


def gated_mlstm(*operands: Tensor, input_gate: InputGate = "exp", reverse: bool = False) -> Tensor:
    """The operation of ``ops.mlstm`` with all queries at once: weights of all tokens for all tokens are held, (B, H, L, L).

    exp(a_s - cummax(a)_t) of that module needs the running maximum, which ONNX has not: it is the largest of a row here.
    """
    c, v, z, gates, mix, norm_weight, skip = operands
    with torch.autocast(c.device.type, enabled=False):
        kind, (c, v, z, mix) = c.dtype, map(wide, (c, v, z, mix))
        log_i, log_f = wide(gates).mT.chunk(2, dim=1)  # (B, H, L) each
        if input_gate == "sigmoid":
            log_i = F.logsigmoid(log_i)
        heads, length = log_i.shape[1:]
        log_f = F.logsigmoid(log_f)
        cumulative_f = log_f.flip(-1).cumsum(-1).flip(-1) if reverse else log_f.cumsum(-1)
        index = torch.arange(length, device=c.device)
        unseen = index < index[:, None] if reverse else index > index[:, None]  # (query, key)
        a = (log_i - cumulative_f).unsqueeze(-2).masked_fill(unseen, -math.inf)  # (B, H, L, L)
        row_max = a.amax(-1, keepdim=True)
        q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (mix_fours(c, mix), c, v))  # (B, H, L, K)
        weights = q @ k.mT * (a - row_max).exp()
        scale = math.sqrt(q.shape[-1])
        least = scale * (-cumulative_f.unsqueeze(-1) - row_max).exp()
        h = weights @ v / (weights.sum(-1, keepdim=True).abs().maximum(least) + scale * EPS)
        h = F.layer_norm(h, h.shape[-1:], eps=NORM_EPS).transpose(1, 2).flatten(2) * norm_weight
        return ((h + skip * c) * F.silu(z)).to(kind)


def selective_scan(drive: Tensor, delta: Tensor, b: Tensor, c: Tensor, a: Tensor) -> Tensor:
    """The operation of ``ops.scan`` as one node for all tokens, with a body for one.

    The rates ``a`` travel beside the state, because a body may read nothing else.
    """

    def step(carry: tuple[Tensor, Tensor], token: tuple[Tensor, ...]) -> tuple[tuple[Tensor, Tensor], Tensor]:
        (state, rates), (drive_t, delta_t, b_t, c_t) = carry, token
        decay = (delta_t.unsqueeze(-1) * rates).exp()
        state = decay * state + drive_t.unsqueeze(-1) * b_t.unsqueeze(-2)
        return (state, rates.clone()), (state * c_t.unsqueeze(-2)).sum(-1)

    start = drive.new_zeros(*drive.shape[1:], a.shape[1])
    y: Tensor = scan(step, (start, a.clone()), (drive, delta, b, c))[1]
    return y


FORMS = {form.__name__: form for form in (causal_conv_silu, gated_mlstm, selective_scan)}


def find(operation: str) -> Callable[..., Any] | None:
    """The form of an operation, or None where its plain body is recorded."""
    return FORMS.get(operation)
