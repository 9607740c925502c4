"""What is known of matrix products on a CPU: where bfloat16 is slow, and where oneDNN is faster than MKL."""

from __future__ import annotations

import functools
from pathlib import Path

import torch
from torch import Tensor, nn

PROCESSOR = Path("/proc/cpuinfo")  # what Linux says of the processor
MULTIPLY_BFLOAT16 = {"amx_bf16", "avx512_bf16", "bf16", "svebf16"}  # as Linux calls the instructions, of x86 and of ARM


def slow_products(dtype: torch.dtype, facts: Path = PROCESSOR) -> str | None:
    """What to warn of where products in ``dtype`` cost a CPU more than float32, or None: where they do not, or nobody knows.

    facts: what Linux says of the processor.
    """
    if dtype != torch.bfloat16 or not facts.is_file() or MULTIPLY_BFLOAT16 & set(facts.read_text().split()):
        return None
    return (
        "this processor has no instructions for bfloat16 (AMX or AVX512-BF16): "
        "precision 'bfloat16' is slower here than 'float32', and less exact"
    )


class OneDnnLinear(nn.Linear):
    """The same map, without gradients. MKL, which torch prefers, keeps its best code for processors that are not of AMD."""

    def forward(self, input: Tensor) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(input, self.weight, self.bias, "none", [], "")
        return product


def prefer_onednn(copy: nn.Module) -> None:
    """Let the linear maps of a copy of an encoder be oneDNN's, where that is faster: on processors of AMD, in float32.

    Not those whose weights have gaps: oneDNN would take a hundred times as long.
    """
    if _is_faster():
        for layer in copy.modules():
            if type(layer) is nn.Linear and _is_suitable(layer.weight):
                layer.__class__ = OneDnnLinear


def _is_suitable(weight: Tensor) -> bool:
    return weight.dtype == torch.float32 and weight.device.type == "cpu" and weight.is_contiguous()


@functools.cache
def _is_faster() -> bool:
    return (
        torch.backends.mkldnn.is_available()
        and torch.backends.mkl.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and PROCESSOR.is_file()
        and "AuthenticAMD" in PROCESSOR.read_text()
    )
