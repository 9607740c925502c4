"""The reconstruction loss of masked patches."""

from __future__ import annotations

from typing import Literal

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
    error = (prediction - patchify(spectrogram, patch)).square().mean(-1)
    if over == "all":
        return error.mean()
    return (error * mask).sum() / mask.sum()
