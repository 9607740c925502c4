"""The reconstruction loss of masked patches."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from hear_axlstm.config import check_choice
from hear_axlstm.patches import patchify

LossOver = Literal["masked", "all"]


def reconstruction_loss(
    prediction: Tensor, spectrogram: Tensor, mask: Tensor, patch: tuple[int, int], over: LossOver = "masked"
) -> Tensor:
    """Mean squared error over the masked patches (AxLSTM paper) or over all of them (SSAM paper, released script).

    Shape: prediction (B, L, frames * bands), spectrogram (B, 1, 200, 80), mask (B, L), 1 where hidden -> scalar.
    """
    check_choice("over", over, LossOver)
    # Summed in float64: thousands of float32 terms would cost the loss its last digit.
    error = (prediction - patchify(spectrogram, patch)).square().mean(-1, dtype=torch.float64)
    loss = error.mean() if over == "all" else (error * mask).sum() / mask.sum()
    return loss.to(prediction.dtype)
