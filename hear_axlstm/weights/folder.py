"""Weights -> a folder that load_model, transformers and sentence-transformers open: the weights file and a few of JSON.

Nothing of those tools is imported here. doors/transformers.py has the classes that the files name.
"""

from __future__ import annotations

import filecmp
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hear_axlstm.config import SAMPLE_RATE, config_from_dict
from hear_axlstm.embedder import Embedder
from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import OutputError
from hear_axlstm.storage import replacing, sweep
from hear_axlstm.weights.card import model_card
from hear_axlstm.weights.check import read_facts
from hear_axlstm.weights.find import WEIGHTS_FILE, find_weights
from hear_axlstm.weights.load import load_weights
from hear_axlstm.weights.save import save_weights

MODEL_TYPE = "hear-axlstm"
CODE = "modeling_hear_axlstm"
CLASSES = {  # of doors/transformers.py, by what opens them
    "AutoConfig": "HearAxlstmConfig",
    "AutoModel": "HearAxlstmModel",
    "AutoModelForAudioClassification": "HearAxlstmForAudioClassification",
    "AutoFeatureExtractor": "HearAxlstmFeatureExtractor",
    "AutoProcessor": "HearAxlstmFeatureExtractor",
}
AUTO_MAP = {opener: f"{CODE}.{name}" for opener, name in CLASSES.items()}
FEATURE_EXTRACTOR = {
    "feature_extractor_type": CLASSES["AutoFeatureExtractor"],
    "feature_size": 1,
    "padding_side": "right",
    "padding_value": 0.0,
    "return_attention_mask": True,
    "sampling_rate": SAMPLE_RATE,
}
MODULES = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}]
MODULE = {
    "transformer_task": "feature-extraction",
    "modality_config": {"audio": {"method": "forward", "method_output_name": "pooler_output"}},
    "module_output_name": "sentence_embedding",
}
SENTENCE_TRANSFORMER = {"model_type": "SentenceTransformer", "prompts": {}, "similarity_fn_name": "cosine"}
REMOTE_CODE = f"from hear_axlstm.doors.transformers import {', '.join(sorted(set(CLASSES.values())))}  # noqa: F401\n"


def pack(
    model: str | os.PathLike[str] | Encoder | Embedder, folder: str | os.PathLike[str], *, overwrite: bool = False
) -> None:
    """Write a folder that ``load_model``, transformers' Auto classes and ``SentenceTransformer`` open.

    model: what ``load_model`` takes, whose file is copied as it is, or a model or an encoder in memory. folder: it gets
    model.safetensors, configurations in JSON, a line of code that imports this package, and README.md, a model card.
    overwrite: whether files of these names that differ may be replaced; others in the folder stay as they are.

    All files appear together, each whole. Raises WeightsError and ConfigError as ``load_model`` does, OutputError when a
    file is there that differs, or the folder cannot be written. Nothing is written then.
    """
    target, in_memory = Path(folder), isinstance(model, Encoder | Embedder)
    if not in_memory:
        source = find_weights(model)  # type: ignore[arg-type]
        load_weights(source)
    try:
        if target.is_dir():
            sweep(target)
        with ExitStack() as stack:
            weights = stack.enter_context(replacing(target / WEIGHTS_FILE))
            if in_memory:
                save_weights(model, weights)  # type: ignore[arg-type]
            else:
                shutil.copyfile(source, weights)
            files = {WEIGHTS_FILE: weights}
            for name, text in folder_texts(read_facts(weights)).items():
                files[name] = stack.enter_context(replacing(target / name))
                files[name].write_text(text, encoding="utf-8")
            if not overwrite:
                _require_same(files, target)
    except OSError as error:
        raise OutputError(f"{target} cannot be written ({error}); choose another folder") from error


def _require_same(files: Mapping[str, Path], target: Path) -> None:
    """Raise OutputError where a file in the folder is not the one that would be written."""
    for name, new in files.items():
        there = target / name
        if os.path.lexists(there) and not filecmp.cmp(new, there, shallow=False):
            raise OutputError(
                f"{there} is there, and is not what would be written; choose another folder, or replace it (--overwrite)"
            )


def folder_texts(facts: Mapping[str, Any], *, name: str = "", place: str = "") -> dict[str, str]:
    """The files beside model.safetensors, by name, of weights with these facts in their header.

    name, place: as ``model_card`` has them.
    """
    return {
        "config.json": _json(model_config(facts)),
        "preprocessor_config.json": _json({**FEATURE_EXTRACTOR, "auto_map": AUTO_MAP}),
        "modules.json": _json(MODULES),
        "sentence_bert_config.json": _json(MODULE),
        "config_sentence_transformers.json": _json(SENTENCE_TRANSFORMER),
        f"{CODE}.py": REMOTE_CODE,
        "README.md": model_card(facts, name=name, **({"place": place} if place else {})),
    }


def model_config(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What config.json says: the encoder, the layout of its scene embeddings, and the classes of its head."""
    head = facts.get("head")
    config = {
        "architectures": [CLASSES["AutoModelForAudioClassification" if head else "AutoModel"]],
        "auto_map": AUTO_MAP,
        "dtype": "float32",  # that a model is loaded in, whatever its file holds
        "encoder": facts["config"],
        "hidden_size": config_from_dict(facts["config"]).embedding_size,
        "layout": facts["layout"],
        "model_type": MODEL_TYPE,
    }
    if head:
        labels = list(enumerate(head["labels"]))
        config |= {"id2label": {str(i): label for i, label in labels}, "label2id": {label: i for i, label in labels}}
        config |= {"problem_type": head["problem_type"]} if head["problem_type"] else {}
    return config


def _json(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"
