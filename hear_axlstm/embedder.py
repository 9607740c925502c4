"""Waveforms (B, T) -> scene (B, F*D) or timestamp (B, N, F*D) embeddings. Stage 5 of 5."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hear_axlstm.config import (
    CHUNK_FRAMES,
    DEFAULT_LAYOUT,
    HOP,
    HOP_MS,
    MIN_SAMPLES,
    SAMPLE_RATE,
    Layout,
    Precision,
    check_choice,
)
from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import AudioError
from hear_axlstm.frontend import log_mel
from hear_axlstm.kernels.graphs import Inference, has_hooks
from hear_axlstm.ops.backend import Backend
from hear_axlstm.patches import steps_from_tokens

logger = logging.getLogger(__name__)

CHUNKS_PER_BATCH = {"cuda": 256}  # chunks encoded together: bounds memory for any number and length of clips
CHUNKS_PER_BATCH_ELSEWHERE = 8


@dataclass(frozen=True)
class Chunks:
    """The 2-second chunks of a batch of clips, those that are padding alone left out. Tensors (C,), on the CPU.

    clip: the row a chunk comes from. index: its place in the clip. kept: how many of its first steps count.
    """

    clip: Tensor
    index: Tensor
    kept: Tensor

    @classmethod
    def of(cls, counts: Tensor, last_kept: Tensor, steps: int) -> Chunks:
        """``counts[b]`` chunks for clip b; all ``steps`` of a chunk are kept, but ``last_kept[b]`` of a clip's last."""
        clip = torch.repeat_interleave(counts)
        first = counts.cumsum(0) - counts
        index = torch.arange(len(clip), device="cpu") - first[clip]
        kept = torch.where(index == counts[clip] - 1, last_kept[clip], steps)
        return cls(clip, index, kept)

    def __len__(self) -> int:
        return len(self.clip)

    def __getitem__(self, batch: slice) -> Chunks:
        return Chunks(self.clip[batch], self.index[batch], self.kept[batch])

    def to(self, device: torch.device) -> Chunks:
        """On the device, which is not waited for."""
        return Chunks(*(x.to(device, non_blocking=True) for x in (self.clip, self.index, self.kept)))


def scene_chunks(lengths: Tensor, steps: int) -> Chunks:
    """The released trimming: of a last chunk padded by p of 200 frames, the last floor(steps * p / 200) steps drop out.

    A clip keeps steps that are partly padding. A clip whose frames divide evenly has no padding that counts.
    """
    frames = 1 + lengths // HOP
    padding = -frames % CHUNK_FRAMES
    return Chunks.of((frames + padding) // CHUNK_FRAMES, steps - steps * padding // CHUNK_FRAMES, steps)


def timestamp_counts(lengths: Tensor, patch_frames: int) -> Tensor:
    """Patch columns whose centre lies within each clip; one at least.

    Column i covers frames p*i .. p*i + p - 1, centred at 160 * (p*i + (p - 1) / 2) samples.
    """
    counts = 1 + (2 * lengths - HOP * (patch_frames - 1)) // (2 * HOP * patch_frames)
    return counts.clamp(min=1)


def timestamps_ms(lengths: Tensor, patch_frames: int) -> Tensor:
    """Centre of each column in ms, float32, (B, N); NaN beyond a clip's own columns.

    A clip too short for the centre of its only column gets the centre of the frames that it has.
    """
    counts = timestamp_counts(lengths, patch_frames)
    column = torch.arange(int(counts.max()), device="cpu")
    centre = HOP_MS * (patch_frames * column + (patch_frames - 1) / 2)
    end = HOP_MS * (lengths // HOP) / 2
    centres = torch.where((counts == 1)[:, None], centre.minimum(end[:, None]), centre)
    return centres.masked_fill(column >= counts[:, None], torch.nan).float()


def check_audio(audio: Tensor, lengths: Tensor | Sequence[int] | None) -> Tensor:
    """The length of every clip in samples, (B,) on the CPU. Raises AudioError on anything that cannot be embedded."""
    if not isinstance(audio, Tensor):
        raise AudioError(f"audio is a {type(audio).__name__}; expected a torch.Tensor: torch.from_numpy makes one")
    if audio.ndim != 2:
        hint = "add the batch dimension with audio[None]" if audio.ndim == 1 else "average the channels to mono"
        raise AudioError(f"audio has shape {tuple(audio.shape)}; expected (n_sounds, n_samples): {hint}")
    if not audio.is_floating_point():
        raise AudioError(
            f"audio is {audio.dtype}; expected floats in [-1, 1]: divide 16-bit samples by 32768 (audio.float() / 32768)"
        )
    batch, samples = audio.shape
    if batch == 0 or samples < MIN_SAMPLES:
        raise AudioError(
            f"audio has shape {(batch, samples)}; expected at least one clip, and {MIN_SAMPLES} samples "
            f"({1000 * MIN_SAMPLES / SAMPLE_RATE:.1f} ms at 16 kHz) in each: drop or pad shorter clips"
        )
    if lengths is None:
        return torch.full((batch,), samples, device="cpu")
    try:
        own = torch.as_tensor(lengths, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise AudioError(f"lengths is {lengths!r}; expected {batch} whole numbers, the samples of each clip") from error
    if own.shape != (batch,) or own.is_floating_point() or own.is_complex() or own.dtype == torch.bool:
        raise AudioError(
            f"lengths has shape {tuple(own.shape)} and dtype {own.dtype}; expected {batch} whole numbers, "
            "the samples of each clip"
        )
    own = own.long()
    if int(own.min()) < MIN_SAMPLES or int(own.max()) > samples:
        raise AudioError(
            f"lengths run from {int(own.min())} to {int(own.max())}; expected {MIN_SAMPLES} to {samples} samples "
            "(the width of audio): drop or pad shorter clips"
        )
    return own


class Embedder(nn.Module):
    """An encoder with the path from waveform to embedding around it: the model of the HEAR API.

    layout: how tokens are grouped into steps for scene embeddings; timestamp embeddings always use "time".
    precision: what a float32 model computes in. "auto" is float16 autocast on CUDA with tensor cores, else float32.
    A model converted with ``.half()``, ``.bfloat16()`` or ``.double()`` computes in that dtype instead; half precision
    leaves norms, convolutions, gates and positions in float32, so that it is as accurate as autocast.
    backend: what runs the blocks' operations: "torch", "triton" (CUDA), "numba" (CPU, without gradients), or "auto", the
    fastest that can. One that is named and cannot run raises BackendError at the first call.
    """

    sample_rate = SAMPLE_RATE

    def __init__(
        self,
        encoder: Encoder,
        *,
        layout: Layout = DEFAULT_LAYOUT,
        precision: Precision = "auto",
        backend: Backend = "auto",
    ) -> None:
        check_choice("layout", layout, Layout)
        check_choice("precision", precision, Precision)
        check_choice("backend", backend, Backend)
        super().__init__()
        self.encoder = encoder
        self.encoder.backend = backend
        self.layout = layout
        self.precision = precision
        self._inference = Inference()
        self.max_chunks: int | None = None  # set by an out-of-memory error: the batch that fitted

    @property
    def scene_embedding_size(self) -> int:
        return self.encoder.config.embedding_size

    @property
    def timestamp_embedding_size(self) -> int:
        return self.encoder.config.embedding_size

    @property
    def device(self) -> torch.device:
        return self.encoder.cls_token.device

    @property
    def compute_dtype(self) -> torch.dtype:
        """The dtype of matrix products on the model's present device."""
        if self._weights != torch.float32:
            return self._weights
        if self.precision != "auto":
            dtype: torch.dtype = getattr(torch, self.precision)
            return dtype
        tensor_cores = self.device.type == "cuda" and torch.cuda.get_device_capability(self.device) >= (7, 0)
        return torch.float16 if tensor_cores else torch.float32

    def forward(self, audio: Tensor, lengths: Tensor | Sequence[int] | None = None) -> Tensor:
        """Scene embeddings: the mean over a clip's steps. HEAR: ``get_scene_embeddings``.

        Shape: audio (B, T), mono at 16 kHz in [-1, 1]; lengths (B,), samples of each clip, T when left out
        -> (B, scene_embedding_size), float32, on the model's device.

        Raises AudioError on input that cannot be embedded. Differentiable; under ``torch.no_grad()`` memory stays bounded
        however long the clips are.
        """
        own = check_audio(audio, lengths)
        grid = self.encoder.config.grid
        chunks = scene_chunks(own, grid[0])
        total = torch.zeros(len(own), self.scene_embedding_size, device=self.device, dtype=self._float)
        for batch, tokens in self._encode(self._spectrogram(audio, own), chunks):
            steps = steps_from_tokens(tokens, grid, self.layout)
            total = total.index_add(0, batch.clip, (steps * self._is_kept(batch)).sum(1))
        kept = torch.zeros(len(own), dtype=torch.long).index_add(0, chunks.clip, chunks.kept)
        return (total / kept.to(self.device, non_blocking=True)[:, None]).float()

    def timestamps(self, audio: Tensor, lengths: Tensor | Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
        """One embedding a patch column, in the time layout, and the centre of what it covers.

        Shape: audio (B, T) and lengths (B,) as in ``forward`` -> embeddings (B, N, timestamp_embedding_size) and
        timestamps (B, N) in ms, both float32. Beyond the end of a shorter clip embeddings are 0 and timestamps NaN.

        Raises AudioError on input that cannot be embedded.
        """
        own = check_audio(audio, lengths)
        config = self.encoder.config
        columns = config.grid[0]
        counts = timestamp_counts(own, config.patch[0])
        chunk_counts = -(-counts // columns)
        chunks = Chunks.of(chunk_counts, counts - columns * (chunk_counts - 1), columns)
        size = (len(own), int(chunk_counts.max()), columns, self.timestamp_embedding_size)
        out = torch.zeros(size, device=self.device)
        for batch, tokens in self._encode(self._spectrogram(audio, own), chunks):
            steps = steps_from_tokens(tokens, config.grid, "time")
            out[batch.clip, batch.index] = (steps * self._is_kept(batch)).float()
        times = timestamps_ms(own, config.patch[0]).to(self.device, non_blocking=True)
        return out.flatten(1, 2)[:, : int(counts.max())], times

    @property
    def _weights(self) -> torch.dtype:
        """The dtype of the matrices; half precision leaves smaller parameters as they are."""
        return self.encoder.patch_embed.proj.weight.dtype

    @property
    def _float(self) -> torch.dtype:
        """The dtype of spectrograms and sums."""
        return torch.float64 if self.compute_dtype == torch.float64 else torch.float32

    def _spectrogram(self, audio: Tensor, lengths: Tensor) -> Tensor:
        """Standardised log-mel in chunks, zero-padded, on the audio's device. Shape: (B, T) -> (B, chunks, 200, 80)."""
        mel = log_mel(audio.to(self._float), lengths)
        mel = nn.functional.pad(mel, (0, 0, 0, -mel.shape[1] % CHUNK_FRAMES))
        return mel.unflatten(1, (-1, CHUNK_FRAMES))

    def _is_kept(self, batch: Chunks) -> Tensor:
        """1 for the steps that count. Shape: (C, steps, 1)."""
        columns = self.encoder.config.grid[0]
        return (torch.arange(columns, device=self.device) < batch.kept[:, None]).unsqueeze(-1).to(self._float)

    def _encode(self, spectrogram: Tensor, chunks: Chunks) -> Iterator[tuple[Chunks, Tensor]]:
        """Encode all chunks of all clips in bounded batches. An out-of-memory error on CUDA halves the batch for good."""
        start = 0
        while start < len(chunks):
            size = self.max_chunks or CHUNKS_PER_BATCH.get(self.device.type, CHUNKS_PER_BATCH_ELSEWHERE)
            batch = chunks[start : start + size]
            source = batch.to(spectrogram.device)
            try:
                tokens = self.tokens(spectrogram[source.clip, source.index])
            except torch.OutOfMemoryError:
                if len(batch) == 1:
                    raise
                self.max_chunks = len(batch) // 2
                logger.warning("out of memory with %d chunks at once: going on with %d", len(batch), self.max_chunks)
                continue
            yield batch.to(self.device), tokens
            start += len(batch)

    def tokens(self, spectrogram: Tensor) -> Tensor:
        """Chunks through the encoder, in the model's precision. Shape: (C, 200, 80) -> (C, L, D), on the model's device."""
        dtype, spectrogram = self.compute_dtype, spectrogram.to(self.device)
        if not (torch.is_grad_enabled() or has_hooks(self.encoder)):
            return self._inference(self.encoder, dtype, spectrogram)
        with torch.autocast(self.device.type, dtype=dtype, enabled=dtype != self._weights):
            tokens: Tensor = self.encoder(spectrogram.unsqueeze(1))
        return tokens
