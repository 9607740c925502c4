"""Who is evaluated: an encoder of ours, or any other HEAR module."""

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

OURS = "hear_axlstm"
NAME = re.compile(r"[A-Za-z0-9][\w.+=-]*")


@dataclass(frozen=True)
class Subject:
    """record: what identifies it among results. weights: its file, None where a module brings its own. model: one of ours,
    on the device that embeds."""

    record: ModelRecord
    weights: Path | None
    model: Embedder | None = None


def our_subject(weights: Path, model: Embedder, name: str) -> Subject:
    """An encoder of this package. model: of those weights, on its device. Raises ConfigError on a bad name."""
    record = ModelRecord(
        name=_checked(name),
        module=OURS,
        weights_sha256=sha256_of(weights),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        options={"layout": model.layout, "precision": str(model.compute_dtype).removeprefix("torch.")},
    )
    return Subject(record, weights, model)


def module_subject(module: str, weights: Path | None, options: Mapping[str, Any], name: str) -> Subject:
    """Any HEAR module that Python finds. weights, options: what its ``load_model`` is given. Raises ConfigError."""
    sha256 = None if weights is None else sha256_of(weights)
    record = ModelRecord(name=_checked(name), module=module, weights_sha256=sha256, parameters=None, options=dict(options))
    return Subject(record, weights)


def _checked(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ConfigError(f"the results would call the model {name!r}; expected letters, digits and ._+=- only: say --name")
    return name
