"""The residual stream (B, L, D) through one block. A file a family; each has a ``Block(config, index)``.

A block takes the stream x and ``update``, what the block before it adds to x, and returns both anew: the addition and the
norm that follows it are one pass over memory.
"""

import torch
from torch import Tensor, nn

from hear_axlstm.ops.backend import Backend
from hear_axlstm.ops.norm import add_norm


def product_dtype(weight: Tensor) -> torch.dtype:
    """The dtype in which products with ``weight`` are computed: its own, unless autocast chooses."""
    if not isinstance(weight, Tensor):  # of a quantised layer, which takes float32
        return torch.float32
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


class AddNorm(nn.LayerNorm):
    """x + update, and its layer norm in the dtype of products with ``weight``, the matrix that reads it."""

    def forward(self, x: Tensor, update: Tensor | None, weight: Tensor, backend: Backend) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        dtype = product_dtype(weight)
        return add_norm(x, update, self.weight, self.bias, eps=self.eps, dtype=dtype, backend=backend)
