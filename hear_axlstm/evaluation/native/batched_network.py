"""Embeddings (N, D) that many classifiers share -> their logits (R, N, C), and the gradients of their training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hear_axlstm.evaluation.native.stack import Stack

EPSILON, MOMENTUM = 1e-5, 0.1  # of batch norm
ROWS_AT_ONCE = 1_024  # of what is only classified

Shapes = list[tuple[int, ...]]
Dropout = Callable[[Tensor], None]  # fills (R, B, H) with the factors of a layer's dropout; asked layer by layer


class BatchedNetwork:
    """R classifiers of one shape, as in network.py.

    parameters: of each hidden layer weight (H, inputs), bias, scale and shift (H,); then weight (C, inputs) and bias (C,).
    statistics: of each hidden layer the running mean and variance (H,).

    The first layer of all of them is a single matrix product, for they see the same embeddings; where it matters, arrays
    (R, B, H) are therefore kept as (B, R, H) in memory.
    """

    def __init__(self, hidden_layers: int, parameters: Stack, statistics: Stack) -> None:
        self.parameters, self.statistics = parameters, statistics
        *self._hidden, self._last = _layers(hidden_layers, parameters)
        self._running = list(zip(statistics.views[::2], statistics.views[1::2], strict=True))

    @classmethod
    def start(cls, linear: Sequence[list[tuple[Tensor, Tensor]]], device: torch.device) -> BatchedNetwork:
        """From weight and bias of each linear layer of each network. Batch norms are 1 and 0, as they begin."""
        *hidden, last = linear[0]
        sizes = [weight.shape[0] for weight, _ in hidden]
        parameters: Shapes = []
        for weight, bias in hidden:
            parameters += [tuple(weight.shape), *[tuple(bias.shape)] * 3]
        parameters += [tuple(tensor.shape) for tensor in last]
        network = cls(
            len(hidden),
            Stack(parameters, len(linear), device),
            Stack([(size,) for size in sizes for _ in range(2)], len(linear), device),
        )
        for layer, own in zip([*network._hidden, network._last], zip(*linear, strict=True), strict=True):
            for tensors, out in zip(zip(*own, strict=True), layer, strict=False):
                torch.stack(tensors, out=out)
        for (_, _, scale, _), (_, variance) in zip(network._hidden, network._running, strict=True):
            scale.fill_(1)
            variance.fill_(1)
        return network

    def select(self, rows: Tensor) -> BatchedNetwork:
        """The networks ``rows`` only."""
        return BatchedNetwork(len(self._hidden), self.parameters.select(rows), self.statistics.select(rows))

    def take(self, other: BatchedNetwork, where: Tensor) -> None:
        """The other's networks that ``where`` (R,) is true for."""
        self.parameters.take(other.parameters, where)
        self.statistics.take(other.statistics, where)

    def logits(self, x: Tensor) -> Tensor:
        """As trained so far, with running statistics and without dropout. Shape: x (N, D) -> (R, N, C)."""
        return torch.cat([self._logits(rows) for rows in x.split(ROWS_AT_ONCE)], dim=1)

    def _logits(self, x: Tensor) -> Tensor:
        for (weight, bias, scale, shift), (mean, variance) in zip(self._hidden, self._running, strict=True):
            factor = scale * (variance + EPSILON).rsqrt()
            x = torch.addcmul((shift - mean * factor)[:, None], _linear(x, weight, bias), factor[:, None]).relu_()
        return _linear(x, *self._last)

    def gradients(self, x: Tensor, slope: Callable[[Tensor], Tensor], dropout: Dropout, out: Stack) -> None:
        """Of each network's loss on a batch, as parameters have them, into ``out``. Updates the running statistics.

        slope: logits (R, B, C) -> gradient of the loss with respect to them. Shape: x (B, D), B at least 2.
        """
        batch = len(x)
        inputs, saved = [x], []
        for (weight, bias, scale, shift), (mean, variance) in zip(self._hidden, self._running, strict=True):
            z = _linear(inputs[-1], weight, bias)
            batch_variance, batch_mean = torch.var_mean(z, 1, correction=0)
            mean.lerp_(batch_mean, MOMENTUM)
            variance.lerp_(batch_variance * (batch / (batch - 1)), MOMENTUM)
            root = (batch_variance + EPSILON).rsqrt_()
            z.sub_(batch_mean[:, None]).mul_(root[:, None])
            factors = torch.empty_like(z)
            dropout(factors)
            active = torch.addcmul(shift[:, None], z, scale[:, None]).mul_(factors).relu_()
            inputs.append(active)
            saved.append((z, factors.mul_(active > 0), scale * root))
        slopes = slope(_linear(inputs[-1], *self._last))
        *hidden, last = _layers(len(self._hidden), out)
        _linear_gradients(inputs.pop(), slopes, last)
        above = self._last[0]
        for layer, (weight, _, _, _) in zip(reversed(hidden), reversed(self._hidden), strict=True):
            z, factors, root = saved.pop()
            slopes = torch.mul(torch.bmm(slopes, above), factors, out=factors)
            torch.sum(slopes, 1, out=layer[3])
            torch.sum(slopes * z, 1, out=layer[2])
            slopes.sub_(layer[3][:, None] / batch).addcmul_(z, layer[2][:, None], value=-1 / batch).mul_(root[:, None])
            _linear_gradients(inputs.pop(), slopes, layer)
            above = weight


def _layers(hidden_layers: int, stack: Stack) -> list[list[Tensor]]:
    views = stack.views
    return [*(views[4 * index : 4 * index + 4] for index in range(hidden_layers)), views[4 * hidden_layers :]]


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Shape: x (B, inputs) for all or (R, B, inputs) -> (R, B, outputs)."""
    if x.ndim == 3:
        return torch.baddbmm(bias[:, None], x, weight.mT)
    return torch.addmm(bias.flatten(), x, weight.flatten(0, 1).T).view(len(x), *bias.shape).transpose(0, 1)


def _linear_gradients(x: Tensor, slopes: Tensor, out: Sequence[Tensor]) -> None:
    """Those of weight and bias. Shape: x as in ``_linear``, slopes (R, B, outputs)."""
    weight, bias = out[:2]
    torch.sum(slopes, 1, out=bias)
    if x.ndim == 3:
        torch.bmm(slopes.mT, x, out=weight)
    else:
        torch.mm(slopes.transpose(0, 1).reshape(len(x), -1).T, x, out=weight.flatten(0, 1))
