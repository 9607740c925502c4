"""Log-mel chunk (B, N, F) -> tokens (B, L, D): the papers' figure. Stage 3 of 4."""

from collections.abc import Callable, Iterable, Sequence
from numbers import Integral
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hear_axlstm.blocks import AddNorm
from hear_axlstm.blocks.attention import AttentionBlock, xavier_
from hear_axlstm.blocks.mamba import MambaBlock
from hear_axlstm.blocks.mlstm import MLSTMBlock
from hear_axlstm.config import EncoderConfig, Layout, require, variant_config
from hear_axlstm.ops import wide
from hear_axlstm.ops.backend import Backend
from hear_axlstm.ops.norm import add_norm
from hear_axlstm.patches import sincos_positions

BLOCKS: dict[str, Any] = {"axlstm": MLSTMBlock, "ssam": MambaBlock, "ssast": AttentionBlock}
Layers = int | Sequence[int] | Literal["all"]


class Encoder(nn.Module):
    """Patch embedding, positions, class token, blocks, norm; and the mask token and head that pretraining needs.

    A new encoder has the papers' initial values. The residual stream is float32, float64 when the weights are.

    checkpointing: while training, keep only what enters each block, and compute the rest again in backward.
    layout and centring: of scene embeddings, as the file says that the encoder was loaded from.
    """

    pos_embed: Tensor
    layout: Layout | None = None
    centring: dict[str, Any] | None = None

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        width, patch = config.width, config.patch
        self.config, self.checkpointing = config, False
        self.patch_embed = nn.Conv2d(1, width, kernel_size=patch, stride=patch)
        self.register_buffer("pos_embed", sincos_positions(width, config.grid))
        self.cls_token, self.mask_token = (nn.Parameter(torch.empty(1, 1, width)) for _ in range(2))
        self.blocks = nn.ModuleList(BLOCKS[config.family](config, index) for index in range(config.depth))
        self.norm = AddNorm(width, eps=1e-6)
        self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, patch[0] * patch[1]))
        if not self.cls_token.is_meta:
            self.reset()

    @torch.no_grad()
    def reset(self) -> None:
        """Draw the papers' initial values."""
        for token in (self.cls_token, self.mask_token):
            nn.init.normal_(token, std=0.02)
        nn.init.xavier_uniform_(self.patch_embed.weight.flatten(1))
        nn.init.zeros_(self.patch_embed.bias)  # type: ignore[arg-type]
        xavier_(self.head)
        for module in self.blocks.modules():
            if callable(reset := getattr(module, "reset", None)):
                reset()

    def forward(
        self, spectrogram: Tensor, mask: Tensor | None = None, *, layers: Layers | None = None, backend: Backend = "auto"
    ) -> Tensor:
        """The tokens of the patches, time-major, without the class token.

        mask: true or 1 where a patch is hidden. layers: the numbers of earlier outputs to return instead, counted as in
        ``layer_numbers``. backend: the implementation that runs the blocks' operations, see ``ops.backend``.

        Shape: spectrogram (B, 200, 80), standardised log-mel; mask (B, L), L = columns * rows of ``config.grid``
        -> (B, L, D), or (layers, B, L, D) when layers are asked for.
        """
        patches = self.patch_embed(spectrogram.unsqueeze(1).to(self.patch_embed.weight.dtype))
        tokens = wide(patches).flatten(2).transpose(1, 2) + self.pos_embed[:, 1:]
        if mask is not None:
            tokens = torch.where(mask.bool().unsqueeze(-1), self.mask_token, tokens)
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(tokens.shape[0], -1, -1)
        x, update = torch.cat([cls, tokens], dim=1), None
        wanted = [] if layers is None else layer_numbers(layers, self.config.depth)
        outputs = {}
        for index, block in enumerate(self.blocks):
            if index in wanted:
                outputs[index] = x if update is None else x + update
            if self.checkpointing and self.training:
                x, update = checkpoint(block, x, update, backend, use_reentrant=False)
            else:
                x, update = block(x, update, backend)
        weight, bias, eps = self.norm.weight, self.norm.bias, self.norm.eps
        x, normed = add_norm(x, update, weight, bias, eps=eps, dtype=x.dtype, backend=backend)
        if layers is None:
            return normed[:, 1:]
        outputs |= {self.config.depth: x, self.config.depth + 1: normed}
        return torch.stack([outputs[number][:, 1:] for number in wanted])

    def reconstruct(self, spectrogram: Tensor, mask: Tensor) -> Tensor:
        """The head's guess of every patch. Shape: (B, 200, 80), (B, L) -> (B, L, frames * bands)."""
        return self.head(self(spectrogram, mask).to(self.head[0].weight.dtype))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Half precision is for matrices. Norms, convolutions, gates and decays lose more by it than they save."""
        layers = [module for module in self.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
        tensors = [tensor for layer in layers for tensor in (*layer.parameters(), *layer.buffers())]
        matrices = {id(tensor) for own in tensors for tensor in (own, own.grad)}

        def applied(tensor: Tensor) -> Tensor:
            result = fn(tensor)
            is_kept = result.dtype in (torch.float16, torch.bfloat16) and id(tensor) not in matrices
            return tensor.to(result.device, torch.float32) if is_kept else result

        for layer in layers:  # a pruned layer's weight is a mere attribute
            vars(layer).update({name: fn(value) for name, value in vars(layer).items() if isinstance(value, Tensor)})
        return super()._apply(applied, recurse)


def layer_numbers(layers: Layers, depth: int) -> list[int]:
    """The outputs that ``layers`` asks for: a number, several, or "all".

    0 is the output of the patch embedding, 1 to ``depth`` that of each block, depth + 1 that of the final norm; negative
    numbers count from the end. Raises ConfigError on a number that there is not.

    >>> layer_numbers([0, -1], depth=12)
    [0, 13]
    """
    count = depth + 2
    given: Any = getattr(layers, "tolist", lambda: layers)()  # an array or a tensor has numbers, too
    several = given if isinstance(given, Iterable) else [given]
    asked = list(range(count) if isinstance(given, str) and given == "all" else several)
    exist = [isinstance(n, Integral) and not isinstance(n, bool) and -count <= int(n) < count for n in asked]
    expected = f"expected 'all' or numbers from 0 (patch embedding) to {depth + 1} (norm)"
    require(bool(exist) and all(exist), f"layers is {layers!r}; {expected}")
    return [int(number) % count for number in asked]


def build_encoder(variant: str) -> Encoder:
    """A new encoder of VARIANTS with the papers' initial values."""
    return Encoder(variant_config(variant))
