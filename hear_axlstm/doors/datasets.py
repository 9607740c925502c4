"""Hugging Face datasets: rows with sounds -> their embeddings, by ``ds.map(Embed(model), batched=True)``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hear_axlstm.audio.convert import is_sound
from hear_axlstm.embedder import Embedder
from hear_axlstm.errors import ConfigError
from hear_axlstm.files import embed
from hear_axlstm.files.outcomes import Array
from hear_axlstm.hear import load_model

if TYPE_CHECKING:
    from datasets import Features

EMBEDDING, ERROR = "embedding", "embedding_error"  # the columns that are added


class Embed:
    """A function of a batch of rows that gives them scene embeddings: ``ds.map(Embed(model), batched=True, batch_size=64)``.

    It can be pickled, and what datasets remembers of it depends on the weights and options alone, so that a second map is
    read from the cache. Sounds are decoded by this package, from the bytes or paths that the rows have, and resampled from
    their own rate by soxr, whatever rate the ``Audio`` feature asks for; so torchcodec is not needed. Where rows have
    decoders alone, as those of an ``IterableDataset`` do, these are asked for their samples.
    """

    def __init__(
        self,
        model: Embedder | str | os.PathLike[str] | None = None,
        *,
        column: str = "audio",
        device: str = "cpu",
        pad_short: bool = False,
    ) -> None:
        """Load the model, unless it is loaded.

        model: what ``load_model`` returns, or takes; the bundled default when left out. column: of the sounds. device: where
        a model that is not loaded yet is put. pad_short: whether sounds too short to embed are padded with zeros.
        """
        self.model = model if isinstance(model, Embedder) else load_model(model or "", device=device)
        self.column, self.pad_short = column, pad_short

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """The columns to add: "embedding", (D,) float32 each, and "embedding_error", empty where there is one.

        Of a sound that cannot be embedded the embedding is None, and the error says why. Raises ConfigError where the
        column is missing, or holds one sound, which is not a batch.
        """
        sounds = [_row(sound) for sound in self._sounds(batch)]
        result = embed(sounds, self.model, pad_short=self.pad_short, progress=False)
        errors = [result.failures.get(name, "") for name in result.names]
        embeddings: list[Array | None] = result.embeddings
        return {EMBEDDING: embeddings, ERROR: errors}

    def features(self, rows: Any) -> Features:
        """The columns of a data set that was mapped, by type. As ``features=`` of ``map``, they are what it need not guess.

        It guesses by the first rows, which fails where none of these has an embedding.
        """
        from datasets import Features, List, Value

        size = self.model.scene_embedding_size
        return Features({**rows.features, EMBEDDING: List(Value("float32"), length=size), ERROR: Value("string")})

    def _sounds(self, batch: Mapping[str, Sequence[Any]]) -> Sequence[Any]:
        columns = getattr(batch, "column_names", batch)  # of a table of pyarrow
        if self.column not in columns:
            there = ", ".join(map(str, columns))
            raise ConfigError(f"rows have no column {self.column!r}, but {there}; say which: Embed(column=...)")
        stored = getattr(batch, "pa_table", None)  # where datasets would decode it
        if stored is not None and _holds_files(stored.schema.field(self.column).type):
            sounds = stored[self.column]
        else:
            sounds = batch[self.column]
        if type(batch).__name__ == "LazyRow" or isinstance(sounds, str) or is_sound(sounds):
            raise ConfigError("this is one row, not a batch; pass batched=True to map")
        return sounds.to_pylist() if hasattr(sounds, "to_pylist") else list(sounds)


def _holds_files(kind: Any) -> bool:
    """Whether an Arrow type is that of files, as ``Audio`` features keep them."""
    return {"bytes", "path"} <= {kind.field(number).name for number in range(kind.num_fields)}


def _row(sound: Any) -> Any:
    """A sound that is named by its place in the batch, also where it is a path."""
    return {"path": sound, "bytes": None} if isinstance(sound, str | os.PathLike) else sound
