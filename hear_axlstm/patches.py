"""Where patches lie in a chunk, and how tokens go back to steps in time. Stage 2 of 4."""

import torch
from torch import Tensor

from hear_axlstm.config import CHUNK_FRAMES, HOP, HOP_MS, Layout


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


def scene_steps(length: int, columns: int) -> int:
    """How many steps of a clip count: the released trimming.

    Of a last chunk padded by p of 200 frames, the last floor(columns * p / 200) steps drop out, so that a clip keeps steps
    that are partly padding.
    """
    frames = 1 + length // HOP
    padding = -frames % CHUNK_FRAMES
    return (frames + padding) // CHUNK_FRAMES * columns - columns * padding // CHUNK_FRAMES


def timestamp_steps(length: int, patch_frames: int) -> int:
    """Patch columns whose centre lies within a clip, one at least.

    Column i covers frames p*i .. p*i + p - 1, centred at 160 * (p*i + (p - 1) / 2) samples.
    """
    return max(1, 1 + (2 * length - HOP * (patch_frames - 1)) // (2 * HOP * patch_frames))


def timestamps_ms(lengths: list[int], patch_frames: int) -> Tensor:
    """Centre of each column in ms, float32, (B, N); NaN beyond a clip's own columns.

    A clip too short for the centre of its only column gets the centre of the frames that it has.
    """
    steps = [timestamp_steps(length, patch_frames) for length in lengths]
    column, counts = torch.arange(max(steps), device="cpu", dtype=torch.float64), torch.tensor(steps, device="cpu")[:, None]
    centre = HOP_MS * (patch_frames * column + (patch_frames - 1) / 2)
    end = torch.tensor([HOP_MS * (length // HOP) / 2 for length in lengths], device="cpu", dtype=torch.float64)[:, None]
    return torch.where(counts == 1, centre.minimum(end), centre).masked_fill(column >= counts, torch.nan).float()
