"""Residual stream (B, L, D) -> residual stream and what to add to it: the SSAST block, a pre-norm transformer."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from hear_axlstm.blocks.layers import AddNorm, Linear, Mlp, product_dtype, xavier_linear_
from hear_axlstm.config import SSASTConfig
from hear_axlstm.ops.backend import Backend


class Attention(nn.Module):
    """Multi-head self-attention, scaled by head width ** -0.5, without a mask."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv_layer = Linear(width, 3 * width)
        self.proj_layer = Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv_layer(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each (B, H, L, K)
        return self.proj_layer(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class AttentionBlock(nn.Module):
    """x + attn(norm1(x)), then x + mlp(norm2(x)), whose sum the next block makes."""

    def __init__(self, config: SSASTConfig, index: int) -> None:
        super().__init__()
        self.norm1 = AddNorm(config.width, eps=1e-6)
        self.attn = Attention(config.width, config.heads)
        self.norm2 = AddNorm(config.width, eps=1e-6)
        self.mlp = Mlp(config.width, 4 * config.width)
        for layer in (self.attn.qkv_layer, self.attn.proj_layer, self.mlp.layer1, self.mlp.layer2):
            xavier_linear_(layer)

    def forward(self, x: Tensor, update: Tensor | None = None, backend: Backend = "auto") -> tuple[Tensor, Tensor]:
        dtype = product_dtype(self.attn.qkv_layer.weight)
        x, normed = self.norm1(x, update, dtype=dtype, backend=backend)
        x, normed = self.norm2(x, self.attn(normed), dtype=dtype, backend=backend)
        return x, self.mlp(normed)
