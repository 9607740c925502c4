"""A sound, some patches of which are hidden -> what an encoder guesses of them, as arrays and numbers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hear_axlstm.audio import Wave, to_wave
from hear_axlstm.audio.addresses import short_name
from hear_axlstm.config import CHUNK_FRAMES, HOP, HOP_MS, MIN_SAMPLES, N_MELS, SAMPLE_RATE, EncoderConfig, require
from hear_axlstm.embedder import Embedder
from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import ConfigError
from hear_axlstm.frontend import log_mel
from hear_axlstm.hear import load_model
from hear_axlstm.ops.backend import threads_of_a_call
from hear_axlstm.pretraining.objective import random_mask, unpatchify
from hear_axlstm.synthesis.draws import Draws
from hear_axlstm.weights.check import require_values
from hear_axlstm.weights.find import find_weights
from hear_axlstm.weights.load import read_header
from hear_axlstm.weights.names import weights_name

SECONDS = 10  # that are shown at most: as long as the clips that shards have by default
UNTRAINED = "the head that guesses was never trained, so that what it guesses says nothing of the encoder"
FINETUNED = (
    "these weights were fine-tuned, and the head that guesses was not: it belongs to the weights that they were made from, "
    "which guess better"
)

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What an encoder guesses of a sound of which patches are hidden: N frames of 10 ms, 80 mel bands.

    log_mel: (N, 80), float32, standardised over the stretch of sound that is shown. mask: (N, 80), bool, true where a patch
    is hidden. guess: (N, 80), float32: what the head says of every patch, hidden or not. times: (N,), float64, the middle
    of each frame in ms from the beginning of the sound. name: of the sound. model: what the weights are called. mask_ratio:
    the share of the patches that is hidden. notes: what somebody who looks at it must know, in sentences.

    Losses are mean squared errors in deviations of the log-mel; a head that is trained on hidden patches alone, as the
    papers' are, has learnt nothing of the others.
    """

    log_mel: Array
    mask: NDArray[np.bool_]
    guess: Array
    times: NDArray[np.float64]
    name: str = "sound"
    model: str = ""
    mask_ratio: float = 0.5
    notes: list[str] = field(default_factory=list)

    @cached_property
    def error(self) -> Array:
        """How far the guess is above the log-mel, (N, 80)."""
        return self.guess - self.log_mel

    @cached_property
    def loss(self) -> float:
        """The loss over the hidden patches, which is what ``pretrain`` learns from. Not a number where none is."""
        return _mean_square(self.error[self.mask])

    @cached_property
    def loss_of_all(self) -> float:
        """The loss over all patches."""
        return _mean_square(self.error)

    @cached_property
    def loss_of_mean(self) -> float:
        """The loss over the hidden patches of somebody who always guesses 0, the mean of the sound."""
        return _mean_square(self.log_mel[self.mask])

    @cached_property
    def loss_of_bands(self) -> float:
        """The loss over the hidden patches of somebody who guesses, in every band, the mean of what is not hidden of it."""
        seen = ~self.mask
        means = (self.log_mel * seen).sum(0, dtype=np.float64) / seen.sum(0).clip(min=1)
        return _mean_square((self.log_mel - means)[self.mask])

    def draw(self, out: str | os.PathLike[str]) -> None:
        """Draw all this as one picture, a file that ends in .png, .pdf or .svg.

        Raises ConfigError on another ending and without matplotlib, OSError where the file cannot be written.
        """
        from hear_axlstm.pretraining.picture import write_picture

        write_picture(self, Path(os.path.expanduser(out)))

    def __len__(self) -> int:
        return len(self.log_mel)

    @property
    def summary(self) -> str:
        """How well it is guessed, in words."""
        hidden = f"{self.mask_ratio:.0%} of the patches are hidden. Their loss is {self.loss:.3f}"
        trivial = f"the mean of the sound has {self.loss_of_mean:.3f} and that of each band {self.loss_of_bands:.3f}"
        return f"{hidden}, where {trivial}."

    def __repr__(self) -> str:
        seconds = len(self) * HOP_MS / 1_000
        return "\n".join([f"{self.name}, {seconds:.1f} s, as {self.model} guesses it", self.summary, *self.notes])


def reconstruction(
    sound: Any,
    model: Encoder | Embedder | str | os.PathLike[str] = "",
    *,
    mask_ratio: float = 0.5,
    seed: int = 0,
    start: float = 0.0,
    sample_rate: float | None = None,
    device: str | torch.device = "cpu",
) -> Reconstruction:
    """What an encoder guesses of a sound, up to 10 s of it, when patches are hidden from it, as in its pretraining.

    The stretch that is shown is a clip of its own, standardised over its own length, as pretraining does with clips of 10 s.
    The encoder sees it in chunks of 2 s, the last one filled up with zeros, as it does when it embeds.

    sound: in any form that ``embed`` takes; sample_rate: of samples that come without. model: as ``load_model`` takes it,
    what that returns, or an encoder. mask_ratio: the share of the patches of every chunk to hide, between 0 and 1. seed:
    every seed hides others; a chunk's depend on it and on the chunk's number alone. start: seconds into the sound. device:
    of weights that are named, "cpu", "cuda" or "auto".

    Raises ConfigError on a bad option, AudioError on a sound that cannot be read, WeightsError on weights that cannot.
    """
    chosen, dtype, notes = _chosen(model, device)
    check_mask_ratio(mask_ratio, chosen.config)
    require(type(seed) is int and 0 <= seed < 2**63, f"seed is {seed!r}; expected a whole number from 0, below 2^63")
    name = short_name(sound)
    wave = to_wave(sound, sample_rate, name)
    return of_wave(
        _stretch(wave, start), chosen, dtype, mask_ratio, seed, start_ms=1_000 * start, name=name,
        model=weights_name(chosen), notes=notes,
    )  # fmt: skip


def of_wave(
    wave: Wave,
    encoder: Encoder,
    dtype: torch.dtype,
    mask_ratio: float,
    seed: int = 0,
    *,
    start_ms: float = 0.0,
    name: str = "sound",
    model: str = "",
    notes: Sequence[str] = (),
) -> Reconstruction:
    """What an encoder guesses of a clip, (T,), that is shown whole. dtype: of matrix products."""
    frames = len(wave) // HOP  # whole ones: the last of 2 s would be a chunk of its own
    mel = log_mel(torch.from_numpy(np.array(wave, np.float32))[None])[:, :frames]
    chunks = nn.functional.pad(mel, (0, 0, 0, -frames % CHUNK_FRAMES)).unflatten(1, (-1, CHUNK_FRAMES))[0]
    columns, rows = encoder.config.grid
    mask = random_mask(Draws(torch.arange(len(chunks)), seed), columns * rows, mask_ratio)
    guess = _guesses(encoder, chunks, mask, dtype)
    patch = encoder.config.patch
    hidden = unpatchify(mask[..., None].expand(-1, -1, patch[0] * patch[1]), patch)
    return Reconstruction(
        mel[0].numpy(), _frames(hidden, frames), _frames(guess, frames), start_ms + HOP_MS * np.arange(frames, dtype=float),
        name, model, mask_ratio, list(notes),
    )  # fmt: skip


@torch.no_grad()
def _guesses(encoder: Encoder, chunks: Tensor, mask: Tensor, dtype: torch.dtype) -> Tensor:
    """The head's guess of all patches. Shape: (C, 200, 80), (C, L) -> (C, 200, 80), float32, on the CPU."""
    weight = encoder.patch_embed.weight
    with torch.autocast(weight.device.type, dtype=dtype, enabled=dtype != weight.dtype), threads_of_a_call(weight.device):
        guess = encoder.reconstruct(chunks.to(weight.device), mask.to(weight.device))
    return unpatchify(guess.float().cpu(), encoder.config.patch)


def check_mask_ratio(ratio: Any, config: EncoderConfig) -> None:
    """Raise ConfigError unless a share of a chunk's patches, neither none nor all of them, can be hidden."""
    patches = config.grid[0] * config.grid[1]
    is_number = isinstance(ratio, Real) and not isinstance(ratio, bool) and 0 < float(ratio) < 1
    fine = is_number and 0 < round(float(ratio) * patches) < patches
    require(fine, f"mask_ratio is {ratio!r}; expected a share between 0 and 1 that hides some of {patches} patches, not all")


def _chosen(model: Any, device: str | torch.device) -> tuple[Encoder, torch.dtype, list[str]]:
    """The encoder that is meant, the dtype that it computes in, and what must be known of its head."""
    facts: dict[str, Any] = {}
    if isinstance(model, str | os.PathLike):
        model, facts = load_model(model, device=device), read_header(find_weights(model))
    if not isinstance(model, Embedder | Encoder):
        raise ConfigError(
            f"model is a {type(model).__name__}; expected a name, a path, an Encoder or what load_model returns"
        )
    encoder = model.encoder if isinstance(model, Embedder) else model
    require_values(encoder.patch_embed.weight.device)
    dtype = model.compute_dtype if isinstance(model, Embedder) else encoder.patch_embed.weight.dtype
    notes = []
    if not any(layer.bias.any() for layer in encoder.head if isinstance(layer, nn.Linear)):  # as they are at first
        notes.append(UNTRAINED)
    if "head" in facts or "finetuned_from" in facts.get("provenance", {}):
        notes.append(FINETUNED)
    return encoder, dtype, notes


def _stretch(wave: Wave, start: float) -> Wave:
    """Up to SECONDS of a sound. Raises ConfigError where it begins outside, or too near the end."""
    seconds = len(wave) / SAMPLE_RATE
    is_number = isinstance(start, Real) and not isinstance(start, bool)
    first = round(float(start) * SAMPLE_RATE) if is_number and 0 <= start <= seconds else -1
    there = first >= 0 and len(wave) - first >= MIN_SAMPLES
    require(there, f"start is {start!r}; expected seconds from 0, before the end of a sound of {seconds:.2f} s")
    return wave[first : first + SECONDS * SAMPLE_RATE]


def _frames(chunks: Tensor, frames: int) -> NDArray[Any]:
    """The frames of a clip in its chunks. Shape: (C, 200, 80) -> (N, 80)."""
    return chunks.reshape(-1, N_MELS)[:frames].numpy()


def _mean_square(values: Array | NDArray[np.float64]) -> float:
    return float(np.square(values, dtype=np.float64).mean()) if values.size else float("nan")
