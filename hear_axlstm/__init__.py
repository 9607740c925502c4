"""Pretrained audio encoders (AxLSTM, SSAM, SSAST) behind the HEAR API. This package is itself a HEAR module.

Shapes use one alphabet: B clips or chunks, T samples, N frames or timestamps, F mel bands, L tokens, D channels,
H heads, K channels of a head, n inner channels.
"""

from importlib import import_module
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
    from hear_axlstm.classification.apply import load_classifier
    from hear_axlstm.classification.run import classify
    from hear_axlstm.files import Embedded, embed, load_embeddings
    from hear_axlstm.files.similar import neighbours, similarity
    from hear_axlstm.finetuning import finetune
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
    "classify",
    "convert_checkpoint",
    "embed",
    "find_weights",
    "finetune",
    "get_scene_embeddings",
    "get_timestamp_embeddings",
    "list_models",
    "load_classifier",
    "load_embeddings",
    "load_model",
    "neighbours",
    "save_weights",
    "similarity",
]


LATER = {  # names that the HEAR API, which takes tensors, does without until they are asked for, and their modules
    "Embedded": "files",
    "classify": "classification.run",
    "convert_checkpoint": "weights.released",
    "embed": "files",
    "finetune": "finetuning",
    "load_classifier": "classification.apply",
    "load_embeddings": "files",
    "neighbours": "files.similar",
    "similarity": "files.similar",
}


def __getattr__(name: str) -> Any:
    """A name of LATER."""
    if name in LATER:
        return getattr(import_module(f"{__name__}.{LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
