"""A recording of any length -> its embedding, piece by piece, without its samples or spectrogram ever being held."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hear_axlstm.audio import Wave, warn_if_loud
from hear_axlstm.config import CHUNK_FRAMES
from hear_axlstm.embedder import Embedder
from hear_axlstm.encoder import Layers
from hear_axlstm.errors import AudioError
from hear_axlstm.frontend import STD_OFFSET, log_mel_power
from hear_axlstm.ops.backend import threads_of_a_call
from hear_axlstm.patches import scene_steps, timestamp_steps, timestamps_ms
from hear_axlstm.stream.standards import Tally
from hear_axlstm.stream.windows import Windows

PIECE_CHUNKS = 256  # chunks whose log-mel is computed at once
HELD_FRAMES = (
    4 * 360_000
)  # log-mel frames that are kept between the two passes: 4 hours; a longer recording is decoded twice


def embed_long(
    decode: Callable[[], Iterable[Wave]],
    model: Embedder,
    *,
    timestamps: bool = False,
    layers: Layers | None = None,
    name: str = "audio",
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """The embedding of one recording, and with ``timestamps`` the centres of its steps in ms.

    Equal to what ``model`` gives of the whole, up to rounding: a first pass measures the spectrogram's mean and deviation,
    a second one standardises and encodes it.

    decode: called for each pass, gives the samples of the same recording, mono at 16 kHz, in blocks of any length.
    name: what the log calls it when it is far too loud.

    Shape: -> ([layers,] E) and None; with timestamps ([layers,] N, E) and (N,). Raises AudioError when the recording cannot
    be embedded, or changes between the passes.
    """
    with torch.inference_mode(), threads_of_a_call(model.device):
        pieces = _Pieces(decode, model)
        warn_if_loud(pieces.peak, name)
        length = pieces.samples
        grid, patch = model.encoder.config.grid, model.encoder.config.patch
        count = timestamp_steps(length, patch[0]) if timestamps else scene_steps(length, grid[0])
        total: Tensor | None = None
        for number, mel in enumerate(pieces):
            first = number * PIECE_CHUNKS * grid[0]
            counts = [min(max(count - first, 0), PIECE_CHUNKS * grid[0])]
            for _, place, steps in model.steps(mel, counts, "time" if timestamps else model.layout, layers):
                if total is None:
                    shape = (*steps.shape[:-3], *([count] if timestamps else []), steps.shape[-1])
                    total = torch.zeros(shape, device="cpu", dtype=torch.float32 if timestamps else torch.float64)
                if not timestamps:
                    total += steps.sum((-3, -2), dtype=torch.float64).cpu()
                    continue
                begin = first + int(place[0]) * grid[0]
                rows = total[..., begin : begin + steps.shape[-3] * grid[0], :]
                rows.copy_(steps.flatten(-3, -2)[..., : rows.shape[-2], :])
        assert total is not None
        if timestamps:
            return total.numpy(), timestamps_ms([length], patch[0])[0].numpy()
        return (total / count).float().numpy(), None


class _Pieces:
    """The standardised log-mel of a recording, (1, N, F) each, ``PIECE_CHUNKS`` chunks at a time.

    samples: the recording's length. peak: its largest value.
    """

    def __init__(self, decode: Callable[[], Iterable[Wave]], model: Embedder) -> None:
        self._decode, self._device = decode, model.device
        self._dtype = torch.float64 if model.compute_dtype == torch.float64 else torch.float32
        self._held: list[Tensor] | None = []
        self.samples, self.peak, self._frames = 0, 0.0, 0
        tally = Tally()
        for mel in self._log_mels(count=True):
            tally.add(mel[0].double().cpu().numpy())
            self._frames += mel.shape[1]
            if self._held is not None:
                self._held.append(mel)
            if self._frames > HELD_FRAMES:
                self._held = None
        self._first, self._statistics = tally.first, tally.about_first
        if not math.isfinite(self._statistics.deviation):
            raise AudioError(
                "holds NaN, infinity or samples too large to analyse; expected finite samples in [-1, 1]: mend the file"
            )

    def __iter__(self) -> Iterator[Tensor]:
        frames, (mean, deviation) = 0, self._statistics
        for mel in self._log_mels() if self._held is None else self._held:
            yield ((mel - self._first) - mean) / (deviation + STD_OFFSET)
            frames += mel.shape[1]
        if frames != self._frames:
            raise AudioError("changed while it was read; repeat the command when nothing writes to it any more")

    def _log_mels(self, *, count: bool = False) -> Iterator[Tensor]:
        """The log-mel as ``log_mel_frames`` gives it of the whole. Shape: (1, N, F), whole chunks but for the last."""
        size = PIECE_CHUNKS * CHUNK_FRAMES
        windows = Windows(size)

        def analysed(wave: Wave) -> Iterator[Tensor]:
            if len(wave):
                mel = log_mel_power(torch.from_numpy(wave)[None].to(self._device, self._dtype))
                yield from mel.split(size, dim=1)

        for block in self._decode():
            if count:
                self.peak = max(self.peak, float(np.abs(block).max(initial=0.0)))
            yield from analysed(windows.push(block))
        self.samples = windows.samples
        yield from analysed(windows.end())
