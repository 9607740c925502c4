"""Operands of the recurrent operations, and what comes of them when their tokens are cut into pieces."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

HEADS, STATES = 4, 24
LENGTH = 17
CUTS = [(17,), (1,) * 17, (5, 5, 5, 2), (6, 1, 10)]


def mlstm_operands(streams: int = 2, length: int = LENGTH, inner: int = 48, gate_scale: float = 3.0) -> list[Tensor]:
    """c, v, z, gates, mix, norm_weight, skip; z as the block lays it out, half of every row."""
    c, v, z = *torch.randn(2, streams, length, inner), torch.randn(streams, length, 2 * inner)[..., inner:]
    gates = gate_scale * torch.randn(streams, length, 2 * HEADS)
    return [c, v, z, gates, torch.randn(inner // 4, 4, 4), torch.randn(inner), torch.randn(inner)]


def mlstm_states(places: int, inner: int = 48, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """memory, normal and m before the first token."""
    width = inner // HEADS
    shapes = (places, HEADS, width, width), (places, HEADS, width), (places, HEADS)
    return [torch.full(shape, first, dtype=dtype) for shape, first in zip(shapes, (0.0, 0.0, -math.inf), strict=True)]


def scan_operands(streams: int = 2, length: int = LENGTH, inner: int = 48) -> list[Tensor]:
    """x, step, step_bias, a, b, c, d, z; b, c and z as the block lays them out, parts of rows."""
    x, step, z = *torch.randn(2, streams, length, inner), torch.randn(streams, length, 2 * inner)[..., inner:]
    _, b, c = torch.randn(streams, length, 3 + 2 * STATES).split([3, STATES, STATES], dim=-1)
    a = -torch.arange(1.0, STATES + 1) * (0.5 + torch.rand(inner, 1))
    return [x, step, torch.randn(inner), a, b, c, torch.randn(inner), z]


def scan_states(places: int, inner: int = 48, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """The state before the first token."""
    return [torch.zeros(places, STATES, inner, dtype=dtype)]


def in_pieces(
    operation: Callable[..., Tensor],
    operands: Sequence[Tensor],
    states: Sequence[Tensor],
    cuts: Sequence[int],
    places: Sequence[int] | None = None,
    **options: Any,
) -> Tensor:
    """The operation of so many tokens at a time, one call after the other."""
    index = None if places is None else torch.tensor(places)
    pieces = zip(
        *([x] * len(cuts) if x.ndim < 3 or x.shape[1:] == (4, 4) else x.split(cuts, 1) for x in operands), strict=True
    )
    return torch.cat([operation(*piece, *states, index, **options) for piece in pieces], dim=1)
