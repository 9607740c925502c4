"""Tokens (B, L, D) -> tokens (B, L, D): the AxLSTM block (Yadav et al., 2025, figure 1 right)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hear_axlstm.blocks.layers import BlockDiagonalLinear, DepthwiseConv, GateLinear, KeepsFloat32, Linear, OffsetNorm
from hear_axlstm.config import AxLSTMConfig, InputGate
from hear_axlstm.kernels.conv import causal_conv_silu
from hear_axlstm.kernels.mlstm import parallel_mlstm


class CausalConv(nn.Module):
    """Depthwise, four tokens wide, then SiLU. Shape: (B, L, n) -> (B, L, n)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = DepthwiseConv(width)

    def forward(self, x: Tensor) -> Tensor:
        return causal_conv_silu(x, self.conv.weight, self.conv.bias)


class MLSTMCell(nn.Module):
    """Gates from q, k and v together, the mLSTM of each head, and a norm over each head's output."""

    def __init__(self, width: int, heads: int, input_gate: InputGate) -> None:
        super().__init__()
        self.heads = heads
        self.input_gate = input_gate
        self.igate = GateLinear(3 * width, heads)
        self.fgate = GateLinear(3 * width, heads)
        self.outnorm = OffsetNorm(width, heads)
        nn.init.zeros_(self.igate.weight)
        nn.init.normal_(self.igate.bias, std=0.1)
        nn.init.zeros_(self.fgate.weight)
        with torch.no_grad():
            self.fgate.bias.copy_(torch.linspace(3.0, 6.0, heads))

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        qkv = torch.cat([q, k, v], dim=-1)
        log_i = self.igate(qkv).mT  # (B, H, L)
        if self.input_gate == "sigmoid":
            log_i = F.logsigmoid(log_i)
        log_f = F.logsigmoid(self.fgate(qkv).mT)
        q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (q, k, v))  # (B, H, L, K)
        return self.outnorm(parallel_mlstm(q, k, v, log_i, log_f).transpose(1, 2).flatten(2))


class MLSTMLayer(KeepsFloat32):
    """The inside of the residual. ``reverse``: the tokens, class token included, are read backwards."""

    def __init__(self, config: AxLSTMConfig, *, reverse: bool) -> None:
        super().__init__()
        inner = config.expansion * config.width
        small_std = math.sqrt(2 / (5 * config.width))
        self.reverse = reverse
        self.proj_up = Linear(config.width, 2 * inner, bias=False)
        self.conv1d = CausalConv(inner)
        self.q_proj = BlockDiagonalLinear(inner, small_std)
        self.k_proj = BlockDiagonalLinear(inner, small_std)
        self.v_proj = BlockDiagonalLinear(inner, small_std)
        self.mlstm_cell = MLSTMCell(inner, config.heads, config.input_gate)
        self.learnable_skip = nn.Parameter(torch.ones(inner))
        self.proj_down = Linear(inner, config.width, bias=False)
        nn.init.normal_(self.proj_up.weight, std=small_std)
        nn.init.normal_(self.proj_down.weight, std=2 / math.sqrt(config.width))

    def forward(self, x: Tensor) -> Tensor:
        if self.reverse:
            x = x.flip(1)
        x_m, z = self.proj_up(x).chunk(2, dim=-1)
        c = self.conv1d(x_m)
        h = self.mlstm_cell(self.q_proj(c), self.k_proj(c), self.v_proj(x_m))
        out = self.proj_down((h + self.learnable_skip * c) * F.silu(z))
        return out.flip(1) if self.reverse else out


class MLSTMBlock(nn.Module):
    """x + layer(norm(x))."""

    def __init__(self, config: AxLSTMConfig, index: int) -> None:
        super().__init__()
        self.norm = OffsetNorm(config.width)
        self.layer = MLSTMLayer(config, reverse=config.flip and index % 2 == 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer(self.norm(x))
