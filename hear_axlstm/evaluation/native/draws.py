"""What is random in a training: a network's first parameters, and what its dropout keeps."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import torch
from torch import Tensor, nn

from hear_axlstm.evaluation.native.network import INITIALIZATIONS
from hear_axlstm.evaluation.protocols import Settings


class Draws:
    """Of one training, from a generator of its own: nothing that is trained beside it changes them.

    key: what tells the training from all others; equal keys give equal draws on the same kind of device.
    """

    def __init__(self, *key: object, device: torch.device) -> None:
        digest = hashlib.sha256("\n".join(map(str, key)).encode()).digest()
        self._device = device
        self._generator = torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)

    def linear(self, settings: Settings, width: int, labels: int) -> list[tuple[Tensor, Tensor]]:
        """Weight (outputs, inputs) and bias (outputs,) of each linear layer, distributed as in ``build_network``."""
        sizes = [width, *[settings.hidden_dim] * settings.hidden_layers, labels]
        layers = []
        for index, (inputs, outputs) in enumerate(pairwise(sizes)):
            weight = torch.empty(outputs, inputs, device=self._device)
            gain = nn.init.calculate_gain("relu" if index else "linear")
            INITIALIZATIONS[settings.initialization](weight, gain=gain, generator=self._generator)
            bound = inputs**-0.5
            bias = torch.empty(outputs, device=self._device).uniform_(-bound, bound, generator=self._generator)
            layers.append((weight, bias))
        return layers

    def keep(self, mask: Tensor, probability: float) -> None:
        """Sets each number of ``mask`` (B, H) to 1 with this probability, to 0 otherwise. Asked layer by layer."""
        mask.bernoulli_(probability, generator=self._generator)
