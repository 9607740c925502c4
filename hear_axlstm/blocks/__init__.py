"""Tokens (B, L, D) -> tokens (B, L, D). Stage 3 of 5: one block a family, each ``Block(config, index)``."""

from __future__ import annotations

from typing import Any

from hear_axlstm.blocks.attention import AttentionBlock
from hear_axlstm.blocks.mamba import MambaBlock
from hear_axlstm.blocks.mlstm import MLSTMBlock

BLOCKS: dict[str, Any] = {"axlstm": MLSTMBlock, "ssam": MambaBlock, "ssast": AttentionBlock}
