"""Many classifiers of one shape on the embeddings (N, D) that they share: their draws, logits, gradients and steps of Adam.

The same tensor of all networks lies in one piece of memory, so that one operation does it for all.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from hear_axlstm.evaluation.native.network import INITIALIZATIONS
from hear_axlstm.evaluation.protocols import Settings

BATCH_NORM_EPSILON, MOMENTUM = 1e-5, 0.1  # batch norm, as torch.nn has it
BETA1, BETA2, ADAM_EPSILON = 0.9, 0.999, 1e-8  # Adam (Kingma & Ba, 2015), as torch.optim has it
ROWS_AT_ONCE = 1_024  # how many clips are classified at once, which bounds the memory of their activations

Shapes = list[tuple[int, ...]]
Dropout = Callable[[Tensor], None]  # fills (R, B, H) with the factors of a layer's dropout; called layer by layer


class TrainingDraws:
    """The random numbers of one training: its network's first parameters, and the masks of its dropout.

    Each training has a generator to itself, so that nothing trained beside it changes its draws. key: tells the training
    from all others; equal keys give equal draws on the same kind of device.
    """

    def __init__(self, *key: object, device: torch.device) -> None:
        digest = hashlib.sha256("\n".join(map(str, key)).encode()).digest()
        self._device = device
        self._generator = torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)

    def linear(self, settings: Settings, width: int, labels: int) -> list[tuple[Tensor, Tensor]]:
        """First weight (outputs, inputs) and bias (outputs,) of each linear layer, distributed as in ``build_network``."""
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
        """Set each number of ``mask`` (B, H) to 1 with this probability, to 0 otherwise. Called layer by layer."""
        mask.bernoulli_(probability, generator=self._generator)


class Stack:
    """The tensors of ``count`` networks, each with tensors of these shapes, zero at first.

    flat: all numbers, (count * numbers of one network,). views: for each shape, (count, *shape), contiguous, within flat.
    """

    def __init__(self, shapes: Sequence[tuple[int, ...]], count: int, device: torch.device) -> None:
        self.shapes, self.count = tuple(shapes), count
        self.flat = torch.zeros(count * self.numbers(shapes), device=device)
        sizes = [count * math.prod(shape) for shape in shapes]
        self.views = [part.view(count, *shape) for part, shape in zip(self.flat.split(sizes), shapes, strict=True)]

    @staticmethod
    def numbers(shapes: Sequence[tuple[int, ...]]) -> int:
        """How many numbers one network's tensors hold."""
        return sum(map(math.prod, shapes))

    def empty_like(self) -> Stack:
        """Another stack for as many networks and the same shapes, zero."""
        return Stack(self.shapes, self.count, self.flat.device)

    def take(self, other: Stack, where: Tensor) -> None:
        """Take over the other's tensors of the networks that ``where`` (count,) is true for."""
        for mine, theirs in zip(self.views, other.views, strict=True):
            torch.where(along(where, mine), theirs, mine, out=mine)

    def select(self, rows: Tensor) -> Stack:
        """A new stack with the tensors of the networks ``rows`` (n,) only."""
        chosen = Stack(self.shapes, len(rows), self.flat.device)
        for mine, theirs in zip(chosen.views, self.views, strict=True):
            torch.index_select(theirs, 0, rows, out=mine)
        return chosen


def along(values: Tensor, tensor: Tensor) -> Tensor:
    """One value a network (R,), shaped to be combined with a tensor (R, ...)."""
    return values.view(-1, *[1] * (tensor.ndim - 1))


class BatchedNetwork:
    """R classifiers of one shape, the same as network.py makes.

    parameters: for each hidden layer weight (H, inputs), bias, scale and shift (H,); then weight (C, inputs) and bias (C,).
    statistics: for each hidden layer the running mean and variance (H,).

    The first layer of all of them is a single matrix product, for they see the same embeddings; where it matters, arrays
    (R, B, H) are therefore kept as (B, R, H) in memory.
    """

    def __init__(self, hidden_layers: int, parameters: Stack, statistics: Stack) -> None:
        self.parameters, self.statistics = parameters, statistics
        *self._hidden, self._last = _layers(hidden_layers, parameters)
        self._running = list(zip(statistics.views[::2], statistics.views[1::2], strict=True))

    @classmethod
    def start(cls, linear: Sequence[list[tuple[Tensor, Tensor]]], device: torch.device) -> BatchedNetwork:
        """Networks with the given weight and bias of each linear layer, batch norms at 1 and 0.

        linear: network -> layer -> (weight, bias).
        """
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
        """New networks, equal to the networks ``rows`` (n,)."""
        return BatchedNetwork(len(self._hidden), self.parameters.select(rows), self.statistics.select(rows))

    def take(self, other: BatchedNetwork, where: Tensor) -> None:
        """Take over the other's networks that ``where`` (R,) is true for."""
        self.parameters.take(other.parameters, where)
        self.statistics.take(other.statistics, where)

    def logits(self, x: Tensor) -> Tensor:
        """The logits of every network, with running statistics and without dropout. Shape: x (N, D) -> (R, N, C)."""
        return torch.cat([self._logits(rows) for rows in x.split(ROWS_AT_ONCE)], dim=1)

    def _logits(self, x: Tensor) -> Tensor:
        for (weight, bias, scale, shift), (mean, variance) in zip(self._hidden, self._running, strict=True):
            factor = scale * (variance + BATCH_NORM_EPSILON).rsqrt()
            x = torch.addcmul((shift - mean * factor)[:, None], _linear(x, weight, bias), factor[:, None]).relu_()
        return _linear(x, *self._last)

    def gradients(self, x: Tensor, slope: Callable[[Tensor], Tensor], dropout: Dropout, out: Stack) -> None:
        """Write the gradients of each network's loss on a batch into ``out``, and update the running statistics.

        slope: logits (R, B, C) -> gradient of the loss with respect to them. Shape: x (B, D), B at least 2.
        """
        batch = len(x)
        inputs, saved = [x], []
        for (weight, bias, scale, shift), (mean, variance) in zip(self._hidden, self._running, strict=True):
            z = _linear(inputs[-1], weight, bias)
            batch_variance, batch_mean = torch.var_mean(z, 1, correction=0)
            mean.lerp_(batch_mean, MOMENTUM)
            variance.lerp_(batch_variance * (batch / (batch - 1)), MOMENTUM)
            root = (batch_variance + BATCH_NORM_EPSILON).rsqrt_()
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


class Adam:
    """The rule of torch.optim.Adam with its defaults, and a learning rate for each network. lr: (R,)."""

    def __init__(self, parameters: Stack, lr: Tensor) -> None:
        self._lr = lr
        self._steps = 0
        self._mean, self._square = parameters.empty_like(), parameters.empty_like()

    def step(self, parameters: Stack, gradients: Stack) -> None:
        """Update the parameters of all networks. The gradients are overwritten."""
        self._steps += 1
        correction = math.sqrt(1 - BETA2**self._steps)  # for the root of the squares; the one for the mean is below
        update = gradients.flat
        self._mean.flat.lerp_(update, 1 - BETA1)
        self._square.flat.mul_(BETA2).addcmul_(update, update, value=1 - BETA2)
        torch.sqrt(self._square.flat, out=update).add_(ADAM_EPSILON * correction)
        torch.div(self._mean.flat, update, out=update)
        for parameter, change in zip(parameters.views, gradients.views, strict=True):
            parameter.addcmul_(change, along(self._lr, change), value=-correction / (1 - BETA1**self._steps))

    def select(self, rows: Tensor) -> None:
        """Go on with the networks ``rows`` (n,) only."""
        self._lr = self._lr[rows]
        self._mean, self._square = self._mean.select(rows), self._square.select(rows)


def _layers(hidden_layers: int, stack: Stack) -> list[list[Tensor]]:
    """The views of a stack of parameters, layer by layer."""
    views = stack.views
    return [*(views[4 * index : 4 * index + 4] for index in range(hidden_layers)), views[4 * hidden_layers :]]


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear layer of every network. Shape: x (B, inputs) for all or (R, B, inputs) -> (R, B, outputs)."""
    if x.ndim == 3:
        return torch.baddbmm(bias[:, None], x, weight.mT)
    return torch.addmm(bias.flatten(), x, weight.flatten(0, 1).T).view(len(x), *bias.shape).transpose(0, 1)


def _linear_gradients(x: Tensor, slopes: Tensor, out: Sequence[Tensor]) -> None:
    """Gradients of weight and bias into ``out``. Shape: x as in ``_linear``, slopes (R, B, outputs)."""
    weight, bias = out[:2]
    torch.sum(slopes, 1, out=bias)
    if x.ndim == 3:
        torch.bmm(slopes.mT, x, out=weight)
    else:
        torch.mm(slopes.transpose(0, 1).reshape(len(x), -1).T, x, out=weight.flatten(0, 1))
