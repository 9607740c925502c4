"""A linear classifier of scene embeddings, and the file that it is kept in."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from hear_axlstm.errors import ConfigError, WeightsError
from hear_axlstm.weights.check import canonical, is_sealed, sealed
from hear_axlstm.weights.save import write_safetensors

CLASSIFIER = "classifier.safetensors"
METADATA_KEY = "hear_axlstm_classifier"
FORMAT = 1
PAD_SHORT = "pad_short"  # the fact that says whether sounds too short to embed are padded; files without it pad none
EXPECTED = "expected a file that `hear-axlstm classify` or `hear-axlstm finetune` wrote"

Floats = NDArray[np.float32]
Numbers = NDArray[Any]


def unstandardised(
    weight: NDArray[Any], bias: NDArray[Any], mean: NDArray[Any], scale: NDArray[Any]
) -> tuple[Floats, Floats]:
    """What does to plain embeddings what a weight (C, D) and a bias (C,) do to standardised ones."""
    plain = weight / scale
    return plain.astype(np.float32), (bias - plain @ mean).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Classifier:
    """The class of a sound is the one with the largest ``weight @ embedding + bias``; softmax makes probabilities of them.

    weight: (C, D) float32. bias: (C,) float32. classes: C names. facts: what JSON can hold, and a reader needs: "model", the
    name of the weights whose embeddings these are; "fingerprint", theirs; "layout"; "pad_short", whether sounds too short to
    embed were padded, where that is said; and how good the classifier is.
    """

    weight: Floats
    bias: Floats
    classes: list[str]
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.classes)
        shapes = (self.weight.ndim, self.weight.shape[:1], self.bias.shape)
        if count < 2 or len(set(self.classes)) < count or shapes != (2, (count,), (count,)):
            raise ConfigError(
                f"a classifier of {count} classes has a weight of {self.weight.shape} and a bias of {self.bias.shape}; "
                "expected two different classes or more, (classes, size) and (classes,)"
            )

    def probabilities(self, embeddings: NDArray[Any]) -> NDArray[np.float64]:
        """How likely each class is. Shape: (N, D) -> (N, C), each row sums to 1; NaN where an embedding is NaN.

        Raises ConfigError on embeddings of another size.
        """
        if embeddings.ndim != 2 or embeddings.shape[1] != self.weight.shape[1]:
            expected = f"expected (n, {self.weight.shape[1]}), as {self.facts.get('model', 'its weights')} gives"
            raise ConfigError(f"embeddings have shape {embeddings.shape}; {expected}")
        return softmax(embeddings.astype(np.float64) @ self.weight.T.astype(np.float64) + self.bias)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as safetensors, with classes and facts as JSON in the header. Raises OSError."""
        tensors = {"weight": torch.from_numpy(self.weight), "bias": torch.from_numpy(self.bias)}
        facts = sealed({"format": FORMAT, "classes": self.classes, "facts": self.facts}, tensors)
        write_safetensors(tensors, Path(path), {METADATA_KEY: canonical(facts)})


def softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores as probabilities. Shape: (N, C) -> (N, C), each row sums to 1."""
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def read_classifier(path: str | os.PathLike[str]) -> Classifier:
    """The classifier in a file, or in the file classifier.safetensors of a folder.

    Raises WeightsError when there is none, or it is damaged.
    """
    file = Path(path) / CLASSIFIER if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise WeightsError(f"{file}: no such file; {EXPECTED}, or its folder")
    try:
        with safe_open(file, "pt") as opened:
            facts = json.loads((opened.metadata() or {})[METADATA_KEY])
            if facts["format"] != FORMAT:
                raise WeightsError(f"{file} has format {facts['format']!r:.20}; expected {FORMAT}: update hear-axlstm")
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - it is no mapping
        if not is_sealed(facts, tensors):
            raise ValueError("it is not what its fingerprint was made of")
        weight, bias = (tensors[name].numpy() for name in ("weight", "bias"))
        return Classifier(weight, bias, facts["classes"], facts["facts"])
    except WeightsError:
        raise
    except (SafetensorError, OSError, LookupError, TypeError, ValueError, RecursionError, ConfigError) as error:
        raise WeightsError(f"{file} is damaged, or no classifier ({error!s:.200}); {EXPECTED}") from error
