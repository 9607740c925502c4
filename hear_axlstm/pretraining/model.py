"""Crops and masks (B, 1, 200, 80), (B, L) -> the loss that pretraining minimises, and its optimiser."""

from __future__ import annotations

from torch import Tensor, nn
from torch.optim import AdamW

from hear_axlstm.encoder import Encoder
from hear_axlstm.ops import wide
from hear_axlstm.pretraining.objective import reconstruction_loss
from hear_axlstm.pretraining.recipe import Recipe


class MaskedModel(nn.Module):
    """The encoder guesses the patches that it does not see; the loss is float32 in every precision."""

    def __init__(self, encoder: Encoder, recipe: Recipe) -> None:
        super().__init__()
        self.encoder = encoder
        self.over = recipe.loss

    def forward(self, spectrogram: Tensor, mask: Tensor) -> Tensor:
        """Shape: (B, 1, 200, 80), (B, L), true where hidden -> scalar."""
        guess = wide(self.encoder.reconstruct(spectrogram, mask))
        return reconstruction_loss(guess, spectrogram, mask, self.encoder.config.patch, self.over)


def optimizer_of(encoder: Encoder, recipe: Recipe) -> AdamW:
    """AdamW; biases, norms and everything else with one dimension do not decay."""
    decaying = [p for p in encoder.parameters() if p.ndim > 1]
    others = [p for p in encoder.parameters() if p.ndim <= 1]
    groups = [{"params": decaying, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return AdamW(groups, lr=recipe.lr, betas=recipe.betas, fused=True)
