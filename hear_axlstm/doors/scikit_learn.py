"""Our encoders as a step of scikit-learn's pipelines: sounds in, a matrix out.

What learns from the matrix follows in the pipeline; what labels folders by itself is ``hear_axlstm.classify``.
"""

from __future__ import annotations

import hashlib
import math
import os
import threading
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from numbers import Real
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from hear_axlstm.audio import MAX_RATE, MIN_RATE
from hear_axlstm.audio.convert import is_sound
from hear_axlstm.config import Layout, check_choice, require
from hear_axlstm.embedder import Embedder
from hear_axlstm.errors import AudioError, ConfigError
from hear_axlstm.files import embed
from hear_axlstm.files.items import as_sounds
from hear_axlstm.files.outcomes import Array
from hear_axlstm.files.sounds import FileSound, Given, NoSound, unnamed
from hear_axlstm.hear import load_model
from hear_axlstm.ops.backend import find_device
from hear_axlstm.progress import several
from hear_axlstm.weights.find import find_weights
from hear_axlstm.weights.load import read_header
from hear_axlstm.weights.save import fingerprint

try:
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
except ImportError as error:
    raise ImportError("scikit-learn is not installed: pip install 'hear-axlstm[sklearn]'") from error

OnError = Literal["raise", "nan"]
EXPECTED = "expected a list, an array or a column of sounds: paths, arrays, (array, rate) or {'array', 'sampling_rate'}"
MODELS = 2  # that a process keeps: what it loads again is read from the disk
SHOWN = 3  # failures in an error

_one_at_a_time = threading.RLock()  # a model uses all processors by itself


class HearEmbedding(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A transformer of sounds to their scene embeddings. It learns nothing: there is no need to call ``fit``.

    model: a variant, a file, a folder or a repository, as ``load_model`` takes it; empty: the bundled default.
    layout, device: as ``load_model`` takes them. sample_rate: of arrays that come without one, in Hz.
    on_error: what becomes of a sound that cannot be embedded, or of a value that is missing: "raise" raises AudioError,
    "nan" gives it a row of NaN.
    cache: a folder that keeps the embeddings of files, so that each is computed once for all folds, grids and processes,
    and again when the file (its path, size or time) or the weights change. Sounds in memory are not kept.

    The parameters alone are pickled and cloned. A process loads a model once, for all its transformers.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] = "",
        *,
        layout: Layout | None = None,
        device: str = "cpu",
        sample_rate: float = 16_000,
        on_error: OnError = "raise",
        cache: str | os.PathLike[str] | None = None,
    ) -> None:
        self.model = model
        self.layout = layout
        self.device = device
        self.sample_rate = sample_rate
        self.on_error = on_error
        self.cache = cache

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: N803 - scikit-learn's name
        """Check the parameters, and that X holds sounds, without reading them. y is not looked at.

        Raises ConfigError, and WeightsError where there are no such weights.
        """
        self._check()
        self._weights()
        _entries(X)
        return self

    def transform(self, X: Any) -> Array:  # noqa: N803
        """The scene embeddings of N sounds, a row each, in their order. Files named several times are embedded once.

        X: a list, array, Series or table of one column: paths and addresses; arrays, (n_samples,) or (n_samples, channels);
        pairs (array, sample rate); dictionaries with "array" and "sampling_rate"; and what else ``embed`` takes as a sound.
        Of a 2-D array of numbers each row is a sound.

        Shape: -> (N, model's scene_embedding_size), float32. Raises AudioError, ConfigError and WeightsError.
        """
        self._check()
        sounds, rows = self._sounds(X)
        with _one_at_a_time:
            model, weights = _loaded(*self._weights(), self.layout, str(find_device(self.device)))
            embeddings, failures = self._embedded(sounds, model, weights)
        if failures and self.on_error == "raise":
            raise AudioError(_told(failures, rows))
        return embeddings[rows]

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.no_validation = True  # sounds are no table of numbers
        tags.transformer_tags.preserves_dtype = []
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = tags.input_tags.string = True
        tags.input_tags.allow_nan = self.on_error == "nan"
        return tags

    @property
    def _n_features_out(self) -> int:
        return read_header(self._weights()[0])["config"].embedding_size

    def _check(self) -> None:
        expected = "expected a name or a path, by which other processes find it; save_weights writes a model to a file"
        require(isinstance(self.model, str | os.PathLike), f"model is a {type(self.model).__name__}; {expected}")
        check_choice("on_error", self.on_error, OnError)
        is_folder = self.cache is None or isinstance(self.cache, str | os.PathLike)
        require(is_folder, f"cache is {self.cache!r}; expected a folder, or None")
        if self.layout is not None:
            check_choice("layout", self.layout, Layout)
        rate, is_rate = self.sample_rate, isinstance(self.sample_rate, Real)
        require(
            is_rate and MIN_RATE <= rate <= MAX_RATE, f"sample_rate is {rate!r}; expected {MIN_RATE:,} to {MAX_RATE:,} Hz"
        )
        find_device(self.device)

    def _weights(self) -> tuple[Path, int, int]:
        """The weights' file, its size and its time, which tell whether a model that is loaded is of it."""
        path = find_weights(self.model)
        status = path.stat() if path.exists() else None
        return (path, status.st_size, status.st_mtime_ns) if status else (path, 0, 0)

    def _sounds(self, X: Any) -> tuple[list[Given], list[int]]:  # noqa: N803
        """The sounds of X, each file once, and which of them each row is of."""
        sounds: list[Given] = []
        rows, seen = list[int](), dict[str, int]()
        for row, entry in enumerate(_entries(X)):
            sound = self._sound(entry, f"row {row}")
            key = os.path.abspath(sound.path) if sound.path else sound.name
            if key not in seen:
                seen[key] = len(sounds)
                sounds.append(sound)
            rows.append(seen[key])
        return sounds, rows

    def _sound(self, entry: Any, name: str) -> Given:
        if _is_missing(entry) or isinstance(entry, Real):
            return NoSound(name, f"is {entry!r}; expected a sound")
        if isinstance(entry, str | os.PathLike) and os.path.isdir(os.path.expanduser(entry)):
            return NoSound(
                str(entry), "a folder; expected a file: pass the files in it, such as sorted(folder.glob('*.wav'))"
            )
        (sound,) = as_sounds([entry], self.sample_rate)
        return replace(sound, name=sound.place or name)

    def _embedded(self, sounds: list[Given], model: Embedder, weights: str) -> tuple[Array, dict[str, str]]:
        """The embeddings of the sounds, NaN where there is none, and why not, by name."""
        matrix = np.full((len(sounds), model.scene_embedding_size), np.nan, dtype=np.float32)
        kept = [row for row, sound in enumerate(sounds) if self.cache is not None and isinstance(sound, FileSound)]
        others = sorted(set(range(len(sounds))) - set(kept))
        failures: dict[str, str] = {}
        if others:
            found = embed([replace(sounds[row], name=str(row)) for row in others], model, progress=False)
            matrix[others] = found.matrix
            names = {str(row): sounds[row].name for row in others}
            failures |= {names[row]: unnamed(why, names[row]) for row, why in found.failures.items()}
        if kept:
            assert self.cache is not None
            precision = str(model.compute_dtype).removeprefix("torch.")
            folder = Path(os.path.expanduser(self.cache), f"{weights[:16]}-{model.layout}-{precision}")
            places = {_kept_as(sounds[row]): row for row in kept}
            found = embed(
                [replace(sounds[row], name=name) for name, row in places.items()], model, out=folder, progress=False
            )
            for name, ok in zip(found.names, found.ok, strict=True):
                if ok:
                    matrix[places[name]] = np.load(folder / f"{name}.embedding.npy", allow_pickle=False)
            failures |= {sounds[places[name]].name: why for name, why in found.failures.items()}
        return matrix, failures


@lru_cache(maxsize=MODELS)
def _loaded(path: Path, size: int, time: int, layout: Layout | None, device: str) -> tuple[Embedder, str]:
    """The model of a weights file as it is now, and its fingerprint."""
    model = load_model(path, layout=layout, device=device)
    return model, fingerprint(model.encoder)


def _entries(X: Any) -> list[Any]:  # noqa: N803
    """The sounds that X holds, one a row. Raises ConfigError where it is one sound, several columns, or nothing."""
    kind, shape = type(X).__name__, getattr(X, "shape", None)
    require(not hasattr(X, "toarray"), f"X is a sparse {kind}; {EXPECTED}")
    if isinstance(X, str | bytes | os.PathLike | Mapping) or is_sound(X):
        raise ConfigError(f"X is a {kind}, one sound or folder; {EXPECTED}: [sound] holds one")
    if hasattr(X, "columns"):
        require(len(X.columns) == 1, f"X is a table of {len(X.columns)} columns; expected one, of sounds: table[['path']]")
        X = X.columns[0] if hasattr(X, "column_names") else X[X.columns[0]]  # noqa: N806 - the former of pyarrow
    elif shape is not None and hasattr(X, "dtype"):
        X = _rows(X, tuple(shape))  # noqa: N806
    try:
        entries = X.to_pylist() if hasattr(X, "to_pylist") else list(X)
    except TypeError as error:
        raise ConfigError(f"X is a {kind}; {EXPECTED}") from error
    require(len(entries) > 0, f"X holds 0 sounds; {EXPECTED}, one at least")
    if all(isinstance(entry, Real) and not _is_missing(entry) for entry in entries):
        raise ConfigError(f"X is a {kind} of numbers, one sound or none; {EXPECTED}: [samples] holds one")
    return entries


def _rows(X: Any, shape: tuple[int, ...]) -> Any:  # noqa: N803
    """An array as its rows: what a column holds, or samples. Raises ConfigError where rows are several things."""
    require(len(shape) > 0, f"X is a single value; {EXPECTED}")
    if getattr(X.dtype, "kind", "f") not in "OSUT" or len(shape) == 1:
        return X
    X = np.asarray(X)  # noqa: N806
    if shape[1:] == (1,):
        return X[:, 0]
    if X.dtype.kind == "O" and X.size and all(isinstance(value, Real) for value in X.flat):
        return np.array(X.tolist())  # clips of one length in an array of objects
    raise ConfigError(f"X has shape {shape}; expected one column of sounds: X[:, [0]]")


def _is_missing(entry: Any) -> bool:
    if isinstance(entry, Real):
        return math.isnan(entry)
    return entry is None or type(entry).__name__ in ("NAType", "NaTType")  # of pandas


def _kept_as(sound: Given) -> str:
    """What the cache calls a file: the same in all runs, another for each path, and valid as a name."""
    return hashlib.sha256(os.fsencode(os.path.abspath(sound.path or ""))).hexdigest()[:40]


def _told(failures: Mapping[str, str], rows: list[int]) -> str:
    named = [why if why.startswith(name) else f"{name}: {why}" for name, why in failures.items()]
    shown = "; ".join(named[:SHOWN])
    more = "; ..." if len(failures) > SHOWN else ""
    advice = "on_error='nan' gives rows of NaN instead"
    return f"{len(failures):,} of {several(len(rows), 'sound')} cannot be embedded: {shown}{more} ({advice})"
