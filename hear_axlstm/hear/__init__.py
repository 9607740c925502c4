"""The HEAR API (https://hearbenchmark.com/hear-api.html): audio in, scene or timestamp embeddings out."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from torch import Tensor

from hear_axlstm.config import Layout, Precision, variant_config
from hear_axlstm.embedder import Embedder
from hear_axlstm.errors import ConfigError
from hear_axlstm.ops.backend import Backend
from hear_axlstm.weights.find import default_variant, download, require_variant
from hear_axlstm.weights.load import load_weights, read_header
from hear_axlstm.weights.manifest import read_manifest

Lengths = Tensor | Sequence[int] | None


def list_models() -> list[str]:
    """The names that ``load_model(variant=...)`` takes.

    >>> "axlstm-base" in list_models()
    True
    """
    return list(read_manifest().variants)


def load_model(
    model_file_path: str | os.PathLike[str] = "",
    *,
    variant: str | None = None,
    layout: Layout | None = None,
    precision: Precision = "auto",
    backend: Backend = "auto",
) -> Embedder:
    """An encoder with its weights, on the CPU, in eval mode, ready for the two functions below and for fine-tuning.

    model_file_path: weights that ``hear-axlstm convert`` or ``save_weights`` wrote; empty for those of ``variant``.
    variant: a name of ``list_models()``; with a path, what the file must hold. Neither: the bundled default.
    layout: of scene embeddings. "released" groups tokens as the authors' code and the published scores do, which mixes time
    and frequency; "time" is the papers' text, one vector a frequency band, averaged over time. None: what the weights' file
    says, "released" for converted ones.
    precision: "auto" (float16 autocast on CUDA with tensor cores, else float32), "float32", "float16" or "bfloat16".
    backend: what runs the blocks: "torch", our kernels in "triton" (CUDA) or "numba" (CPU), or "auto", the fastest that can.

    Raises WeightsError when the weights are missing, damaged or of another architecture, ConfigError on a bad option.
    """
    if not model_file_path:
        model_file_path = download(variant if variant is not None else default_variant())
    elif variant is not None:
        require_variant(variant, model_file_path)
    if layout is None:
        layout = read_header(model_file_path)["layout"]
    return Embedder(load_weights(model_file_path), layout=layout, precision=precision, backend=backend)


def get_scene_embeddings(audio: Tensor, model: Embedder, *, lengths: Lengths = None) -> Tensor:
    """One embedding a clip.

    Shape: audio (n_sounds, n_samples), mono at 16 kHz in [-1, 1]; lengths (n_sounds,), samples of each clip when they
    differ -> (n_sounds, model.scene_embedding_size), float32.

    A clip's embedding does not depend on the others, nor on what lies beyond its length. Differentiable: call it under
    ``torch.no_grad()`` unless you train, or memory grows with the clips. Raises AudioError on bad input.
    """
    return _checked(model)(audio, lengths)


def get_timestamp_embeddings(audio: Tensor, model: Embedder, *, lengths: Lengths = None) -> tuple[Tensor, Tensor]:
    """One embedding every 40 ms (a patch column), always in the time layout, and the centres of what each covers.

    Shape: audio and lengths as in ``get_scene_embeddings`` -> embeddings (n_sounds, n_timestamps,
    model.timestamp_embedding_size) and timestamps (n_sounds, n_timestamps) in ms, both float32. Beyond the end of a
    shorter clip embeddings are 0 and timestamps NaN. Raises AudioError on bad input.
    """
    return _checked(model).timestamps(audio, lengths)


def _checked(model: Embedder) -> Embedder:
    if not isinstance(model, Embedder):
        raise ConfigError(f"model is a {type(model).__name__}; expected what hear_axlstm.load_model returns")
    return model


def bind(
    variant: str,
) -> tuple[Callable[..., Embedder], Callable[..., Tensor], Callable[..., tuple[Tensor, Tensor]]]:
    """The three HEAR functions with ``variant`` filled in, for a module that stands for it."""
    variant_config(variant)

    def load_bound_model(
        model_file_path: str | os.PathLike[str] = "",
        *,
        layout: Layout | None = None,
        precision: Precision = "auto",
        backend: Backend = "auto",
    ) -> Embedder:
        return load_model(model_file_path, variant=variant, layout=layout, precision=precision, backend=backend)

    load_bound_model.__doc__ = f"{variant}: ``hear_axlstm.load_model`` with the variant filled in."
    return load_bound_model, get_scene_embeddings, get_timestamp_embeddings
