"""The kit's shallow classifier: embeddings (N, D) -> logits (N, C) -> a loss, or probabilities."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hear_axlstm.evaluation.protocols import Settings

INITIALIZATIONS = {"xavier_uniform": nn.init.xavier_uniform_, "xavier_normal": nn.init.xavier_normal_}


def build_network(settings: Settings, width: int, labels: int) -> nn.Sequential:
    """hidden_layers x (linear, batch norm, dropout, ReLU) and a linear layer, with parameters from torch's own generator.

    The draws are the kit's, in its order: torch's default parameters of a layer, over which its weights are drawn once more
    with the gain of the activation before it; in the end, a batch of 64 that the kit's summary of the network looks at.
    """
    modules: list[nn.Module] = []
    inputs, gain = width, 1.0
    for _ in range(settings.hidden_layers):
        modules += [
            _linear(settings, inputs, settings.hidden_dim, gain),
            nn.BatchNorm1d(settings.hidden_dim),
            nn.Dropout(settings.dropout),
            nn.ReLU(),
        ]
        inputs, gain = settings.hidden_dim, nn.init.calculate_gain("relu")
    network = nn.Sequential(*modules, _linear(settings, inputs, labels, gain))
    torch.rand(64, width)
    return network


def _linear(settings: Settings, inputs: int, outputs: int, gain: float) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    INITIALIZATIONS[settings.initialization](layer.weight, gain=gain)
    return layer


def probabilities(logits: Tensor, multilabel: bool) -> Tensor:
    """The probabilities of labels. Shape: (..., C) -> (..., C)."""
    return logits.sigmoid() if multilabel else logits.softmax(-1)


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits, targets.argmax(1))


LOSSES: dict[bool, Callable[[Tensor, Tensor], Tensor]] = {  # by whether a clip may have several labels; (N, C), (N, C) -> ()
    False: _cross_entropy,
    True: F.binary_cross_entropy_with_logits,
}
