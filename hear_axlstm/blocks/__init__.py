"""The residual stream (B, L, D) through one block. Stage 3 of 5: a block a family, each ``Block(config, index)``.

A block is called with the stream and what its predecessor adds to it, and returns both anew: so that the addition and the
norm that follows it are one pass.
"""

from __future__ import annotations

from typing import Any

from hear_axlstm.blocks.attention import AttentionBlock
from hear_axlstm.blocks.mamba import MambaBlock
from hear_axlstm.blocks.mlstm import MLSTMBlock

BLOCKS: dict[str, Any] = {"axlstm": MLSTMBlock, "ssam": MambaBlock, "ssast": AttentionBlock}
