"""Logits (R, N, C) of many classifiers and the targets (N, C) that they share -> probabilities, losses, gradients."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def probabilities(logits: Tensor, multilabel: bool) -> Tensor:
    """Shape: (R, N, C) -> (R, N, C)."""
    return logits.sigmoid() if multilabel else logits.softmax(-1)


def losses(logits: Tensor, targets: Tensor, multilabel: bool) -> Tensor:
    """Mean over clips of the cross entropy, over clips and classes of the binary one. Shape: (R, N, C), (N, C) -> (R,)."""
    if multilabel:
        return F.binary_cross_entropy_with_logits(logits, targets.expand_as(logits), reduction="none").mean((1, 2))
    classes = targets.argmax(-1).expand(logits.shape[:2])
    return F.cross_entropy(logits.mT, classes, reduction="none").mean(1)


def slopes(logits: Tensor, targets: Tensor, multilabel: bool) -> Tensor:
    """Gradients of ``losses`` with respect to the logits. Shape: (R, N, C), (N, C) -> (R, N, C)."""
    clips, classes = targets.shape
    return probabilities(logits, multilabel).sub_(targets).div_(clips * classes if multilabel else clips)
