"""Gradients of many networks -> their parameters after a step of Adam, each network with its own learning rate."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hear_axlstm.evaluation.native.stack import Stack, along

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # Adam (Kingma & Ba, 2015), as torch.optim has them


class Adam:
    """torch.optim.Adam's rule with its own defaults. lr: (R,)."""

    def __init__(self, parameters: Stack, lr: Tensor) -> None:
        self._lr = lr
        self._steps = 0
        self._mean, self._square = parameters.empty_like(), parameters.empty_like()

    def step(self, parameters: Stack, gradients: Stack) -> None:
        """Updates the parameters. The gradients are overwritten."""
        self._steps += 1
        correction = math.sqrt(1 - BETA2**self._steps)  # of the root of the squares; of the mean, below
        update = gradients.flat
        self._mean.flat.lerp_(update, 1 - BETA1)
        self._square.flat.mul_(BETA2).addcmul_(update, update, value=1 - BETA2)
        torch.sqrt(self._square.flat, out=update).add_(EPSILON * correction)
        torch.div(self._mean.flat, update, out=update)
        for parameter, change in zip(parameters.views, gradients.views, strict=True):
            parameter.addcmul_(change, along(self._lr, change), value=-correction / (1 - BETA1**self._steps))

    def select(self, rows: Tensor) -> None:
        """Goes on with the networks ``rows`` only."""
        self._lr = self._lr[rows]
        self._mean, self._square = self._mean.select(rows), self._square.select(rows)
