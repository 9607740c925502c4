"""The model that is evaluated: an encoder of ours, or any other HEAR module."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hear_axlstm.embedder import Embedder
from hear_axlstm.errors import ConfigError
from hear_axlstm.evaluation.results import ModelRecord
from hear_axlstm.storage import sha256_of
from hear_axlstm.weights.save import fingerprint

OURS = "hear_axlstm"
NAME = re.compile(r"[A-Za-z0-9][\w.+=-]*")


@dataclass(frozen=True)
class Subject:
    """A model that is evaluated, ours or any HEAR module's.

    record: identifies it among results. weights: its file, None where a module brings its own. model: an encoder of ours, on
    the device that embeds; None for another module.
    """

    record: ModelRecord
    weights: Path | None
    model: Embedder | None = None


def our_subject(weights: Path | None, model: Embedder, name: str) -> Subject:
    """An encoder of this package, with those weights, on its device. Raises ConfigError on a bad name.

    weights: their file; None for a baseline, which is known by its parameters.
    """
    record = ModelRecord(
        name=_checked_name(name),
        module=OURS,
        weights_sha256=fingerprint(model.encoder) if weights is None else sha256_of(weights),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        options={
            "layout": model.layout,
            "precision": str(model.compute_dtype).removeprefix("torch."),
            **({"baseline": model.encoder.config.to_dict()} if weights is None else {}),
        },
    )
    return Subject(record, weights, model)


def module_subject(module: str, weights: Path | None, options: Mapping[str, Any], name: str) -> Subject:
    """A model of any HEAR module that Python finds.

    weights, options: arguments of its ``load_model``. Raises ConfigError on a bad name.
    """
    sha256 = None if weights is None else sha256_of(weights)
    record = ModelRecord(
        name=_checked_name(name), module=module, weights_sha256=sha256, parameters=None, options=dict(options)
    )
    return Subject(record, weights)


def _checked_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ConfigError(f"the results would call the model {name!r}; expected letters, digits and ._+=- only: say --name")
    return name
