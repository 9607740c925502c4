"""Encoders that begin with a few blocks and grow: where time is short, a shallow one learns more in it.

Blocks that wait pass on what they get. One that joins is a copy of one below it, except that what it adds begins at zero, so
that the encoder says the same before and after (Gong et al., 2019, stack trained blocks; zeros keep what was learnt).
"""

from __future__ import annotations

import torch
from torch import Tensor

from hear_axlstm.encoder import Encoder

OUTPUTS = {"axlstm": ("down",), "ssam": ("out_proj",), "ssast": ("proj", "mlp.2")}  # layers that add to the stream


def train_first(encoder: Encoder, blocks: int) -> None:
    """Train so many blocks, and have those above pass on what they get."""
    for index, block in enumerate(encoder.blocks):
        vars(block).pop("forward", None)
        if index >= blocks:
            block.forward = _pass_on
        block.requires_grad_(index < blocks)


def _pass_on(x: Tensor, update: Tensor | None, backend: str = "auto") -> tuple[Tensor, Tensor | None]:
    return x, update


@torch.no_grad()
def copy_up(encoder: Encoder, blocks: int) -> None:
    """Make all blocks above the first ``blocks`` copies of those, in turn, that add nothing yet."""
    for index in range(blocks, encoder.config.depth):
        block = encoder.blocks[index]
        block.load_state_dict(encoder.blocks[index % blocks].state_dict())
        for name in OUTPUTS[encoder.config.family]:
            for parameter in block.get_submodule(name).parameters():
                parameter.zero_()
