"""The mathematics of the blocks: pure functions on tensors, no modules, no configuration."""

import torch
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """``x`` in the precision of sums, gates and norms: float32, or float64 when it already is.

    >>> wide(torch.zeros(1, dtype=torch.float16)).dtype
    torch.float32
    """
    return x if x.dtype == torch.float64 else x.float()
