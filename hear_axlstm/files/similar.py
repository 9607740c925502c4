"""Sounds, their embeddings, or results of ``embed`` -> how similar they are."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch

from hear_axlstm.audio.arrays import holds_numbers
from hear_axlstm.centring import Array, Centring, Neighbours, centring_named, centring_of, cosines, nearest, settled
from hear_axlstm.config import require
from hear_axlstm.embedder import Embedder
from hear_axlstm.errors import AudioError, ConfigError
from hear_axlstm.files import Embedded, embed
from hear_axlstm.files.items import is_one, undecoded
from hear_axlstm.hear import load_model
from hear_axlstm.progress import several

Model = Embedder | str | os.PathLike[str] | None


def similarity(a: Any, b: Any = None, *, model: Model = None) -> Any:
    """How similar sounds are: cosines of their embeddings without what all sounds share. 1 is the same direction.

    a, b: results of ``embed``; embeddings, (D,) or (N, D), of numpy or torch; or sounds as ``embed`` takes them, such as a
    path or a list of paths. b left out: the sounds of ``a`` with one another.
    model: a model, or a name of weights, which embeds the sounds and says what to centre on; the bundled default when left
    out. Results of ``embed`` know themselves.

    With weights that have no centring, such as fine-tuned ones, the mean of all embeddings given is subtracted.
    Returns a float for one sound and another, else (N, M), float32, with NaN for sounds that failed. Raises ConfigError when
    there is no centring and there are fewer than 8 sounds, on embeddings of another size or of different weights; AudioError
    when a single sound cannot be embedded.
    """
    model = _loaded(model) if is_sound(a) or is_sound(b) else model
    one = _collected(a, model)
    require(b is not None or not one.is_single, "there is one sound; expected another to compare it with, or several")
    other = one if b is None else _collected(b, model)
    every = one.matrix if b is None else _joined(one.matrix, other.matrix)
    found = cosines(one.matrix, other.matrix, settled(common(one, other, model), [every]))
    return float(found[0, 0]) if one.is_single and other.is_single else found


def neighbours(sounds: Any, k: int = 5, *, model: Model = None) -> Neighbours:
    """The k most similar others of each sound; all others where they are fewer.

    sounds, model: as ``a`` and ``model`` in ``similarity``. Raises ConfigError as that does, and unless k is 1 or more.
    """
    model = _loaded(model) if is_sound(sounds) else model
    given = _collected(sounds, model)
    require(not given.is_single, "there is one sound; expected several")
    return nearest(given.matrix, given.names, settled(common(given, given, model), [given.matrix]), k)


@dataclass
class Given:
    """Embeddings that were given or made, (N, D). centring: of their weights; known where ``embed`` made them."""

    matrix: Array
    names: list[str]
    is_single: bool = False
    is_result: bool = False
    centring: Centring | None = None


def _collected(given: Any, model: Any) -> Given:
    if isinstance(given, Embedded):
        return _result(given)
    if is_sound(given):
        is_single = is_one_sound(given)
        result = embed(given, model)
        if is_single and result.failures:
            raise AudioError(": ".join(next(iter(result.failures.items()))))
        return _result(result, is_single)
    matrix = as_array(given)
    return Given(np.atleast_2d(matrix), [str(index) for index in range(len(matrix))], matrix.ndim == 1)


def _result(result: Embedded, is_single: bool = False) -> Given:
    matrix, centring = result.matrix, None if result.centring is None else Centring.from_facts(result.centring)
    require(
        bool(result.ok.any()), f"none of {several(len(result), 'sound')} has an embedding, so there is nothing to compare"
    )
    return Given(matrix, list(result.names), is_single, is_result=True, centring=centring)


def is_sound(given: Any) -> bool:
    """Whether this is to be embedded, rather than embeddings."""
    if given is None or isinstance(given, Embedded) or hasattr(given, "embedding"):
        return False
    if hasattr(given, "__array__") and not isinstance(given, str):
        return _are_names(given)
    if undecoded(given) is not given:
        return True
    if isinstance(given, Sequence) and not isinstance(given, str) and not is_one_sound(given) and len(given) > 0:
        first = next((item for item in given if item is not None), None)
        return not isinstance(first, np.ndarray | torch.Tensor | Real | list) and not hasattr(first, "embedding")
    return True


def _are_names(given: Any) -> bool:
    """Whether an array or a column holds paths or rows with sounds, rather than numbers."""
    if not hasattr(given, "dtype") or not getattr(given, "ndim", 1) or holds_numbers(given):
        return False
    return any(isinstance(item, str | bytes | os.PathLike | Mapping) for item in given)


def is_one_sound(given: Any) -> bool:
    """Whether this is one sound, rather than a folder of sounds or several."""
    return is_one(given) and not (isinstance(given, str | os.PathLike) and os.path.isdir(given))


def as_array(given: Any) -> Array:
    """Embeddings (D,) or (N, D), float32, NaN for one that is None, as of a sound that failed. Raises ConfigError."""
    if hasattr(given, "embedding"):
        given = given.embedding
    if isinstance(given, list | tuple):
        items = [_plain(getattr(item, "embedding", item)) for item in given]
        missing = np.full(next((np.shape(item) for item in items if item is not None), ()), np.nan)
        given = [missing if item is None else item for item in items]
    try:
        array = np.asarray(_plain(given), np.float32)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"these are no embeddings of one size ({error}); expected (D,) or (N, D)") from error
    found = "embeddings are None: the sound failed" if given is None else f"embeddings have shape {array.shape}"
    require(array.ndim in (1, 2) and array.size > 0, f"{found}; expected (D,) or (N, D)")
    return array


def _plain(given: Any) -> Any:
    return given.detach().cpu().float().numpy() if isinstance(given, torch.Tensor) else given


def _joined(a: Array, b: Array) -> Array:
    require(a.shape[1] == b.shape[1], f"embeddings have {a.shape[1]} and {b.shape[1]} numbers; expected those of one model")
    return np.concatenate([a, b])


def _loaded(model: Model) -> Embedder:
    return model if isinstance(model, Embedder) else load_model(model or "")


def common(one: Given, other: Given, model: Model) -> Centring | None:
    """The centring that holds for both. Raises ConfigError when they are known to be of different weights."""
    known = [given.centring for given in (one, other) if given.is_result]
    centring = next((found for found in known if found is not None), None)
    if centring is not None:
        same = all(found is not None and centring.equals(found) for found in known)
        require(same, "the two results are of different weights, or settings; embed both with one model")
    if centring is not None or (known and model is None):
        return centring
    if isinstance(model, Embedder):
        return centring_of(model)
    centring, size = centring_named(os.fspath(model or "")), one.matrix.shape[1]
    if model is None and centring is not None and len(centring.mean) != size:
        bundled = f"the bundled weights give {len(centring.mean)}"
        advice = "say which weights gave yours, model=..., or give sounds with their rate, (samples, rate)"
        raise ConfigError(f"embeddings have {size} numbers, but {bundled}; {advice}")
    return centring
