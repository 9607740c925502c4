"""Linear maps on a CPU by oneDNN, where MKL, which torch prefers for float32, keeps its best code for other processors."""

from __future__ import annotations

import functools
from pathlib import Path

import torch
from torch import Tensor, nn

PROCESSOR = Path("/proc/cpuinfo")


class OneDnnLinear(nn.Linear):
    """The same map, without gradients."""

    def forward(self, input: Tensor) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(input, self.weight, self.bias, "none", [], "")
        return product


def prefer_onednn(copy: nn.Module) -> None:
    """Let the linear maps of a copy of an encoder be oneDNN's, where that is faster: on processors of AMD, in float32."""
    if _is_faster():
        for layer in copy.modules():
            if type(layer) is nn.Linear and layer.weight.dtype == torch.float32 and layer.weight.device.type == "cpu":
                layer.__class__ = OneDnnLinear


@functools.cache
def _is_faster() -> bool:
    return (
        torch.backends.mkldnn.is_available()
        and torch.backends.mkl.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and PROCESSOR.is_file()
        and "AuthenticAMD" in PROCESSOR.read_text()
    )
