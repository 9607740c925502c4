"""Small parts that the families share. Linear maps run in their weights' dtype, norms in float32 or better."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hear_axlstm.kernels.norm.op import add_norm
from hear_axlstm.ops.backend import Backend


def product_dtype(weight: Tensor) -> torch.dtype:
    """The dtype in which products with ``weight`` are computed: its own, unless autocast chooses."""
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


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


class Folding(nn.Module):
    """A module that computes with tensors made of its parameters. A copy that will not change keeps them: ``fold_once``."""

    _kept: tuple[Any] | None = None  # a tuple, so that a parameter in it is not registered a second time

    def fold(self) -> Any:
        """What ``forward`` computes with."""
        raise NotImplementedError

    def folded(self) -> Any:
        return self.fold() if self._kept is None else self._kept[0]

    def fold_once(self) -> None:
        """Keep what is folded from now on, whatever becomes of the parameters."""
        with torch.inference_mode(False), torch.no_grad():
            self._kept = (self.fold(),)


class AddNorm(KeepsFloat32, Folding):
    """The residual stream: x + update, and its layer norm, in float32 or better; the norm is returned in ``dtype``.

    offset: the weight is stored as its difference from one. Shape: (..., D) -> two of (..., D).
    """

    def __init__(self, width: int, *, eps: float, bias: bool = True, offset: bool = False) -> None:
        super().__init__()
        self.eps = eps
        self.offset = offset
        self.weight = nn.Parameter(torch.zeros(width) if offset else torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def fold(self) -> Tensor:
        return 1 + self.weight if self.offset else self.weight

    def forward(
        self, x: Tensor, update: Tensor | None, *, dtype: torch.dtype, backend: Backend = "auto"
    ) -> tuple[Tensor, Tensor]:
        return add_norm(x, update, self.folded(), self.bias, eps=self.eps, dtype=dtype, backend=backend)


class HeadNorm(KeepsFloat32):
    """The weight, stored as its difference from one, of a norm over each head's channels; ``gated_mlstm`` applies it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))


class GateLinear(KeepsFloat32, nn.Linear):
    """The parameters of a map to gates or step sizes, whose bias is added in float32 or better by what applies it.

    In float16 it would move a step size of 0.001 by up to 0.2 %.
    """


class BlockDiagonalLinear(KeepsFloat32):
    """The weight (D / 4, 4 out, 4 in) of a linear map in blocks of four channels; the kernels of the mLSTM apply it."""

    def __init__(self, width: int, std: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width // 4, 4, 4))
        normal_(self.weight, std=std)


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


def normal_(weight: Tensor, *, std: float) -> None:
    """N(0, std^2), in place. On "meta" nothing: torch would import its compiler, and Triton with it, to do no more."""
    if not weight.is_meta:
        nn.init.normal_(weight, std=std)


def xavier_linear_(layer: nn.Linear) -> None:
    """Xavier-uniform weight and zero bias, in place."""
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
