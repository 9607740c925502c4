"""Folders of embeddings, npy files as HEAR names them or parquet: they appear whole, and a second run continues them."""

from __future__ import annotations

import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hear_axlstm.embedder import Embedder
from hear_axlstm.encoder import Layers, layer_numbers
from hear_axlstm.errors import OutputError
from hear_axlstm.files.outcomes import Array, Outcome
from hear_axlstm.parallel import ordered_map
from hear_axlstm.storage import claim_folder, replacing, write_text
from hear_axlstm.weights.save import fingerprint

Format = Literal["npy", "parquet"]
HEADER = "embed.json"
OURS = ("*.embedding.npy", "*.timestamps.json", "embeddings-*.parquet", ".*.part")
FLUSH_ROWS, FLUSH_SECONDS = 4_096, 60.0  # a parquet part is written when it has this many rows, or is this old
WAITING_BYTES = 256 << 20  # embeddings that may wait to be written


def sink(outcomes: Iterable[Outcome], folder: EmbeddingFolder) -> Generator[Outcome, None, None]:
    """Write the embeddings among outcomes, in a thread, and give each outcome back, without its arrays, when it is written.

    Outcomes are drawn without waiting for those before, unless very much has not been written yet. However this ends, what
    was drawn by then is written. A caller that may stop early uses ``contextlib.closing``.

    Raises OSError when a file cannot be written.
    """

    def write(outcome: Outcome) -> Outcome:
        if outcome.embedding is not None:
            folder.write(outcome, outcome.embedding)
        return replace(outcome, embedding=None, timestamps=None)

    def size(outcome: Outcome) -> int:
        return 0 if outcome.embedding is None else outcome.embedding.nbytes

    try:
        yield from ordered_map(write, outcomes, threads=1, size=size, ahead=0, limit=WAITING_BYTES, cancel=False)
    finally:
        folder.close()


def open_folder(
    out: str | os.PathLike[str],
    model: Embedder,
    *,
    timestamps: bool = False,
    layers: Layers | None = None,
    format: Format = "npy",
    overwrite: bool = False,
) -> EmbeddingFolder:
    """The folder ``out`` for embeddings of this model and kind, made or continued; its embed.json records both.

    overwrite: whether to remove embeddings that are there, whatever they were made with.

    Raises OutputError when the folder was made with other settings or cannot be written, ConfigError on layers that the
    model does not have.
    """
    settings = {
        "weights_sha256": fingerprint(model.encoder),
        "architecture": model.encoder.config.to_dict(),
        "embeddings": "timestamp" if timestamps else "scene",
        "layers": None if layers is None else layer_numbers(layers, model.encoder.config.depth),
        "layout": "time" if timestamps else model.layout,
        "precision": str(model.compute_dtype).removeprefix("torch."),
        "format": format,
    }
    return FORMATS[format](Path(out), settings, overwrite=overwrite)


class EmbeddingFolder(ABC):
    """A folder of embeddings made with one set of settings, which its header records. Writing and closing is one thread's.

    Raises OutputError when the folder must not be continued or cannot be written.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self.folder = folder
        claim_folder(folder / HEADER, settings, OURS, overwrite=overwrite)

    @abstractmethod
    def is_done(self, name: str, path: Path) -> bool:
        """True if the folder has the embedding of ``name``, made since ``path``, its file, last changed."""

    @abstractmethod
    def write(self, outcome: Outcome, embedding: Array) -> None:
        """Write the embedding of an outcome, or take it to be written with others."""

    def close(self) -> None:  # noqa: B027 - most hold nothing back
        """Write what is held back."""


class NpyFolder(EmbeddingFolder):
    """NAME.embedding.npy and, with timestamps, NAME.timestamps.json, as hear-eval-kit names them."""

    def _paths(self, name: str) -> tuple[Path, Path]:
        return self.folder / f"{name}.embedding.npy", self.folder / f"{name}.timestamps.json"

    def is_done(self, name: str, path: Path) -> bool:
        embedding, _ = self._paths(name)
        return embedding.is_file() and embedding.stat().st_mtime_ns >= path.stat().st_mtime_ns

    def write(self, outcome: Outcome, embedding: Array) -> None:
        embedding_path, timestamps_path = self._paths(outcome.name)
        if outcome.timestamps is not None:
            write_text(timestamps_path, json.dumps(outcome.timestamps.tolist()))
        with replacing(embedding_path) as temporary, open(temporary, "wb") as file:  # last: it marks the sound as done
            np.save(file, embedding)


class ParquetFolder(EmbeddingFolder):
    """embeddings-00000.parquet and so on: one dataset, a row a scene or timestamp.

    Columns: name, modified (the source's, ns since the epoch), timestamp_ms (null for scenes), embedding.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, overwrite: bool = False) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise OutputError("parquet output needs pyarrow: pip install 'hear-axlstm[parquet]'") from error
        self._arrow = pyarrow
        self._parquet = pyarrow.parquet
        super().__init__(folder, settings, overwrite=overwrite)
        self._rows: list[dict[str, Any]] = []
        self._since = time.monotonic()
        self._done: dict[str, int] = {}
        self._parts = sorted(folder.glob("embeddings-*.parquet"))
        for part in self._parts:
            self._done.update(zip(*self._read(part, ["name", "modified"]).to_pydict().values(), strict=True))

    def _read(self, part: Path, columns: list[str] | None = None) -> Any:
        try:
            return self._parquet.read_table(part, columns=columns)
        except (self._arrow.ArrowInvalid, OSError) as error:
            raise OutputError(f"{part} is damaged ({error}); delete it and repeat: its sounds are embedded again") from error

    def is_done(self, name: str, path: Path) -> bool:
        if name not in self._done:
            return False
        if self._done[name] == path.stat().st_mtime_ns:
            return True
        self._forget(name)
        return False

    def _forget(self, name: str) -> None:
        """Take the rows of a sound that has changed out of the parts."""
        del self._done[name]
        for part in self._parts:
            table = self._read(part)
            others = table.filter(self._arrow.compute.field("name") != name)
            if len(others) < len(table):
                with replacing(part) as temporary:
                    self._parquet.write_table(others, temporary)

    def write(self, outcome: Outcome, embedding: Array) -> None:
        assert outcome.path is not None
        modified = outcome.path.stat().st_mtime_ns
        times = [None] if outcome.timestamps is None else outcome.timestamps.tolist()
        vectors = embedding[None] if outcome.timestamps is None else np.moveaxis(embedding, -2, 0)
        self._rows += [
            {"name": outcome.name, "modified": modified, "timestamp_ms": ms, "embedding": vector}
            for ms, vector in zip(times, vectors, strict=True)
        ]
        if len(self._rows) >= FLUSH_ROWS or time.monotonic() - self._since > FLUSH_SECONDS:
            self.close()

    def close(self) -> None:
        if not self._rows:
            return
        arrow = self._arrow
        vectors = np.stack([row["embedding"] for row in self._rows])
        embeddings = arrow.array(vectors.ravel())
        for length in reversed(vectors.shape[1:]):
            embeddings = arrow.FixedSizeListArray.from_arrays(embeddings, length)
        table = arrow.table(
            {
                "name": [row["name"] for row in self._rows],
                "modified": arrow.array([row["modified"] for row in self._rows], arrow.int64()),
                "timestamp_ms": arrow.array([row["timestamp_ms"] for row in self._rows], arrow.float32()),
                "embedding": embeddings,
            }
        )
        number = 1 + max((int(part.stem.rpartition("-")[2]) for part in self._parts), default=-1)
        part = self.folder / f"embeddings-{number:05}.parquet"
        with replacing(part) as temporary:
            self._parquet.write_table(table, temporary)
        self._parts.append(part)
        self._rows.clear()
        self._since = time.monotonic()


FORMATS: dict[str, type[EmbeddingFolder]] = {"npy": NpyFolder, "parquet": ParquetFolder}
