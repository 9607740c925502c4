"""The HEAR API (https://hearbenchmark.com/hear-api.html): audio in, scene or timestamp embeddings out."""

import os
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, inference_mode, is_grad_enabled, nn

from hear_axlstm.config import Layout, Precision, variant_config
from hear_axlstm.embedder import Embedder
from hear_axlstm.encoder import Layers
from hear_axlstm.errors import ConfigError
from hear_axlstm.ops.backend import Backend, find_device
from hear_axlstm.weights.find import architecture, find_weights, variant_of
from hear_axlstm.weights.load import load_weights

Lengths = Tensor | Sequence[int] | None


@inference_mode(False)  # parameters that can be trained, whatever mode they are loaded in
def load_model(
    model_file_path: str | os.PathLike[str] = "",
    *,
    variant: str | None = None,
    layout: Layout | None = None,
    precision: Precision = "auto",
    backend: Backend = "auto",
    device: str | torch.device = "cpu",
) -> Embedder:
    """An encoder with its weights, in eval mode, ready for the two functions below and for fine-tuning.

    model_file_path: weights that ``hear-axlstm convert`` or ``save_weights`` wrote, a folder that holds them as
    model.safetensors, a Hub repository "owner/name[@revision]", or a variant where no such file is; empty: ``variant``'s.
    variant: a name of ``list_models()``, with - or _; with a path, what the file must hold. Neither: the bundled default.
    layout: how scene embeddings group tokens. "released" does as the authors' code and the published scores do, which mixes
    time and frequency; "time" is the papers' text, one vector a frequency band, averaged over time. None: what the weights'
    file says, "released" for converted ones.
    precision: "auto" (float16 on CUDA with tensor cores, else float32), "float32", "float16" or "bfloat16".
    backend: what runs the blocks: "torch", our kernels in "triton" (CUDA) or "numba" (CPU), or "auto", the fastest that can.
    device: "cpu", "cuda", "cuda:1", ..., or "auto", which is CUDA where there is a GPU.

    Raises WeightsError when the weights are missing, damaged or of another architecture, ConfigError on a bad option.
    """
    chosen, named = find_device(device), variant or variant_of(model_file_path or "")
    encoder, header = load_weights(find_weights(model_file_path, variant), architecture(named) if named else None)
    return Embedder(encoder, layout=layout or header["layout"], precision=precision, backend=backend).to(chosen)


def get_scene_embeddings(audio: Tensor, model: Embedder, *, lengths: Lengths = None, layers: Layers | None = None) -> Tensor:
    """One embedding for each clip.

    Shape: audio (n_sounds, n_samples), mono at 16 kHz in [-1, 1]; lengths (n_sounds,), samples of each clip when they
    differ -> (n_sounds, model.scene_embedding_size), float32.

    layers: a number, several, or "all": 0 is the output of the patch embedding, then comes each block's, then the final
    norm's, -1, which is the default. The embeddings get a leading dimension, (layers, n_sounds, size), when it is given.

    A clip's embedding does not depend on the others, nor on what lies beyond its length. Differentiable: call it under
    ``torch.no_grad()`` unless you train, or memory grows with the clips. Raises AudioError on bad input, ConfigError on
    layers that there are not.
    """
    inner, alone = unwrapped(model), lengths is None and layers is None  # all that DataParallel can scatter and gather
    return (model if alone or not isinstance(model, nn.DataParallel) else inner)(audio, lengths, layers)


def get_timestamp_embeddings(
    audio: Tensor, model: Embedder, *, lengths: Lengths = None, layers: Layers | None = None
) -> tuple[Tensor, Tensor]:
    """One embedding every 40 ms (a patch column), always in the time layout, and the centres of what each covers.

    Shape: audio, lengths and layers as in ``get_scene_embeddings`` -> embeddings ([layers,] n_sounds, n_timestamps,
    model.timestamp_embedding_size) and timestamps (n_sounds, n_timestamps) in ms, both float32. Beyond the end of a
    shorter clip embeddings are 0 and timestamps NaN. Raises AudioError on bad input, ConfigError on layers that there are
    not.
    """
    if isinstance(model, nn.parallel.DistributedDataParallel) and is_grad_enabled():
        raise ConfigError("timestamps pass by DistributedDataParallel: use no_grad(), or wrap a module that calls them")
    return unwrapped(model).timestamps(audio, lengths, layers)


def unwrapped(model: nn.Module) -> Embedder:
    """The model in torch.compile's, DataParallel's and like wrappers."""
    inner = model
    while isinstance(wrapped := getattr(inner, "_orig_mod", getattr(inner, "module", None)), nn.Module):
        inner = wrapped
    if not isinstance(inner, Embedder):
        raise ConfigError(f"model is a {type(model).__name__}; expected what hear_axlstm.load_model returns")
    return inner


def bind(variant: str) -> tuple[Callable[..., Embedder], Callable[..., Tensor], Callable[..., tuple[Tensor, Tensor]]]:
    """The three HEAR functions with ``variant`` filled in, for a module that stands for it."""
    variant_config(variant)
    return partial(load_model, variant=variant), get_scene_embeddings, get_timestamp_embeddings
