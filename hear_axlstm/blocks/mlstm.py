"""Residual stream (B, L, D) -> residual stream and what to add to it: the AxLSTM block.

Yadav et al., 2025, figure 1 right.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hear_axlstm.blocks.layers import (
    AddNorm,
    BlockDiagonalLinear,
    DepthwiseConv,
    Folding,
    GateLinear,
    HeadNorm,
    KeepsFloat32,
    Linear,
    normal_,
    product_dtype,
)
from hear_axlstm.config import AxLSTMConfig
from hear_axlstm.kernels.conv.op import conv_mix_gates
from hear_axlstm.kernels.mlstm.op import gated_mlstm
from hear_axlstm.ops import wide
from hear_axlstm.ops.backend import Backend


class CausalConv(nn.Module):
    """Depthwise, four tokens wide."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = DepthwiseConv(width)


class MLSTMCell(nn.Module):
    """Gates from q, k and v together, and the norm over each head's output."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.igate = GateLinear(3 * width, heads)
        self.fgate = GateLinear(3 * width, heads)
        self.outnorm = HeadNorm(width)
        nn.init.zeros_(self.igate.weight)
        normal_(self.igate.bias, std=0.1)
        nn.init.zeros_(self.fgate.weight)
        with torch.no_grad():
            self.fgate.bias.copy_(torch.linspace(3.0, 6.0, heads))


class Folded(NamedTuple):
    """An mLSTM layer's parameters without q and k: what reads them reads the convolution's output c instead.

    k . q = c . (Wk^T Wq) c', and the gates, linear in q, k and v, are linear in c and in the input of the convolution.
    """

    mix_q: Tensor  # (n / 4, 4, 4), Wk^T Wq
    mix_v: Tensor  # (n / 4, 4, 4)
    gate_c: Tensor  # (2 H, n), of the input gates, then of the forget gates
    gate_x: Tensor  # (2 H, n)
    gate_bias: Tensor  # (2 H)
    norm_weight: Tensor  # (n)


class MLSTMLayer(KeepsFloat32, Folding):
    """The inside of the residual. ``reverse``: the tokens, class token included, are read backwards."""

    def __init__(self, config: AxLSTMConfig, *, reverse: bool) -> None:
        super().__init__()
        inner = config.expansion * config.width
        small_std = math.sqrt(2 / (5 * config.width))
        self.input_gate = config.input_gate
        self.reverse = reverse
        self.proj_up = Linear(config.width, 2 * inner, bias=False)
        self.conv1d = CausalConv(inner)
        self.q_proj = BlockDiagonalLinear(inner, small_std)
        self.k_proj = BlockDiagonalLinear(inner, small_std)
        self.v_proj = BlockDiagonalLinear(inner, small_std)
        self.mlstm_cell = MLSTMCell(inner, config.heads)
        self.learnable_skip = nn.Parameter(torch.ones(inner))
        self.proj_down = Linear(inner, config.width, bias=False)
        normal_(self.proj_up.weight, std=small_std)
        normal_(self.proj_down.weight, std=2 / math.sqrt(config.width))

    def fold(self) -> Folded:
        cell = self.mlstm_cell
        with torch.autocast(self.learnable_skip.device.type, enabled=False):
            q, k, v = (wide(layer.weight) for layer in (self.q_proj, self.k_proj, self.v_proj))
            gates = torch.cat([cell.igate.weight, cell.fgate.weight]).unflatten(1, (3, -1, 4))  # (2 H, 3, n / 4, 4)
            of_q, of_k, of_v = (torch.einsum("hgo,goi->hgi", gates[:, i], w).flatten(1) for i, w in enumerate((q, k, v)))
            bias = torch.cat([cell.igate.bias, cell.fgate.bias])
            return Folded(k.mT @ q, v, of_q + of_k, of_v, bias, 1 + cell.outnorm.weight)

    def forward(self, x: Tensor, backend: Backend) -> Tensor:
        folded, conv = self.folded(), self.conv1d.conv
        x_m, z = self.proj_up(x).chunk(2, dim=-1)
        c, v, gates = conv_mix_gates(
            x_m, conv.weight, conv.bias, folded.mix_v, folded.gate_c, folded.gate_x, reverse=self.reverse, backend=backend
        )
        h = gated_mlstm(
            c,
            v,
            z,
            gates + folded.gate_bias,
            folded.mix_q,
            folded.norm_weight,
            self.learnable_skip,
            input_gate=self.input_gate,
            reverse=self.reverse,
            overwrite_z=not torch.is_grad_enabled(),
            backend=backend,
        )
        return self.proj_down(h)


class MLSTMBlock(nn.Module):
    """x + layer(norm(x)), whose sum the next block makes."""

    def __init__(self, config: AxLSTMConfig, index: int) -> None:
        super().__init__()
        self.norm = AddNorm(config.width, eps=1e-5, bias=False, offset=True)
        self.layer = MLSTMLayer(config, reverse=config.flip and index % 2 == 1)

    def forward(self, x: Tensor, update: Tensor | None = None, backend: Backend = "auto") -> tuple[Tensor, Tensor]:
        x, normed = self.norm(x, update, dtype=product_dtype(self.layer.proj_up.weight), backend=backend)
        return x, self.layer(normed, backend)
