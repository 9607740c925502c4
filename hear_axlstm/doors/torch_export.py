"""torch.export, torch.compile and AOTInductor: a model as one module of tensors alone, from waveform to embedding.

What ``load_model`` returns looks at its input: it refuses what cannot be embedded, cuts clips into batches, finds kernels. A
recorded graph can do none of that. Here the same is computed with sizes that follow from shapes alone: all chunks of all
clips are encoded at once, and what lies beyond a clip's length is masked.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hear_axlstm.config import CHUNK_FRAMES, HOP, HOP_MS, MIN_SAMPLES, N_FFT, SAMPLE_RATE, Layout, check_choice, require
from hear_axlstm.embedder import Embedder
from hear_axlstm.encoder import Encoder
from hear_axlstm.frontend import LOG_OFFSET, STD_OFFSET, mel_filters, reflected, standardised
from hear_axlstm.hear import unwrapped
from hear_axlstm.patches import scene_steps, steps_from_tokens

What = Literal["scene", "timestamps", "tokens"]
EXAMPLE_SECONDS = 3.5  # of the clips that are recorded where time is dynamic: two chunks, and two steps of any patch


class Exportable(nn.Module):
    """An encoder with its front end, without a choice that depends on data. ``exportable`` makes one.

    Shape: audio (B, T), mono at 16 kHz in [-1, 1], float32; lengths (B,), int64: samples of each clip, from 201 to T; T for
    all where no clip is padded. What it gives depends on ``what``, all float32:

    - "scene": embeddings (B, E), as ``get_scene_embeddings``;
    - "timestamps": embeddings (B, N, E) and their centres in ms (B, N), as ``get_timestamp_embeddings`` gives them where
      the longest clip has T samples: beyond a clip 0 and NaN;
    - "tokens": (B, L, D), the encoder's tokens of one chunk of 2 s after the other, time-major: token l covers patch column
      l // rows of the clip and patch row l % rows. Chunks are whole, so the last one has tokens of padding; those of chunks
      that are beyond a clip are 0.

    Nothing is refused: a clip that holds NaN or an infinity gives NaN, and the others of its batch do not.
    """

    basis: Tensor
    filters: Tensor
    offset: Tensor

    def __init__(self, encoder: Encoder, layout: Layout, what: What) -> None:
        super().__init__()
        self.encoder, self.layout, self.what = encoder, layout, what
        # In float64: in float32 the quiet bands of a clean tone drown in the rounding of its loud ones.
        window = torch.hann_window(N_FFT, device="cpu", dtype=torch.float32).double()
        turns = torch.outer(torch.arange(N_FFT, device="cpu"), torch.arange(N_FFT // 2 + 1, device="cpu")) % N_FFT
        angles = turns.double() * (2 * math.pi / N_FFT)
        self.register_buffer("basis", window[:, None] * torch.cat([angles.cos(), angles.sin()], dim=1))
        self.register_buffer("filters", mel_filters())
        # As a number, onnxscript takes it for 0 and drops it.
        self.register_buffer("offset", torch.full((1,), STD_OFFSET, dtype=torch.float32))

    def forward(self, audio: Tensor, lengths: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """The embeddings, as the class says."""
        config = self.encoder.config
        (columns, rows), patch_frames = config.grid, config.patch[0]
        mel = self.log_mel(audio, lengths)
        chunks = (mel.shape[1] + CHUNK_FRAMES - 1) // CHUNK_FRAMES  # of each clip; ONNX rounds negative quotients otherwise
        mel = F.pad(mel, (0, 0, 0, chunks * CHUNK_FRAMES - mel.shape[1]))
        # Chunks and steps are picked by numbers: a reshape makes torch.export settle whether there is one chunk or more.
        number, frame = self.counted(audio.shape[0] * chunks)[:, None], self.counted(CHUNK_FRAMES)
        of_clip = torch.full((1, 1), chunks, device=number.device)  # a tensor, as ONNX divides by nothing else
        tokens = self.encoder(mel[number // of_clip, number % of_clip * CHUNK_FRAMES + frame], backend="torch")
        first = chunks * self.counted(audio.shape[0])[:, None]  # chunk of each clip
        if self.what == "tokens":
            index = self.counted(chunks * columns * rows)
            place = index // (columns * rows)
            tokens = tokens[first + place, index % (columns * rows)]
            return tokens.masked_fill((place * CHUNK_FRAMES > lengths[:, None] // HOP).unsqueeze(2), 0.0)
        steps = steps_from_tokens(tokens, config.grid, self.layout if self.what == "scene" else "time")
        if self.what == "scene":
            index = self.counted(chunks * columns)
            counts = scene_steps(lengths, columns)[:, None]  # type: ignore[arg-type, index]  # of all clips at once
            kept = steps[first + index // columns, index % columns].masked_fill((index >= counts).unsqueeze(2), 0.0)
            return (kept.double().sum(1) / counts).float()
        index = self.counted(torch.sym_max(1, whole_steps(audio.shape[1], patch_frames)))
        steps = steps[first + index // columns, index % columns]
        counts = whole_steps(lengths, patch_frames).clamp(min=1)[:, None]
        centres = HOP_MS * (patch_frames * index.float() + (patch_frames - 1) / 2)
        middles = HOP_MS * (lengths[:, None] // HOP).float() / 2  # of clips too short for the centre of their only step
        times = torch.where(counts == 1, torch.minimum(centres, middles), centres)
        return steps.masked_fill((index >= counts).unsqueeze(2), 0.0), times.masked_fill(index >= counts, math.nan)

    def log_mel(self, audio: Tensor, lengths: Tensor) -> Tensor:
        """As ``frontend.log_mel``, by products with a windowed Fourier basis: (B, T), (B,) -> (B, 1 + T // 160, F)."""
        total = 1 + audio.shape[1] // HOP
        wave = reflected(audio, lengths[:, None] - 1, -(N_FFT // 2), (total + 2) * HOP - N_FFT // 2)
        hops = wave.unflatten(1, (-1, HOP))  # a window is two and a half of them
        windows = torch.cat([hops[:, :-2], hops[:, 1:-1], hops[:, 2:, : N_FFT - 2 * HOP]], dim=2)
        power = (windows.double() @ self.basis).square().unflatten(2, (2, -1)).sum(2)
        return standardised((power.float() @ self.filters + LOG_OFFSET).log(), 1 + lengths // HOP, self.offset)

    def counted(self, count: Any) -> Tensor:
        """0, 1, ... count - 1."""
        return torch.arange(count, device=self.filters.device)


def whole_steps(length: Any, patch_frames: int) -> Any:
    """Patch columns whose centre lies within a clip, as ``patches.timestamp_steps``, but 0 of the shortest clips."""
    return 1 + (2 * length - HOP * (patch_frames - 1)) // (2 * HOP * patch_frames)


def exportable(model: Embedder, what: What = "scene") -> Exportable:
    """A copy of a model for torch.export and torch.compile, in float32 on the CPU; ``.to`` moves it.

    model: what ``load_model`` returns, whose layout holds; it stays as it is. what: see ``Exportable``.

    Raises ConfigError on a bad argument, WeightsError when the encoder holds other tensors than its configuration says, as
    a pruned, adapted or quantised one does.
    """
    from hear_axlstm.weights.check import kinds_of, require_fit, require_values
    from hear_axlstm.weights.load import fill

    check_choice("what", what, What)
    inner = unwrapped(model)
    require_values(inner.device)
    with torch.inference_mode(False), torch.no_grad():
        state = {name: value for name, value in inner.encoder.state_dict().items() if isinstance(value, Tensor)}
        tensors = {name: tensor.detach().to("cpu", copy=True) for name, tensor in state.items()}
        require_fit(inner.encoder.config, kinds_of(tensors), "the model")
        encoder = fill(inner.encoder.config, tensors, "the model").requires_grad_(False)
        return Exportable(encoder, inner.layout, what).eval()


def program(model: Embedder, what: What = "scene", seconds: float | None = None) -> torch.export.ExportedProgram:
    """What torch.export makes of ``exportable``: for AOTInductor, for ``torch.export.save``, and to lower further.

    Its inputs are audio (B, T) and lengths (B,), and B is dynamic. seconds: fixes T at 16,000 * seconds; by default it is
    dynamic, too. Errors as in ``exportable``, and ConfigError on a bad ``seconds``.
    """
    module = exportable(model, what)
    samples, time = fixed_samples(seconds), {}
    if samples is None:
        samples, time = round(EXAMPLE_SECONDS * SAMPLE_RATE), {1: torch.export.Dim.DYNAMIC(min=MIN_SAMPLES)}
    batch = {0: torch.export.Dim.DYNAMIC(min=1)}
    example = torch.zeros(2, samples, device="cpu", dtype=torch.float32), torch.full((2,), samples, device="cpu")
    with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
        return torch.export.export(module, example, dynamic_shapes=(batch | time, batch))


def fixed_samples(seconds: float | None) -> int | None:
    """The samples of a clip whose time is fixed. Raises ConfigError where an encoder takes no such clip."""
    if seconds is None:
        return None
    is_number = isinstance(seconds, int | float) and math.isfinite(seconds)
    samples = round(seconds * SAMPLE_RATE) if is_number else 0
    least = f"{MIN_SAMPLES / SAMPLE_RATE:.4f} or more, or None for any length"
    require(samples >= MIN_SAMPLES, f"seconds is {seconds!r}; expected {least}")
    return samples
