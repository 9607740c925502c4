"""Small encoders with gates and steps at work, and the statistics of a clip."""

import pytest
import torch
from torch import Tensor

import hear_axlstm
from hear_axlstm.config import AxLSTMConfig, SSAMConfig, SSASTConfig
from hear_axlstm.embedder import Embedder
from hear_axlstm.encoder import Encoder
from hear_axlstm.frontend import log_mel_frames

CONFIGS = {
    "axlstm": AxLSTMConfig(width=16, depth=2),
    "axlstm_sigmoid": AxLSTMConfig(width=16, depth=2, input_gate="sigmoid"),
    "ssam": SSAMConfig(width=16, depth=2),
    "axlstm_patch8x16": AxLSTMConfig(width=16, depth=2, patch=(8, 16)),
    "ssam_patch4x80": SSAMConfig(width=16, depth=2, patch=(4, 80)),
}
CHUNKWISE = {
    "axlstm_flip": AxLSTMConfig(width=16, depth=2, flip=True),
    "ssam_bidirectional": SSAMConfig(width=16, depth=2, bidirectional=True),
    "ssast": SSASTConfig(width=16, depth=2, heads=2),
}


@pytest.fixture
def small():
    """A small model by name, with weights that say something, in eval mode."""

    def make(name: str, **options) -> Embedder:
        torch.manual_seed(3)
        encoder = Encoder({**CONFIGS, **CHUNKWISE}[name])
        with torch.no_grad():
            for parameter in encoder.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
        return Embedder(encoder.eval(), **options)

    return make


def own_statistics(clip: Tensor) -> tuple[float, float]:
    """The mean and deviation that a clip is standardised by."""
    mel = log_mel_frames(clip[None].double(), [len(clip)])
    return mel.mean().item(), mel.std().item()


def offline(clip: Tensor, model: Embedder) -> tuple[Tensor, Tensor, Tensor]:
    """Timestamp embeddings, times and scene embedding of the whole clip."""
    with torch.no_grad():
        embeddings, times = hear_axlstm.get_timestamp_embeddings(clip[None], model)
        return embeddings[0], times[0], hear_axlstm.get_scene_embeddings(clip[None], model)[0]


def rising(samples: int, seed: int = 0) -> Tensor:
    """Noise that becomes louder, so that no two moments are alike."""
    noise = torch.rand(samples, generator=torch.Generator().manual_seed(seed)) - 0.5
    return noise * torch.linspace(0.01, 1, samples)
