"""Log-mel chunks (B, N, F) -> patches, where they lie, and tokens back to steps in time. Stage 2 of 4."""

from __future__ import annotations

import torch
from torch import Tensor

from hear_axlstm.config import Layout


def patchify(spectrogram: Tensor, patch: tuple[int, int]) -> Tensor:
    """Cut a chunk into patches, time-major: patch n covers column n // rows and row n % rows.

    Shape: (B, N, F) -> (B, columns * rows, frames * bands); the values of a patch run over time, then frequency.

    >>> patchify(torch.zeros(2, 200, 80), (4, 16)).shape
    torch.Size([2, 250, 64])
    """
    frames, bands = patch
    batch, height, width = spectrogram.shape
    blocks = spectrogram.reshape(batch, height // frames, frames, width // bands, bands)
    return blocks.transpose(2, 3).reshape(batch, -1, frames * bands)


def sincos_positions(width: int, grid: tuple[int, int]) -> Tensor:
    """Fixed positions (1, 1 + columns * rows, width); the class token's, first, is zero.

    The first half of the channels encodes the frequency row, the second the time column (the released checkpoints'
    order), each half as [sin(p w), cos(p w)] with w_k = 10000^(-k / (width / 4)).
    """
    columns, rows = grid
    omega = 10_000.0 ** -(torch.arange(width // 4, device="cpu", dtype=torch.float64) / (width // 4))

    def encode(count: int) -> Tensor:
        angle = torch.arange(count, device="cpu", dtype=torch.float64)[:, None] * omega
        return torch.cat([angle.sin(), angle.cos()], dim=1)

    table = torch.cat([encode(rows).repeat(columns, 1), encode(columns).repeat_interleave(rows, dim=0)], dim=1)
    table = torch.cat([torch.zeros(1, width, device="cpu", dtype=torch.float64), table]).float().unsqueeze(0)
    return table.to(torch.get_default_device())


def steps_from_tokens(tokens: Tensor, grid: tuple[int, int], layout: Layout) -> Tensor:
    """Group the tokens of a chunk into one step per patch column, ``rows`` tokens side by side.

    Token n covers column n // rows and row n % rows. With 4 columns and 2 rows:

        layout "time":      step 0 = tokens 0 1, step 1 = tokens 2 3, ...    one moment, low band first
        layout "released":  step 0 = tokens 0 4, step 1 = tokens 1 5, ...    as if tokens were frequency-major

    The second is what the published scores were made with: its steps mix time and frequency.

    Shape: (..., columns * rows, D) -> (..., columns, rows * D).
    """
    columns, rows = grid
    if layout == "time":
        return tokens.unflatten(-2, (columns, rows)).flatten(-2)
    return tokens.unflatten(-2, (rows, columns)).transpose(-3, -2).flatten(-2)
