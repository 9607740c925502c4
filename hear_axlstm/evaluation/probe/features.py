"""Clips -> what the classifiers see: embeddings in both layouts, and statistics of the log-mel to compare with."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from hear_axlstm.config import CHUNK_FRAMES, HOP, EncoderConfig, Layout
from hear_axlstm.embedder import Embedder
from hear_axlstm.encoder import Encoder
from hear_axlstm.frontend import log_mel
from hear_axlstm.patches import steps_from_tokens

Features = NDArray[np.float32]


def random_encoder(config: EncoderConfig, seed: int) -> Encoder:
    """An encoder with the initial values that training would start from; torch's own generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Encoder(config).eval()


def scene_embeddings(audio: torch.Tensor, model: Embedder) -> dict[Layout, Features]:
    """The scene embeddings of both layouts, the encoder run once.

    Timestamp embeddings hold every token of a clip that fills its chunks, and the layouts are two ways to group them.

    Shape: audio (B, T), whose 1 + T // 160 frames fill whole chunks -> (B, D) each.
    """
    frames, samples = 1 + audio.shape[1] // HOP, audio.shape[1]
    assert frames % CHUNK_FRAMES == 0, f"{samples} samples make {frames} frames, which do not fill chunks of {CHUNK_FRAMES}"
    config = model.encoder.config
    with torch.inference_mode():
        steps, _ = model.timestamps(audio.to(model.device))
        tokens = steps.reshape(-1, config.grid[0] * config.grid[1], config.width)
        released = steps_from_tokens(tokens, config.grid, "released").reshape(steps.shape)
        return {"released": released.mean(1).cpu().numpy(), "time": steps.mean(1).cpu().numpy()}


def log_mel_statistics(audio: torch.Tensor) -> Features:
    """Mean and standard deviation over time of each band of the standardised log-mel. Shape: (B, T) -> (B, 160)."""
    mel = log_mel(audio)
    return torch.cat([mel.mean(1), mel.std(1)], dim=1).numpy()
