"""One update of the classifier on a batch, written out: torch's own kernels in the order that autograd and Adam run them.

The results are theirs to the last bit. What is saved is memory: buffers are made once, where autograd asks the system for
fresh pages at every operation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hear_axlstm.evaluation.native.adam import BETA1, BETA2, EPSILON

aten = torch.ops.aten


@dataclass
class _Hidden:
    """A hidden layer and what of its last batch the backward pass needs: everything (B, H)."""

    linear: nn.Linear
    norm: nn.BatchNorm1d
    dropout: float
    sums: Tensor  # before the norm
    active: Tensor  # after the ReLU
    mask: Tensor
    grad: Tensor
    mean: Tensor
    invstd: Tensor


class Step:
    """Trains a network of ``build_network`` in place. loss: (B, C) logits and (B, C) targets -> a number."""

    def __init__(self, network: nn.Sequential, loss: Callable[[Tensor, Tensor], Tensor], lr: float, batch_size: int) -> None:
        *hidden, projection = network
        assert isinstance(projection, nn.Linear)
        self._loss = loss
        self._adam = _Adam(list(network.parameters()), lr)
        self._hidden = [_hidden(hidden[first : first + 3], batch_size) for first in range(0, len(hidden), 4)]
        self._projection = projection

    @torch.no_grad()
    def __call__(self, x: Tensor, targets: Tensor) -> None:
        """x: (B, D); targets: (B, C)."""
        count = len(x)
        inputs = [x]
        for layer in self._hidden:
            sums, active, mask = layer.sums[:count], layer.active[:count], layer.mask[:count]
            torch.addmm(layer.linear.bias, inputs[-1], layer.linear.weight.t(), out=sums)
            norm = layer.norm
            aten.native_batch_norm.out(
                sums, norm.weight, norm.bias, norm.running_mean, norm.running_var, True, norm.momentum, norm.eps,
                out=active, save_mean=layer.mean, save_invstd=layer.invstd,
            )  # fmt: skip
            if layer.dropout:
                active.mul_(mask.bernoulli_(1 - layer.dropout).div_(1 - layer.dropout))
            inputs.append(active.clamp_min_(0))
        above = self._projection
        logits = torch.addmm(above.bias, inputs[-1], above.weight.t())
        with torch.enable_grad():
            (delta,) = torch.autograd.grad(self._loss(logits.requires_grad_(), targets), logits)
        _gradients(above, delta, inputs.pop())
        for layer in reversed(self._hidden):
            grad = torch.mm(delta, above.weight, out=layer.grad[:count])
            aten.threshold_backward.grad_input(grad, layer.active[:count], 0, grad_input=grad)
            if layer.dropout:
                grad.mul_(layer.mask[:count])
            norm, above = layer.norm, layer.linear
            delta, norm.weight.grad, norm.bias.grad = aten.native_batch_norm_backward(
                grad, layer.sums[:count], norm.weight, norm.running_mean, norm.running_var, layer.mean, layer.invstd,
                True, norm.eps, [True, True, True],
            )  # fmt: skip
            _gradients(above, delta, inputs.pop())
        self._adam.step()


def _gradients(linear: nn.Linear, delta: Tensor, inputs: Tensor) -> None:
    """Of its parameters. Shape: delta (B, outputs), inputs (B, inputs)."""
    torch.mm(delta.t(), inputs, out=linear.weight.grad)
    torch.sum(delta, 0, out=linear.bias.grad)


def _hidden(modules: list[nn.Module], batch_size: int) -> _Hidden:
    linear, norm, dropout = modules
    assert isinstance(linear, nn.Linear)
    assert isinstance(norm, nn.BatchNorm1d)
    assert isinstance(dropout, nn.Dropout)
    sums, active, mask, grad = torch.empty(4, batch_size, linear.out_features)
    mean, invstd = torch.empty(2, linear.out_features)
    return _Hidden(linear, norm, dropout.p, sums, active, mask, grad, mean, invstd)


class _Adam:
    """torch.optim.Adam for few large parameters; gradients are kept in the same buffers throughout."""

    def __init__(self, parameters: list[nn.Parameter], lr: float) -> None:
        self._lr = lr
        self._steps = 0
        self._parameters = parameters
        for parameter in parameters:
            parameter.grad = torch.empty_like(parameter)
        self._moments = [(torch.zeros_like(p), torch.zeros_like(p), torch.empty_like(p)) for p in parameters]

    def step(self) -> None:
        self._steps += 1
        size = self._lr / (1 - BETA1**self._steps)
        correction = (1 - BETA2**self._steps) ** 0.5
        for parameter, (mean, square, scale) in zip(self._parameters, self._moments, strict=True):
            assert parameter.grad is not None
            mean.lerp_(parameter.grad, 1 - BETA1)
            square.mul_(BETA2).addcmul_(parameter.grad, parameter.grad, value=1 - BETA2)
            torch.sqrt(square, out=scale).div_(correction).add_(EPSILON)
            parameter.addcdiv_(mean, scale, value=-size)
