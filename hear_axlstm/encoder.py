"""Log-mel chunk (B, 1, N, F) -> tokens (B, L, D). Stage 4 of 5: the papers' figure."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hear_axlstm.blocks import BLOCKS
from hear_axlstm.blocks.layers import AddNorm, KeepsFloat32, Linear, normal_, xavier_linear_
from hear_axlstm.config import EncoderConfig, variant_config
from hear_axlstm.ops.backend import Backend
from hear_axlstm.patches import PatchEmbed, sincos_positions


class Encoder(KeepsFloat32):
    """Patch embedding, positions, class token, blocks, norm; and the head that pretraining needs.

    The residual stream is float32 (float64 when the weights are), also when the weights are half precision.
    A new encoder has the papers' initial values.

    backend: what runs the operations of the blocks; see ``kernels.backend.select``.
    checkpointing: while training, keep only what enters each block, and compute the rest again in backward.
    """

    pos_embed: Tensor

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.backend: Backend = "auto"
        self.checkpointing = False
        width = config.width
        self.patch_embed = PatchEmbed(width, config.patch)
        self.register_buffer("pos_embed", sincos_positions(width, config.grid))
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        self.blocks = nn.ModuleList(BLOCKS[config.family](config, index) for index in range(config.depth))
        self.encoder_norm = AddNorm(width, eps=1e-6)
        head = Linear(width, width), Linear(width, config.patch[0] * config.patch[1])
        self.pred = nn.Sequential(head[0], nn.GELU(), head[1])
        normal_(self.cls_token, std=0.02)
        normal_(self.mask_token, std=0.02)
        for layer in head:
            xavier_linear_(layer)

    def forward(self, spectrogram: Tensor, mask: Tensor | None = None) -> Tensor:
        """Tokens of the patches, time-major, the class token dropped.

        Shape: spectrogram (B, 1, 200, 80), standardised log-mel; mask (B, L), true or 1 where a patch is hidden
        -> (B, L, D), L = columns * rows of ``config.grid``.
        """
        tokens = self.patch_embed(spectrogram) + self.pos_embed[:, 1:]
        if mask is not None:
            tokens = torch.where(mask.bool().unsqueeze(-1), self.mask_token.to(tokens.dtype), tokens)
        cls = (self.cls_token + self.pos_embed[:, :1]).to(tokens.dtype)
        x = torch.cat([cls.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        update = None  # what the last block adds to x
        for block in self.blocks:
            if self.checkpointing and self.training:
                x, update = checkpoint(block, x, update, self.backend, use_reentrant=False)
            else:
                x, update = block(x, update, self.backend)
        _, normed = self.encoder_norm(x, update, dtype=x.dtype, backend=self.backend)
        return normed[:, 1:]

    def reconstruct(self, spectrogram: Tensor, mask: Tensor) -> Tensor:
        """The pretraining head's guess of every patch. Shape: (B, 1, 200, 80), (B, L) -> (B, L, frames * bands)."""
        return self.pred(self(spectrogram, mask))


def build_encoder(variant: str) -> Encoder:
    """A new encoder of VARIANTS with the papers' initial values.

    >>> sum(p.numel() for p in build_encoder("axlstm-tiny").parameters())
    4343584
    """
    return Encoder(variant_config(variant))
