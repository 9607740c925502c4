"""What somebody wants to search -> its embeddings, few at a time, and what they were made with.

That is a folder that ``embed`` wrote, a result of ``embed``, sounds, or embeddings of numpy or torch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hear_axlstm.centring import Array, Centring
from hear_axlstm.config import require
from hear_axlstm.embedder import Embedder
from hear_axlstm.errors import AudioError, ConfigError, OutputError
from hear_axlstm.files import Embedded, embed, load_embeddings
from hear_axlstm.files.load import read_blocks
from hear_axlstm.files.result import SUFFIX
from hear_axlstm.files.settings import read_settings
from hear_axlstm.files.similar import Given, Model, as_array, common, is_one_sound, is_sound
from hear_axlstm.hear import load_model
from hear_axlstm.progress import several
from hear_axlstm.weights.find import list_models, read_manifest
from hear_axlstm.weights.names import name_of, weights_name
from hear_axlstm.weights.save import fingerprint

Embeddings = tuple[Sequence[str], Sequence[str], Array]  # names, paths and a matrix (n, D) of the same n sounds


@dataclass(frozen=True)
class Made:
    """What embeddings were made with, as far as it is known.

    facts: "weights", what they are called, and what a folder's settings say: "weights_sha256", "layout", "layers",
    "precision" and "pad_short". What is not known is not in it.
    """

    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def weights(self) -> str:
        """What the weights are called; empty where that is not known."""
        return str(self.facts.get("weights", ""))

    def check(self, other: Made) -> None:
        """Raise ConfigError where others are known to have been made otherwise."""
        for name in ("weights", "weights_sha256", "layout", "layers"):
            was, now = self.facts.get(name), other.facts.get(name)
            both = name in self.facts and name in other.facts
            require(not both or was == now, f"the embeddings are of {name} {was}, not {now}; expected those of one model")

    def embed(self, sounds: Any, model: Model, centring: Centring) -> Embedded:
        """Embed sounds as these were.

        model: which they were made with; bundled weights are found without. centring: of these. Raises ConfigError where
        the model is another, or not known, and as ``load_model``; AudioError when a single sound cannot be embedded.
        """
        options = {name: self.facts[name] for name in ("layers", "pad_short") if self.facts.get(name)}
        result = embed(sounds, self._model(model, centring), progress=False, **options)
        if result.failures and is_one_sound(sounds):
            raise AudioError(": ".join(next(iter(result.failures.items()))))
        return result

    def _model(self, model: Model, centring: Centring) -> Embedder:
        if not isinstance(model, Embedder):
            is_plain = "layout" in self.facts or len(centring.directions) > 0  # else another layer may be meant
            if not model and not (self.weights in list_models() and is_plain):
                what = f"weights {self.weights}" if self.weights else "weights that nothing names"
                raise ConfigError(f"the embeddings are of {what}; say where they are: model=..., or --model")
            options = {name: self.facts[name] for name in ("layout", "precision") if self.facts.get(name)}
            model = load_model(model or self.weights, **options)
        self.check(Made({
            "weights": weights_name(model.encoder), "weights_sha256": fingerprint(model.encoder), "layout": model.layout
        }))  # fmt: skip
        return model


@dataclass(frozen=True)
class Collection:
    """Embeddings that can be read more than once. centring: what their weights say of it."""

    blocks: Callable[[], Iterator[Embeddings]]
    made: Made
    centring: Centring | None


def collection(given: Any, names: Sequence[str] | None = None, *, model: Model = None) -> Collection:
    """What is given as a collection.

    given: the path of a folder that ``embed`` wrote, or of a result that was saved; a result; embeddings, (D,) or (N, D); or
    sounds as ``embed`` takes them. names: of embeddings alone, their numbers when left out. model: which gave these, or is
    to embed the sounds; the bundled default when left out.

    Raises ConfigError and OutputError, with the reason why this cannot be searched.
    """
    if (there := stored(given)) is not None:
        return there
    if is_sound(given):
        return result_collection(embed(given, model))
    matrix, own = as_named(given, names)
    model = load_model(model) if isinstance(model, str | os.PathLike) else model
    known = Given(matrix, own)
    weights = read_manifest()["default"] if model is None else weights_name(model.encoder)
    return Collection(
        lambda: iter([(own, [""] * len(own), matrix)]), Made({"weights": weights}), common(known, known, model)
    )


def stored(given: Any) -> Collection | None:
    """A folder or a file of embeddings, or a result, as a collection; None for sounds and plain embeddings."""
    if isinstance(given, Embedded):
        return _folder(given.folder) if given.folder is not None else result_collection(given)
    if not isinstance(given, str | os.PathLike):
        return None
    path = Path(os.path.expanduser(given))
    if path.is_dir():
        return None if read_settings(path) is None else _folder(path)
    return result_collection(load_embeddings(path)) if path.suffix == SUFFIX else None


def as_named(given: Any, names: Sequence[str] | None = None) -> tuple[Array, list[str]]:
    """Embeddings, (D,) or (N, D), as a matrix, with their names, or numbers. Raises ConfigError on anything else."""
    matrix = np.atleast_2d(as_array(given))
    own = list(map(str, range(len(matrix)) if names is None else names))
    require(len(own) == len(matrix), f"there are {several(len(own), 'name')} for {several(len(matrix), 'embedding')}")
    return matrix, own


def result_collection(result: Embedded) -> Collection:
    """A result in memory as a collection."""
    matrix = result.matrix
    centring = None if result.centring is None else Centring.from_facts(result.centring)
    made = Made({"weights": result.weights} if result.weights else {})
    return Collection(lambda: iter([(result.names, result.paths, matrix)]), made, centring)


def _folder(folder: Path) -> Collection:
    settings = read_settings(folder)
    if settings is None:
        raise OutputError(f"{folder} holds no embeddings; expected a folder that hear-axlstm embed wrote")
    try:
        layers, facts = settings["layers"], settings["centring"]
        if settings["embeddings"] != "scene":
            raise ConfigError(f"{folder} holds an embedding every 40 ms; expected one a sound: embed without --timestamps")
        if layers is not None and len(layers) != 1:
            raise ConfigError(f"{folder} holds {several(len(layers), 'layer')}; expected one: embed without --layers")
        kept = {name: settings.get(name) for name in ("weights_sha256", "layout", "layers", "precision", "pad_short")}
        made = Made({"weights": name_of(settings["weights_sha256"], settings["architecture"]), **kept})
    except (LookupError, TypeError) as error:
        raise OutputError(f"{folder} does not say how its embeddings were made ({error!r}); embed again") from error

    def blocks() -> Iterator[Embeddings]:
        for block in read_blocks(folder):
            yield block.names, block.paths, block.matrix.reshape(len(block.names), -1)

    return Collection(blocks, made, None if facts is None else Centring.from_facts(facts))


def matrices(blocks: Iterable[Embeddings]) -> Iterator[Array]:
    """The matrices alone."""
    for _, _, matrix in blocks:
        yield matrix
