"""The SSAST block, a pre-norm transformer: x + attention(norm1(x)), then x + mlp(norm2(x))."""

import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

from hear_axlstm.blocks import AddNorm
from hear_axlstm.config import SSASTConfig
from hear_axlstm.ops.backend import Backend


class AttentionBlock(nn.Module):
    """Attention over all tokens, without a mask, scaled by head width ** -0.5."""

    def __init__(self, config: SSASTConfig, index: int) -> None:
        super().__init__()
        width, self.heads = config.width, config.heads
        self.norm1, self.norm2 = (AddNorm(width, eps=1e-6) for _ in range(2))
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def reset(self) -> None:
        """Draw the papers' initial values."""
        xavier_(self)

    def forward(self, x: Tensor, update: Tensor | None = None, backend: Backend = "auto") -> tuple[Tensor, Tensor]:
        x, normed = self.norm1(x, update, self.qkv.weight, backend)
        q, k, v = self.qkv(normed).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each (B, H, L, K)
        if forward_ad._current_level >= 0:  # torch's fused attention carries no tangents
            attended = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1) @ v
        else:
            attended = F.scaled_dot_product_attention(q, k, v)
        x, normed = self.norm2(x, self.proj(attended.transpose(1, 2).flatten(2)), self.qkv.weight, backend)
        return x, self.mlp(normed)


def xavier_(module: nn.Module) -> None:
    """Xavier-uniform weights and zero biases in all linear maps of a module."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
