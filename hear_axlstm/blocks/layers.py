"""Small parts that the families share. Linear maps run in their weights' dtype, norms in float32 or better."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hear_axlstm.kernels import wide


def matching(x: Tensor, weight: Tensor) -> Tensor:
    """``x`` in the dtype of ``weight``, unless autocast chooses for both."""
    return x if torch.is_autocast_enabled(x.device.type) else x.to(weight.dtype)


class KeepsFloat32(nn.Module):
    """A module whose own parameters and buffers stay float32 when a model is turned to half precision.

    Norms, convolutions, gates and decays lose more by it than they save; autocast leaves them alone, too.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        def applied(tensor: Tensor) -> Tensor:
            result = fn(tensor)
            half = result.dtype in (torch.float16, torch.bfloat16)
            return tensor.to(result.device, torch.float32) if half else result

        if recurse:
            for child in self.children():
                child._apply(fn)
        return super()._apply(applied, recurse=False)


class Linear(nn.Linear):
    """nn.Linear that takes input of any floating dtype, so that a half-precision model keeps its float32 residual."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(matching(input, self.weight))


class GateLinear(KeepsFloat32, nn.Linear):
    """A linear map whose bias is added in float32 or better: float16 would move a step size of 0.001 by up to 0.2 %."""

    def forward(self, input: Tensor) -> Tensor:
        return wide(F.linear(matching(input, self.weight), self.weight)) + self.bias


class LayerNorm(KeepsFloat32, nn.LayerNorm):
    """nn.LayerNorm in float32 or better, whatever the dtype of its input."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(wide(input))


class OffsetNorm(KeepsFloat32):
    """Layer norm without bias, whose weight is stored as an offset from one; over each of ``heads`` groups by itself.

    Shape: (..., D) -> (..., D).
    """

    def __init__(self, width: int, heads: int = 1, eps: float = 1e-5) -> None:
        super().__init__()
        self.heads = heads
        self.eps = eps
        self.weight = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        grouped = wide(x).unflatten(-1, (self.heads, -1))
        normed = F.layer_norm(grouped, grouped.shape[-1:], eps=self.eps)
        return normed.flatten(-2) * (1 + self.weight)


class BlockDiagonalLinear(nn.Module):
    """A linear map in blocks of four channels: weight (D / 4, 4 out, 4 in), no bias. Shape: (B, L, D) -> (B, L, D).

    Products of 4 x 4 are too small to be fast, so up to four blocks are multiplied as one, with zeros between them.
    """

    def __init__(self, width: int, std: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width // 4, 4, 4))
        nn.init.normal_(self.weight, std=std)

    def forward(self, x: Tensor) -> Tensor:
        group = math.gcd(4, len(self.weight))
        diagonal = torch.eye(group, device=self.weight.device, dtype=self.weight.dtype)
        weight = torch.einsum("ngoi,gh->ngohi", self.weight.unflatten(0, (-1, group)), diagonal)
        weight = weight.reshape(-1, 4 * group, 4 * group)
        tokens = matching(x, self.weight).unflatten(-1, (-1, 4 * group))
        return torch.einsum("blni,noi->blno", tokens, weight).flatten(-2)


class DepthwiseConv(KeepsFloat32, nn.Conv1d):
    """The parameters of a causal depthwise convolution, four tokens wide; ``causal_conv_silu`` applies them."""

    bias: nn.Parameter

    def __init__(self, width: int) -> None:
        super().__init__(width, width, kernel_size=4, groups=width)


class Mlp(nn.Module):
    """Linear, exact GELU, linear. Shape: (B, L, D) -> (B, L, D)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.layer1 = Linear(width, hidden)
        self.layer2 = Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer2(F.gelu(self.layer1(x)))


def xavier_linear_(layer: nn.Linear) -> None:
    """Xavier-uniform weight and zero bias, in place."""
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
