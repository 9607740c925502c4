"""Pretrained audio encoders (AxLSTM, SSAM, SSAST) behind the HEAR API. This package is itself a HEAR module.

Shapes use one alphabet: B clips or chunks, T samples, N frames or timestamps, F mel bands, L tokens, D channels,
H heads, K channels of a head, n inner channels.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from hear_axlstm.config import VARIANTS
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
from hear_axlstm.version import __version__
from hear_axlstm.weights.find import find_weights, list_models

if TYPE_CHECKING:
    from hear_axlstm.classification.apply import load_classifier
    from hear_axlstm.classification.run import classify
    from hear_axlstm.doors.onnx import export
    from hear_axlstm.embedder import Embedder
    from hear_axlstm.encoder import Encoder, build_encoder
    from hear_axlstm.explore.index import Index
    from hear_axlstm.explore.map import draw_map
    from hear_axlstm.explore.moments import moments
    from hear_axlstm.explore.twice import duplicates
    from hear_axlstm.files import Embedded, embed, load_embeddings
    from hear_axlstm.files.measure import statistics
    from hear_axlstm.files.similar import neighbours, similarity
    from hear_axlstm.finetuning import finetune
    from hear_axlstm.hear import get_scene_embeddings, get_timestamp_embeddings, load_model
    from hear_axlstm.pretraining.reconstruction import reconstruction
    from hear_axlstm.stream.stream import Stream
    from hear_axlstm.stream.streams import Streams
    from hear_axlstm.weights.folder import pack
    from hear_axlstm.weights.released import convert_checkpoint
    from hear_axlstm.weights.save import save_weights

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
    "Index",
    "OutputError",
    "Stream",
    "Streams",
    "TaskError",
    "TrainingError",
    "WeightsError",
    "__version__",
    "build_encoder",
    "classify",
    "convert_checkpoint",
    "draw_map",
    "duplicates",
    "embed",
    "export",
    "find_weights",
    "finetune",
    "get_scene_embeddings",
    "get_timestamp_embeddings",
    "list_models",
    "load_classifier",
    "load_embeddings",
    "load_model",
    "moments",
    "neighbours",
    "pack",
    "reconstruction",
    "save_weights",
    "similarity",
    "statistics",
]


def later(package: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """A ``__getattr__`` for a package: torch takes seconds, so what needs it is imported when it is first asked for.

    places: the modules of the package's names, as they are called within it.
    """

    def find(name: str) -> Any:
        if name in places:
            return getattr(import_module(f"{package}.{places[name]}"), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return find


__getattr__ = later(
    __name__,
    {
        "Embedded": "files",
        "Embedder": "embedder",
        "Encoder": "encoder",
        "Index": "explore.index",
        "Stream": "stream.stream",
        "Streams": "stream.streams",
        "build_encoder": "encoder",
        "classify": "classification.run",
        "convert_checkpoint": "weights.released",
        "draw_map": "explore.map",
        "duplicates": "explore.twice",
        "embed": "files",
        "export": "doors.onnx",
        "finetune": "finetuning",
        "get_scene_embeddings": "hear",
        "get_timestamp_embeddings": "hear",
        "load_classifier": "classification.apply",
        "load_embeddings": "files",
        "load_model": "hear",
        "moments": "explore.moments",
        "neighbours": "files.similar",
        "pack": "weights.folder",
        "reconstruction": "pretraining.reconstruction",
        "save_weights": "weights.save",
        "similarity": "files.similar",
        "statistics": "files.measure",
    },
)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
