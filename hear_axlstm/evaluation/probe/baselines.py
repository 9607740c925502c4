"""Models to compare weights with: the same encoder with random weights, and statistics of the log-mel."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from hear_axlstm.config import DEFAULT_LAYOUT, HOP, N_MELS, EncoderConfig, Layout, Precision
from hear_axlstm.embedder import Embedder, check_audio
from hear_axlstm.encoder import Encoder, Layers
from hear_axlstm.errors import ConfigError
from hear_axlstm.frontend import log_mel
from hear_axlstm.weights.find import architecture, find_weights, list_models, manifest_entry
from hear_axlstm.weights.load import read_header

RANDOM, LOG_MEL = "random", "log-mel"


def is_baseline(model: str) -> bool:
    """Whether ``load_baseline`` takes this name: "random", "random:MODEL" or "log-mel"."""
    return model.partition(":")[0] == RANDOM or model == LOG_MEL


def load_baseline(model: str, layout: Layout | None = None, precision: Precision = "auto") -> Embedder:
    """A model that was never trained, to be used as what ``load_model`` returns.

    model: "log-mel" is ``LogMel``. "random" is the encoder of the default weights with the initial values of seed 0, and
    "random:MODEL" that of any MODEL that ``load_model`` takes, whose weights are needed only if it is no variant.
    layout: of random weights; left out, that of the weights that they are compared with.

    Raises ConfigError on a layout or precision of the log-mel, WeightsError when MODEL is not found.
    """
    if model == LOG_MEL:
        if layout is not None or precision != "auto":
            raise ConfigError("log-mel has no encoder, and so neither a layout nor a precision; leave them out")
        return LogMel()
    config, usual = _architecture(model.partition(":")[2])
    return Embedder(random_encoder(config), layout=layout or usual, precision=precision)


def _architecture(model: str) -> tuple[EncoderConfig, Layout]:
    """Without fetching the weights of a variant that is not bundled, all of which have the released layout."""
    if model in list_models() and not manifest_entry(model)["sources"]["bundled"]:
        return architecture(model), DEFAULT_LAYOUT
    header = read_header(find_weights(model))
    return header["config"], header["layout"]


def random_encoder(config: EncoderConfig, seed: int = 0) -> Encoder:
    """An encoder with the initial values that training would start from; torch's own generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Encoder(config).eval()


class LogMel(Embedder):
    """Mean and standard deviation over time of each band of the standardised log-mel, as scene embeddings of 160 numbers.

    It has no encoder, timestamps or layers, and computes on the CPU.
    """

    device = torch.device("cpu")
    compute_dtype = torch.float32
    layout: Any = None

    def __init__(self) -> None:
        nn.Module.__init__(self)
        description = {"family": LOG_MEL, "statistics": ["mean", "standard deviation"]}
        encoder: Any = nn.Module()
        encoder.config = SimpleNamespace(to_dict=lambda: description)
        self.encoder = encoder
        self.scene_embedding_size = 2 * N_MELS

    def forward(self, audio: Tensor, lengths: Tensor | Sequence[int] | None = None, layers: Layers | None = None) -> Tensor:
        """The statistics of each clip's own frames. Shape: audio (B, T), lengths (B,) as in ``Embedder`` -> (B, 160)."""
        if layers is not None:
            raise ConfigError(f"layers are {layers!r}; the log-mel has none: leave them out")
        own = check_audio(audio, lengths)
        frames = torch.tensor([1 + length // HOP for length in own], device="cpu")[:, None]
        mel = log_mel(audio.float(), own)  # zero beyond a clip's own frames
        mean = mel.sum(1) / frames
        inside = (torch.arange(mel.shape[1]) < frames)[..., None]
        deviation = ((mel - mean[:, None]) * inside).square().sum(1) / (frames - 1)
        return torch.cat([mean, deviation.sqrt()], dim=1)
