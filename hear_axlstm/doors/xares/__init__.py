"""Our encoders as X-ARES calls them: ``python -m xares.run hear_axlstm/doors/xares/axlstm_tiny_open.py TASKS``.

X-ARES imports a module and takes the one class in it whose name ends in "Encoder", so there is a module for each variant.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from hear_axlstm.config import HOP_MS, MIN_SAMPLES, SAMPLE_RATE
from hear_axlstm.hear import load_model
from hear_axlstm.patches import timestamp_steps


class Timestamps(nn.Module):
    """Timestamp embeddings of padded batches, by the encoder of ``weights``, which are named as ``load_model`` takes them.

    zeros_are_padding: X-ARES pads clips with zeros to the length of the longest of a batch, and does not say how long each
    is. True takes the zeros at a clip's end as padding: its embeddings are those of the clip alone, and 0 beyond its end.
    False takes them as sound, which changes all embeddings of the clip, since it is standardised with them: for clips whose
    digital silence at the end means something.

    Raises WeightsError where there are no such weights.
    """

    weights: str
    zeros_are_padding = True
    sampling_rate = SAMPLE_RATE

    def __init__(self) -> None:
        super().__init__()
        self.model = load_model(self.weights)
        self.patch_frames = self.model.encoder.config.patch[0]
        self.hop_size_in_ms = self.patch_frames * HOP_MS
        self.output_dim = self.model.timestamp_embedding_size
        self.eval()

    def forward(self, audio: Tensor) -> Tensor:
        """An embedding every ``hop_size_in_ms``.

        Shape: audio (T,) or (B, T), mono at 16 kHz in [-1, 1] -> (B, N, output_dim), float32, where N depends on T alone.
        Raises AudioError.
        """
        audio = audio[None] if audio.ndim == 1 else audio
        lengths = self._lengths(audio) if self.zeros_are_padding else None
        embeddings, _ = self.model.timestamps(audio, lengths)
        return pad(embeddings, (0, 0, 0, timestamp_steps(audio.shape[-1], self.patch_frames) - embeddings.shape[1]))

    def _lengths(self, audio: Tensor) -> Tensor | None:
        """How many samples each clip has without the zeros at its end, at least as many as can be embedded."""
        if audio.ndim != 2 or audio.shape[1] < MIN_SAMPLES:
            return None  # of which the model says what is wrong
        numbers = torch.arange(1, audio.shape[1] + 1, device=audio.device)
        return ((audio != 0) * numbers).amax(1).clamp(min=MIN_SAMPLES)
