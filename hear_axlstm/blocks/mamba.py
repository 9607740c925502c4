"""Residual stream (B, L, D) -> residual stream and what to add to it: the SSAM block, a Mamba mixer.

Yadav and Tan, 2024.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hear_axlstm.blocks.layers import (
    AddNorm,
    DepthwiseConv,
    Folding,
    GateLinear,
    KeepsFloat32,
    Linear,
    matching,
    product_dtype,
)
from hear_axlstm.config import SSAMConfig
from hear_axlstm.kernels.conv.op import causal_conv_silu
from hear_axlstm.kernels.scan.op import gated_scan
from hear_axlstm.ops.backend import Backend

DT_MIN, DT_MAX, DT_FLOOR = 1e-3, 1e-1, 1e-4


def dt_bias(inner: int) -> Tensor:
    """Biases whose softplus, the initial step size, is log-uniform between DT_MIN and DT_MAX."""
    log_dt = torch.empty(inner).uniform_(math.log(DT_MIN), math.log(DT_MAX))
    dt = log_dt.exp().clamp(min=DT_FLOOR)
    return dt + torch.log(-torch.expm1(-dt))


class Folded(NamedTuple):
    """A scan's parameters as it applies them."""

    a: Tensor  # (n, N), negative
    step_weight: Tensor  # (n, R), in the dtype of the other matrices


class Scan(KeepsFloat32, Folding):
    """Convolution, input-dependent step, selective scan, and gate, in one direction: what "Vim" has twice.

    reverse: the tokens are read backwards. Shape: x and z (B, L, n) -> (B, L, n).
    """

    def __init__(self, config: SSAMConfig, *, reverse: bool = False) -> None:
        super().__init__()
        inner = config.expansion * config.width
        self.reverse = reverse
        self.rank = math.ceil(config.width / 16)
        self.state = config.state
        self.conv1d = DepthwiseConv(inner)
        self.x_proj = Linear(inner, self.rank + 2 * config.state, bias=False)
        self.dt_proj = GateLinear(self.rank, inner)
        rates = torch.arange(1.0, config.state + 1, device="cpu").log()
        self.A_log = nn.Parameter(rates.repeat(inner, 1).to(self.conv1d.weight.device))
        self.D = nn.Parameter(torch.ones(inner))
        nn.init.uniform_(self.dt_proj.weight, -(self.rank**-0.5), self.rank**-0.5)
        if not self.dt_proj.bias.is_meta:
            with torch.no_grad():
                self.dt_proj.bias.copy_(dt_bias(inner))

    def fold(self) -> Folded:
        return Folded(-self.A_log.exp(), self.dt_proj.weight.to(self.x_proj.weight.dtype))

    def forward(self, x: Tensor, z: Tensor, backend: Backend) -> Tensor:
        folded, reverse = self.folded(), self.reverse
        c = causal_conv_silu(x, self.conv1d.weight, self.conv1d.bias, reverse=reverse, backend=backend)
        dt, b, c_out = self.x_proj(c).split([self.rank, self.state, self.state], dim=-1)
        step = F.linear(matching(dt, folded.step_weight), folded.step_weight)
        return gated_scan(c, step, self.dt_proj.bias, folded.a, b, c_out, self.D, z, reverse=reverse, backend=backend)


class MambaMixer(nn.Module):
    """in_proj -> (x, z); scan of x, gated by z; out_proj. Bidirectional: averaged with a second scan, from the end."""

    def __init__(self, config: SSAMConfig) -> None:
        super().__init__()
        inner = config.expansion * config.width
        self.in_proj = Linear(config.width, 2 * inner, bias=False)
        self.scan = Scan(config)
        self.reverse_scan = Scan(config, reverse=True) if config.bidirectional else None
        self.out_proj = Linear(inner, config.width, bias=False)
        nn.init.kaiming_uniform_(self.out_proj.weight, a=math.sqrt(5))
        with torch.no_grad():
            self.out_proj.weight /= math.sqrt(config.depth)

    def forward(self, x: Tensor, backend: Backend) -> Tensor:
        x, z = self.in_proj(x).chunk(2, dim=-1)
        y = self.scan(x, z, backend)
        if self.reverse_scan is not None:
            y = (y + self.reverse_scan(x, z, backend)) / 2
        return self.out_proj(y)


class MambaBlock(nn.Module):
    """x + mixer(norm(x)), whose sum the next block makes."""

    def __init__(self, config: SSAMConfig, index: int) -> None:
        super().__init__()
        self.norm = AddNorm(config.width, eps=1e-6)
        self.mixer = MambaMixer(config)

    def forward(self, x: Tensor, update: Tensor | None = None, backend: Backend = "auto") -> tuple[Tensor, Tensor]:
        x, normed = self.norm(x, update, dtype=product_dtype(self.mixer.in_proj.weight), backend=backend)
        return x, self.mixer(normed, backend)
