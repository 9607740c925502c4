"""What pretraining asks of an encoder: which patches it does not see, and the loss of its guesses."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from hear_axlstm.config import check_choice
from hear_axlstm.patches import patchify
from hear_axlstm.synthesis.draws import Draws

LossOver = Literal["masked", "all"]


def random_mask(draws: Draws, patches: int, ratio: float) -> Tensor:
    """Hide round(ratio * L) of L patches, any of them as likely; a clip's mask depends on its own draws alone.

    Shape: -> (B, L), bool, true where hidden.

    >>> random_mask(Draws(torch.arange(2), seed=0), 250, 0.5).sum(1)
    tensor([125, 125])
    """
    hidden = draws.uniform(0, 1, patches).argsort(dim=1, stable=True)[:, : round(ratio * patches)]
    return torch.zeros(len(draws), patches, dtype=torch.bool, device=draws.device).scatter_(1, hidden, True)


def reconstruction_loss(
    prediction: Tensor, spectrogram: Tensor, mask: Tensor, patch: tuple[int, int], over: LossOver = "masked"
) -> Tensor:
    """Mean squared error over the masked patches (AxLSTM paper) or over all of them (SSAM paper, released script).

    Shape: prediction (B, L, frames * bands), spectrogram (B, 1, 200, 80), mask (B, L), true where hidden -> scalar.
    Raises ConfigError when ``over`` is neither "masked" nor "all".
    """
    check_choice("over", over, LossOver)
    # Summed in float64: thousands of float32 terms would cost the loss its last digit.
    error = (prediction - patchify(spectrogram, patch)).square().mean(-1, dtype=torch.float64)
    loss = error.mean() if over == "all" else (error * mask).sum() / mask.sum()
    return loss.to(prediction.dtype)
