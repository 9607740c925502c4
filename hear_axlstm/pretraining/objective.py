"""The objective of pretraining: masks that hide patches from the encoder, and the loss of its guesses."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from hear_axlstm.config import CHUNK_FRAMES, N_MELS, check_choice
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


def patchify(spectrogram: Tensor, patch: tuple[int, int]) -> Tensor:
    """Cut a chunk into patches, time-major: patch n covers column n // rows and row n % rows.

    Shape: (B, N, F) -> (B, columns * rows, frames * bands); the values of a patch run over time, then frequency.

    >>> patchify(torch.zeros(2, 200, 80), (4, 16)).shape
    torch.Size([2, 250, 64])
    """
    frames, bands = patch
    batch, height, width = spectrogram.shape
    blocks = spectrogram.reshape(batch, height // frames, frames, width // bands, bands)
    return blocks.transpose(2, 3).reshape(batch, -1, frames * bands)


def unpatchify(patches: Tensor, patch: tuple[int, int]) -> Tensor:
    """Put the patches of a chunk together again: ``patchify`` backwards.

    Shape: (B, columns * rows, frames * bands) -> (B, 200, 80).

    >>> chunk = torch.rand(2, 200, 80)
    >>> torch.equal(unpatchify(patchify(chunk, (4, 16)), (4, 16)), chunk)
    True
    """
    frames, bands = patch
    columns, rows = CHUNK_FRAMES // frames, N_MELS // bands
    return patches.reshape(-1, columns, rows, frames, bands).transpose(2, 3).reshape(-1, CHUNK_FRAMES, N_MELS)


def reconstruction_loss(
    prediction: Tensor, spectrogram: Tensor, mask: Tensor, patch: tuple[int, int], over: LossOver = "masked"
) -> Tensor:
    """Mean squared error over the masked patches (AxLSTM paper) or over all of them (SSAM paper, released script).

    Shape: prediction (B, L, frames * bands), spectrogram (B, 200, 80), mask (B, L), true where hidden -> scalar.
    Raises ConfigError when ``over`` is neither "masked" nor "all".
    """
    check_choice("over", over, LossOver)
    # Summed in float64: thousands of float32 terms would cost the loss its last digit.
    error = (prediction - patchify(spectrogram, patch)).square().mean(-1, dtype=torch.float64)
    loss = error.mean() if over == "all" else (error * mask).sum() / mask.sum().clamp(min=1)
    return loss.to(prediction.dtype)


def teaching_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """One minus the cosine between what is said and what a teacher says: of each moment, and of a clip's mean moment.

    Moments whose target is 0 have none, and do not count. Frozen embeddings are means, so that the second half is what they
    are used for. A cosine taught students better than other losses did (S-SONDO, Table 3).

    Shape: (B, moments, D) each -> scalar.
    """
    known = target.abs().amax(-1, keepdim=True) > 0
    moments = _distance(prediction, target, known.squeeze(-1))
    clips = _distance((prediction * known).sum(1), target.sum(1), known.any(1).squeeze(-1))
    return (moments + clips) / 2


def _distance(one: Tensor, other: Tensor, known: Tensor) -> Tensor:
    """One minus the cosine, the mean over those that are known. Shape: (..., D), (..., D), (...) -> scalar."""
    distance = 1 - nn.functional.cosine_similarity(one, other, dim=-1)
    return (distance * known).sum() / known.sum().clamp(min=1)
