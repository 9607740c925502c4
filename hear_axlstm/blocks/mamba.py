"""The SSAM block (Yadav and Tan, 2024): x + mixer(norm(x)), a Mamba mixer in one direction or, "Vim", in both."""

import math

import torch
from torch import Tensor, nn

from hear_axlstm.blocks import AddNorm
from hear_axlstm.config import SSAMConfig
from hear_axlstm.ops.backend import Backend
from hear_axlstm.ops.conv import causal_conv_silu
from hear_axlstm.ops.scan import gated_scan

DT_MIN, DT_MAX, DT_FLOOR = 1e-3, 1e-1, 1e-4


class Scan(nn.Module):
    """Convolution, input-dependent step, selective scan and gate in one direction. Shape: x and z (B, L, n) -> (B, L, n)."""

    def __init__(self, config: SSAMConfig, *, reverse: bool = False) -> None:
        super().__init__()
        inner, rank = config.expansion * config.width, math.ceil(config.width / 16)
        self.reverse, self.sizes = reverse, [rank, config.state, config.state]
        self.conv = nn.Conv1d(inner, inner, kernel_size=4, groups=inner)
        self.x_proj = nn.Linear(inner, sum(self.sizes), bias=False)
        self.dt_proj = nn.Linear(rank, inner, bias=False)
        self.dt_bias = nn.Parameter(torch.empty(inner))  # added in float32: float16 would move a step of 0.001 by 0.2 %
        self.A_log = nn.Parameter(torch.empty(inner, config.state))
        self.D = nn.Parameter(torch.ones(inner))

    def reset(self) -> None:
        """Draw the papers' initial values: step sizes are log-uniform between DT_MIN and DT_MAX."""
        bound = self.dt_proj.in_features**-0.5
        nn.init.uniform_(self.dt_proj.weight, -bound, bound)
        dt = torch.empty_like(self.dt_bias).uniform_(math.log(DT_MIN), math.log(DT_MAX)).exp().clamp(min=DT_FLOOR)
        self.dt_bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # whose softplus is dt
        self.A_log.copy_(torch.arange(1.0, self.A_log.shape[1] + 1).log().expand_as(self.A_log))

    def forward(self, x: Tensor, z: Tensor, backend: Backend) -> Tensor:
        weight, bias = self.conv.weight, self.conv.bias
        c = causal_conv_silu(x, weight, bias, reverse=self.reverse, backend=backend)  # type: ignore[arg-type]
        dt, b, c_out = self.x_proj(c).split(self.sizes, dim=-1)
        operands = c, self.dt_proj(dt), self.dt_bias, -self.A_log.exp(), b, c_out, self.D, z
        return gated_scan(*operands, reverse=self.reverse, backend=backend)


class MambaBlock(nn.Module):
    """A scan from the first token to the last, averaged with one from the last to the first in a bidirectional encoder."""

    def __init__(self, config: SSAMConfig, index: int) -> None:
        super().__init__()
        inner, self.depth = config.expansion * config.width, config.depth
        self.norm = AddNorm(config.width, eps=1e-6)
        self.in_proj = nn.Linear(config.width, 2 * inner, bias=False)
        self.scan = Scan(config)
        self.reverse_scan = Scan(config, reverse=True) if config.bidirectional else None
        self.out_proj = nn.Linear(inner, config.width, bias=False)

    def reset(self) -> None:
        """Draw the papers' initial values."""
        nn.init.kaiming_uniform_(self.out_proj.weight, a=math.sqrt(5))
        self.out_proj.weight /= math.sqrt(self.depth)

    def forward(self, x: Tensor, update: Tensor | None = None, backend: Backend = "auto") -> tuple[Tensor, Tensor]:
        x, normed = self.norm(x, update, self.in_proj.weight, backend)
        u, z = self.in_proj(normed).chunk(2, dim=-1)
        y = self.scan(u, z, backend)
        if self.reverse_scan is not None:
            y = (y + self.reverse_scan(u, z, backend)) / 2
        return x, self.out_proj(y)
