"""Unstructured random masks: exactly the same share of every chunk's patches is hidden."""

from __future__ import annotations

import torch
from torch import Tensor

from hear_axlstm.synthesis.draws import Draws


def random_mask(draws: Draws, patches: int, ratio: float) -> Tensor:
    """Hide round(ratio * L) of L patches, any of them as likely; a clip's mask depends on its own draws alone.

    Shape: -> (B, L), bool, true where hidden.

    >>> random_mask(Draws(torch.arange(2), seed=0), 250, 0.5).sum(1)
    tensor([125, 125])
    """
    hidden = draws.uniform(0, 1, patches).argsort(dim=1, stable=True)[:, : round(ratio * patches)]
    return torch.zeros(len(draws), patches, dtype=torch.bool, device=draws.device).scatter_(1, hidden, True)
