"""The same tensors of many networks -> one piece of memory, in which each kind of tensor lies together."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


class Stack:
    """``count`` times tensors of ``shapes``, zero at first.

    flat: all of them, (count * numbers of one network,). views: for each shape, (count, *shape), contiguous, within flat.
    """

    def __init__(self, shapes: Sequence[tuple[int, ...]], count: int, device: torch.device) -> None:
        self.shapes, self.count = tuple(shapes), count
        self.flat = torch.zeros(count * self.numbers(shapes), device=device)
        sizes = [count * math.prod(shape) for shape in shapes]
        self.views = [part.view(count, *shape) for part, shape in zip(self.flat.split(sizes), shapes, strict=True)]

    @staticmethod
    def numbers(shapes: Sequence[tuple[int, ...]]) -> int:
        """Of one network."""
        return sum(map(math.prod, shapes))

    def empty_like(self) -> Stack:
        """As many tensors of these shapes, zero."""
        return Stack(self.shapes, self.count, self.flat.device)

    def take(self, other: Stack, where: Tensor) -> None:
        """The other's tensors of the networks that ``where`` (count,) is true for."""
        for mine, theirs in zip(self.views, other.views, strict=True):
            torch.where(along(where, mine), theirs, mine, out=mine)

    def select(self, rows: Tensor) -> Stack:
        """Of the networks ``rows`` (n,) only."""
        chosen = Stack(self.shapes, len(rows), self.flat.device)
        for mine, theirs in zip(chosen.views, self.views, strict=True):
            torch.index_select(theirs, 0, rows, out=mine)
        return chosen


def along(values: Tensor, tensor: Tensor) -> Tensor:
    """Values (R,) of networks, to be combined with a tensor (R, ...)."""
    return values.view(-1, *[1] * (tensor.ndim - 1))
