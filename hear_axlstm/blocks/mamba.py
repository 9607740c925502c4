"""Tokens (B, L, D) -> tokens (B, L, D): the SSAM block (Yadav and Tan, 2024), a Mamba mixer."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hear_axlstm.blocks.layers import DepthwiseConv, GateLinear, KeepsFloat32, LayerNorm, Linear
from hear_axlstm.config import SSAMConfig
from hear_axlstm.kernels import wide
from hear_axlstm.kernels.conv import causal_conv_silu
from hear_axlstm.kernels.mamba import selective_scan

DT_MIN, DT_MAX, DT_FLOOR = 1e-3, 1e-1, 1e-4


def dt_bias(inner: int) -> Tensor:
    """Biases whose softplus, the initial step size, is log-uniform between DT_MIN and DT_MAX."""
    log_dt = torch.empty(inner).uniform_(math.log(DT_MIN), math.log(DT_MAX))
    dt = log_dt.exp().clamp(min=DT_FLOOR)
    return dt + torch.log(-torch.expm1(-dt))


class Scan(KeepsFloat32):
    """Convolution, input-dependent step, and selective scan, in one direction: what "Vim" has twice.

    Shape: x (B, L, n) -> (B, L, n), before the gate.
    """

    def __init__(self, config: SSAMConfig) -> None:
        super().__init__()
        inner = config.expansion * config.width
        self.rank = math.ceil(config.width / 16)
        self.state = config.state
        self.conv1d = DepthwiseConv(inner)
        self.x_proj = Linear(inner, self.rank + 2 * config.state, bias=False)
        self.dt_proj = GateLinear(self.rank, inner)
        self.A_log = nn.Parameter(torch.arange(1.0, config.state + 1).log().repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        nn.init.uniform_(self.dt_proj.weight, -(self.rank**-0.5), self.rank**-0.5)
        with torch.no_grad():
            self.dt_proj.bias.copy_(dt_bias(inner))

    def forward(self, x: Tensor) -> Tensor:
        c = causal_conv_silu(x, self.conv1d.weight, self.conv1d.bias)
        dt, b, c_out = self.x_proj(c).split([self.rank, self.state, self.state], dim=-1)
        delta = F.softplus(self.dt_proj(dt))
        return selective_scan(wide(c), delta, -self.A_log.exp(), wide(b), wide(c_out), self.D)


class MambaMixer(nn.Module):
    """in_proj -> (x, z); scan of x, gated by z; out_proj. Bidirectional: a second scan from the end, averaged in."""

    def __init__(self, config: SSAMConfig) -> None:
        super().__init__()
        inner = config.expansion * config.width
        self.in_proj = Linear(config.width, 2 * inner, bias=False)
        self.scan = Scan(config)
        self.reverse_scan = Scan(config) if config.bidirectional else None
        self.out_proj = Linear(inner, config.width, bias=False)
        nn.init.kaiming_uniform_(self.out_proj.weight, a=math.sqrt(5))
        with torch.no_grad():
            self.out_proj.weight /= math.sqrt(config.depth)

    def forward(self, x: Tensor) -> Tensor:
        x, z = self.in_proj(x).chunk(2, dim=-1)
        y = self.scan(x)
        if self.reverse_scan is not None:
            y = (y + self.reverse_scan(x.flip(1)).flip(1)) / 2
        return self.out_proj(y * F.silu(z))


class MambaBlock(nn.Module):
    """x + mixer(norm(x))."""

    def __init__(self, config: SSAMConfig, index: int) -> None:
        super().__init__()
        self.norm = LayerNorm(config.width, eps=1e-6)
        self.mixer = MambaMixer(config)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mixer(self.norm(x))
