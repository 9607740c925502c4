"""The linear head: standardised embeddings -> classes, set by logistic regression, folded into a ``Classifier``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from hear_axlstm.classification.classifier import Classifier, unstandardised

PENALTIES = (10.0, 1.0, 0.1, 0.01, 0.001, 0.0001)  # of the squared weights, from strict to loose
ROUNDS = 200  # of L-BFGS, at most


class Head(nn.Module):
    """Logits of standardised embeddings. Shape: (B, D) -> (B, C).

    mean, deviation: (D,), of the embeddings that the run began with; they stay.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, size: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("deviation", torch.ones(size))
        self.linear = nn.Linear(size, classes)

    def forward(self, embeddings: Tensor) -> Tensor:
        logits: Tensor = self.linear((embeddings - self.mean) / self.deviation)
        return logits

    def folded(self, classes: Sequence[str], facts: dict[str, Any]) -> Classifier:
        """The same map from embeddings as they are."""
        weight, bias, mean, deviation = (
            tensor.detach().cpu().double().numpy()
            for tensor in (self.linear.weight, self.linear.bias, self.mean, self.deviation)
        )
        return Classifier(*unstandardised(weight, bias, mean, deviation), list(classes), facts)


@torch.no_grad()
def fit_head(head: Head, embeddings: Tensor, labels: Tensor, others: Tensor, other_labels: Tensor) -> float:
    """Set a head to the logistic regression of ``embeddings`` (N, D) and ``labels`` (N,), and return its penalty.

    The penalty is that of PENALTIES which explains ``others`` best, embeddings that are not learnt from.
    """
    deviation, mean = torch.std_mean(embeddings.double(), dim=0, correction=0)
    head.mean.copy_(mean)
    head.deviation.copy_(torch.where(deviation > 1e-8, deviation, 1.0))
    known, unknown = ((part.to(head.mean.device) - head.mean) / head.deviation for part in (embeddings, others))
    weight = torch.zeros_like(head.linear.weight, requires_grad=True)
    bias = torch.zeros_like(head.linear.bias, requires_grad=True)
    best, chosen = float("inf"), PENALTIES[0]
    for penalty in PENALTIES:
        _descend(weight, bias, known, labels, penalty)
        loss = float(cross_entropy(unknown @ weight.T + bias, other_labels))
        if loss < best:
            best, chosen = loss, penalty
            head.linear.weight.copy_(weight)
            head.linear.bias.copy_(bias)
    return chosen


def _descend(weight: Tensor, bias: Tensor, inputs: Tensor, labels: Tensor, penalty: float) -> None:
    """Go on to the regression of this penalty from where the weights are."""
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=ROUNDS, line_search_fn="strong_wolfe")

    @torch.enable_grad()
    def loss() -> Tensor:
        optimizer.zero_grad()
        total = cross_entropy(inputs @ weight.T + bias, labels) + penalty / 2 * weight.square().sum()
        total.backward()
        return total

    with torch.enable_grad():
        optimizer.step(loss)
