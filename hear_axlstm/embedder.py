"""Waveforms (B, T) -> scene (B, E) or timestamp (B, N, E) embeddings, E = the tokens of a step. Stage 4 of 4."""

import importlib
import logging
import operator
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from hear_axlstm import config
from hear_axlstm.config import CHUNK_FRAMES, DEFAULT_LAYOUT, MIN_SAMPLES, SAMPLE_RATE, Layout, Precision, check_choice
from hear_axlstm.encoder import Encoder, Layers, layer_numbers
from hear_axlstm.errors import AudioError, ConfigError
from hear_axlstm.frontend import SUMS, log_mel
from hear_axlstm.ops.backend import Backend, is_watched, threads_of_a_call
from hear_axlstm.patches import scene_steps, steps_from_tokens, timestamp_steps, timestamps_ms

logger = logging.getLogger(__name__)

CHUNKS_PER_BATCH = {"cuda": 256, "cpu": min(max(8, os.cpu_count() or 1), 64)}  # bounds memory for any length and number


def check_audio(audio: Tensor, lengths: Tensor | Sequence[int] | None) -> list[int]:
    """The length of every clip in samples. Raises AudioError on anything that cannot be embedded."""
    require = partial(config.require, error=AudioError)
    require(isinstance(audio, Tensor), f"audio is a {type(audio).__name__}; expected a torch.Tensor: use torch.from_numpy")
    plain = audio.layout == torch.strided and not (audio.is_nested or audio.is_meta)
    require(plain, "audio is sparse, nested or on the meta device; expected a dense tensor: audio.to_dense() may make one")
    hint = "add the batch dimension with audio[None]" if audio.ndim == 1 else "average the channels to mono"
    require(audio.ndim == 2, f"audio has shape {tuple(audio.shape)}; expected (n_sounds, n_samples): {hint}")
    scale = "divide 16-bit samples by 32768 (audio.float() / 32768)"
    require(audio.is_floating_point(), f"audio is {audio.dtype}; expected floats in [-1, 1]: {scale}")
    batch, samples = map(int, audio.shape)
    least = f"{MIN_SAMPLES} samples ({1000 * MIN_SAMPLES / SAMPLE_RATE:.1f} ms at 16 kHz)"
    expected = f"expected at least one clip, and {least} in each: drop or pad shorter clips"
    require(batch > 0 and samples >= MIN_SAMPLES, f"audio has shape {(batch, samples)}; {expected}")
    if lengths is None:
        return [samples] * batch
    expected = f"expected {batch} whole numbers of samples from {MIN_SAMPLES} to {samples}: drop or pad shorter clips"
    try:
        own = [operator.index(length) for length in (lengths.tolist() if hasattr(lengths, "tolist") else lengths)]
    except TypeError as error:
        raise AudioError(f"lengths is {lengths!r:.200}; {expected}") from error
    require(len(own) == batch, f"there are {len(own)} lengths; {expected}")
    require(min(own) >= MIN_SAMPLES and max(own) <= samples, f"lengths run from {min(own)} to {max(own)}; {expected}")
    return own


class Embedder(nn.Module):
    """An encoder with the path from waveform to embedding around it: the model of the HEAR API.

    layout, precision, backend: as in ``load_model``. Timestamp embeddings always have the layout "time". A model converted
    with ``.half()``, ``.bfloat16()`` or ``.double()`` computes in that dtype whatever the precision. A backend that is named
    and cannot run raises BackendError at the first call. The encoder stays as it is: several Embedders may share it.
    """

    sample_rate = SAMPLE_RATE

    def __init__(
        self, encoder: Encoder, *, layout: Layout = DEFAULT_LAYOUT, precision: Precision = "auto", backend: Backend = "auto"
    ) -> None:
        super().__init__()
        check_choice("layout", layout, Layout)
        check_choice("precision", precision, Precision)
        check_choice("backend", backend, Backend)
        self.encoder = encoder
        self.layout, self.precision, self.backend = layout, precision, backend
        self.scene_embedding_size = self.timestamp_embedding_size = encoder.config.embedding_size
        self.max_chunks: int | None = None  # set by an out-of-memory error: the batch that fitted

    @property
    def device(self) -> torch.device:
        return self.encoder.cls_token.device

    @property
    def compute_dtype(self) -> torch.dtype:
        """The dtype of matrix products on the model's present device."""
        if (weights := self.encoder.patch_embed.weight.dtype) != torch.float32:
            return weights
        if self.precision != "auto":
            return getattr(torch, self.precision)
        tensor_cores = self.device.type == "cuda" and torch.cuda.get_device_capability(self.device) >= (7, 0)
        return torch.float16 if tensor_cores else torch.float32

    def _repr_html_(self) -> str | None:
        """What a notebook shows of it."""
        return importlib.import_module("hear_axlstm.files.as_html").model_html(self)

    def forward(self, audio: Tensor, lengths: Tensor | Sequence[int] | None = None, layers: Layers | None = None) -> Tensor:
        """Scene embeddings, the mean over a clip's steps, as in ``get_scene_embeddings``.

        Shape: audio (B, T), lengths (B,) -> ([layers,] B, scene_embedding_size), float32, on the model's device. Under
        ``torch.no_grad()`` memory stays bounded however long the clips are. Raises AudioError and ConfigError.
        """
        own = check_audio(audio, lengths)
        counts = [scene_steps(length, self.encoder.config.grid[0]) for length in own]
        sums: Tensor | None = None
        with threads_of_a_call(self.device):
            for clip, _, steps in self.steps(self._log_mel(audio, own), counts, self.layout, layers):
                if sums is None:
                    dtype = SUMS.get(self.device.type, torch.float64)
                    sums = steps.new_zeros(*steps.shape[:-3], len(own), steps.shape[-1], dtype=dtype)
                sums = sums.index_add(-2, clip, steps.sum(-2).to(sums.dtype))
        assert sums is not None
        return (sums / torch.tensor(counts, device="cpu").to(self.device, non_blocking=True)[:, None]).float()

    def timestamps(
        self, audio: Tensor, lengths: Tensor | Sequence[int] | None = None, layers: Layers | None = None
    ) -> tuple[Tensor, Tensor]:
        """One embedding a patch column, in the time layout, and its centre in ms, as in ``get_timestamp_embeddings``.

        Shape: audio (B, T), lengths (B,) -> embeddings ([layers,] B, N, timestamp_embedding_size) and times (B, N), float32.
        Raises AudioError and ConfigError.
        """
        own = check_audio(audio, lengths)
        columns, patch_frames = self.encoder.config.grid[0], self.encoder.config.patch[0]
        longest = max(counts := [timestamp_steps(length, patch_frames) for length in own])
        out: Tensor | None = None
        with threads_of_a_call(self.device):
            for clip, place, steps in self.steps(self._log_mel(audio, own), counts, "time", layers):
                if out is None:
                    chunks = len(own), -(-longest // columns), columns
                    out = steps.new_zeros(*steps.shape[:-3], *chunks, steps.shape[-1], dtype=torch.float32)
                out[..., clip, place, :, :] = steps.float()
        assert out is not None
        return out.flatten(-3, -2)[..., :longest, :], timestamps_ms(own, patch_frames).to(self.device, non_blocking=True)

    def _log_mel(self, audio: Tensor, lengths: Sequence[int]) -> Tensor:
        if self.device.type == "meta":
            raise ConfigError("the model is on the meta device, without values; expected weights: load_model reads them")
        return log_mel(audio.to(torch.float64 if self.compute_dtype == torch.float64 else torch.float32), lengths)

    def steps(
        self, mel: Tensor, counts: Sequence[int], layout: Layout, layers: Layers | None
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """All clips' steps in bounded batches of C chunks: clip (C,), place in it (C,), steps ([layers,] C, columns, E).

        mel: standardised, (B, N, F). counts: how many steps of each clip count, B. The others are 0, and chunks without any
        are not encoded.
        """
        dtype, (columns, rows) = self.compute_dtype, self.encoder.config.grid
        mel = nn.functional.pad(mel, (0, 0, 0, -mel.shape[1] % CHUNK_FRAMES)).unflatten(1, (-1, CHUNK_FRAMES))
        chunks = [(clip, i, n - i * columns) for clip, n in enumerate(counts) for i in range(-(-n // columns))]
        encode, start = self._encode(dtype, layers), 0
        while start < len(chunks):
            size = self.max_chunks or CHUNKS_PER_BATCH.get(self.device.type, 8)
            batch = torch.tensor(chunks[start : start + size], device="cpu").T
            source, (clip, place, left) = (batch.to(device, non_blocking=True) for device in (mel.device, self.device))
            try:
                with torch.autocast(self.device.type, dtype=dtype, enabled=dtype != self.encoder.patch_embed.weight.dtype):
                    tokens = encode(mel[source[0], source[1]].to(self.device))
            except torch.OutOfMemoryError:
                if (count := batch.shape[1]) == 1:
                    raise
                self.max_chunks = count // 2
                logger.warning("out of memory with %d chunks at once: going on with %d", count, self.max_chunks)
                continue
            steps = steps_from_tokens(tokens, (columns, rows), layout)
            yield clip, place, steps * (torch.arange(columns, device=self.device) < left[:, None]).unsqueeze(2)
            start += batch.shape[1]

    def _encode(self, dtype: torch.dtype, layers: Layers | None) -> Callable[[Tensor], Tensor]:
        """The encoder, or what does the same faster."""
        layers = None if layers is None else layer_numbers(layers, self.encoder.config.depth)
        if self.device.type in ("cuda", "cpu") and not (torch.is_grad_enabled() or is_watched(self.encoder.cls_token)):
            graphs = importlib.import_module("hear_axlstm.kernels.graphs")
            if replayed := graphs.replayed(self.encoder, dtype, self.backend):
                return partial(replayed, layers=layers)
        return partial(self.encoder, layers=layers, backend=self.backend)
