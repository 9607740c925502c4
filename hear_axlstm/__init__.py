"""Pretrained audio encoders (AxLSTM, SSAM, SSAST) behind the HEAR API. This package is itself a HEAR module.

Shapes use one alphabet: B clips or chunks, T samples, N frames or timestamps, F mel bands, L tokens, D channels,
H heads, K channels of a head, n inner channels.
"""

from typing import TYPE_CHECKING, Any

from hear_axlstm.config import VARIANTS
from hear_axlstm.embedder import Embedder
from hear_axlstm.encoder import Encoder, build_encoder
from hear_axlstm.errors import (
    AudioError,
    BackendError,
    ConfigError,
    EvaluationError,
    HearAxlstmError,
    OutputError,
    TaskError,
    TrainingError,
    WeightsError,
)
from hear_axlstm.hear import get_scene_embeddings, get_timestamp_embeddings, load_model
from hear_axlstm.version import __version__
from hear_axlstm.weights.find import find_weights, list_models
from hear_axlstm.weights.save import save_weights

if TYPE_CHECKING:
    from hear_axlstm.files import Embedded, embed, load_embeddings
    from hear_axlstm.files.similar import neighbours, similarity
    from hear_axlstm.weights.released import convert_checkpoint

__all__ = [
    "VARIANTS",
    "AudioError",
    "BackendError",
    "ConfigError",
    "Embedded",
    "Embedder",
    "Encoder",
    "EvaluationError",
    "HearAxlstmError",
    "OutputError",
    "TaskError",
    "TrainingError",
    "WeightsError",
    "__version__",
    "build_encoder",
    "convert_checkpoint",
    "embed",
    "find_weights",
    "get_scene_embeddings",
    "get_timestamp_embeddings",
    "list_models",
    "load_embeddings",
    "load_model",
    "neighbours",
    "save_weights",
    "similarity",
]


def __getattr__(name: str) -> Any:
    """Names that the HEAR API, which takes tensors, does without until they are asked for."""
    if name in {"embed", "Embedded", "load_embeddings"}:
        from hear_axlstm import files

        return getattr(files, name)
    if name in {"similarity", "neighbours"}:
        from hear_axlstm.files import similar

        return getattr(similar, name)
    if name == "convert_checkpoint":
        from hear_axlstm.weights.released import convert_checkpoint

        return convert_checkpoint
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
