"""Where embeddings go: memory, or a resumable folder of HEAR-style npy files or parquet parts."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from hear_axlstm.errors import OutputError
from hear_axlstm.storage import claim_folder, replacing

Format = Literal["npy", "parquet"]
HEADER = "embed.json"
OURS = ("*.embedding.npy", "*.timestamps.json", "embeddings-*.parquet", ".*.part")
FLUSH_ROWS, FLUSH_SECONDS = 4_096, 60.0  # a parquet part is written when it has so many rows, or after so long
WAITING, WAITING_BYTES = 1_024, 256 << 20  # embeddings that may wait to be written

Array = NDArray[np.float32]


class Sink(ABC):
    """Takes embeddings one by one. Use it as a context manager."""

    @abstractmethod
    def is_done(self, name: str, source: Path) -> bool:
        """Whether ``name`` is here, made from ``source`` as it is now."""

    @abstractmethod
    def write(self, name: str, source: Path | None, embedding: Array, timestamps: Array | None) -> None:
        """Keep one sound's embedding: (D,) for a scene, (N, D) with N timestamps in ms otherwise."""

    @abstractmethod
    def close(self) -> None:
        """Write what is still held back."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class InMemory(Sink):
    """Keeps embeddings and timestamps by name."""

    def __init__(self) -> None:
        self.embeddings: dict[str, Array] = {}
        self.timestamps: dict[str, Array] = {}

    def is_done(self, name: str, source: Path) -> bool:
        return False

    def write(self, name: str, source: Path | None, embedding: Array, timestamps: Array | None) -> None:
        self.embeddings[name] = embedding
        if timestamps is not None:
            self.timestamps[name] = timestamps

    def close(self) -> None:
        pass


class Background(Sink):
    """Writes to another sink in a thread of its own. ``write`` waits only when very much has not been written yet.

    What a write raises is raised by a later ``write``, or by ``close``, which waits for everything: when that ends well,
    all is written.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._waiting: deque[tuple[Future[None], int]] = deque()
        self._bytes = 0

    def is_done(self, name: str, source: Path) -> bool:
        return self._sink.is_done(name, source)

    def write(self, name: str, source: Path | None, embedding: Array, timestamps: Array | None) -> None:
        self._waiting.append((self._thread.submit(self._sink.write, name, source, embedding, timestamps), embedding.nbytes))
        self._bytes += embedding.nbytes
        while self._waiting and (self._waiting[0][0].done() or len(self._waiting) > WAITING or self._bytes > WAITING_BYTES):
            self._settle()

    def close(self) -> None:
        try:
            while self._waiting:
                self._settle()
        finally:
            self._thread.shutdown()
            self._sink.close()

    def _settle(self) -> None:
        """Wait for the oldest write."""
        future, size = self._waiting.popleft()
        self._bytes -= size
        future.result()


class EmbeddingFolder(Sink):
    """A folder of embeddings made with one set of settings.

    Its header, embed.json, records the settings; a folder with other ones is refused, or emptied of embeddings when
    ``overwrite``. A name counts as done while its source has not changed since.

    Raises OutputError when the folder must not be continued or cannot be written.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self.folder = folder
        claim_folder(folder / HEADER, settings, OURS, overwrite=overwrite)


class NpyFolder(EmbeddingFolder):
    """NAME.embedding.npy and, with timestamps, NAME.timestamps.json, as hear-eval-kit names them."""

    def _paths(self, name: str) -> tuple[Path, Path]:
        return self.folder / f"{name}.embedding.npy", self.folder / f"{name}.timestamps.json"

    def is_done(self, name: str, source: Path) -> bool:
        embedding, _ = self._paths(name)
        return embedding.is_file() and embedding.stat().st_mtime_ns >= source.stat().st_mtime_ns

    def write(self, name: str, source: Path | None, embedding: Array, timestamps: Array | None) -> None:
        embedding_path, timestamps_path = self._paths(name)
        if timestamps is not None:
            with replacing(timestamps_path) as temporary:
                temporary.write_text(json.dumps(timestamps.tolist()), encoding="utf-8")
        with replacing(embedding_path) as temporary, open(temporary, "wb") as file:  # last: it marks the sound as done
            np.save(file, embedding)

    def close(self) -> None:
        pass


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

    def is_done(self, name: str, source: Path) -> bool:
        if name not in self._done:
            return False
        if self._done[name] == source.stat().st_mtime_ns:
            return True
        self._forget(name)
        return False

    def _forget(self, name: str) -> None:
        """Take the rows of a sound that has changed out of the parts."""
        del self._done[name]
        for part in self._parts:
            table = self._read(part)
            kept = table.filter(self._arrow.compute.field("name") != name)
            if len(kept) < len(table):
                with replacing(part) as temporary:
                    self._parquet.write_table(kept, temporary)

    def write(self, name: str, source: Path | None, embedding: Array, timestamps: Array | None) -> None:
        assert source is not None
        modified = source.stat().st_mtime_ns
        vectors = embedding[None] if timestamps is None else embedding
        times = [None] if timestamps is None else timestamps.tolist()
        self._rows += [
            {"name": name, "modified": modified, "timestamp_ms": ms, "embedding": vector}
            for ms, vector in zip(times, vectors, strict=True)
        ]
        if len(self._rows) >= FLUSH_ROWS or time.monotonic() - self._since > FLUSH_SECONDS:
            self.close()

    def close(self) -> None:
        if not self._rows:
            return
        arrow = self._arrow
        schema = arrow.schema(
            [
                ("name", arrow.string()),
                ("modified", arrow.int64()),
                ("timestamp_ms", arrow.float32()),
                ("embedding", arrow.list_(arrow.float32(), len(self._rows[0]["embedding"]))),
            ]
        )
        number = 1 + max((int(part.stem.rpartition("-")[2]) for part in self._parts), default=-1)
        part = self.folder / f"embeddings-{number:05}.parquet"
        with replacing(part) as temporary:
            self._parquet.write_table(arrow.Table.from_pylist(self._rows, schema=schema), temporary)
        self._parts.append(part)
        self._rows.clear()
        self._since = time.monotonic()


FORMATS: dict[str, type[EmbeddingFolder]] = {"npy": NpyFolder, "parquet": ParquetFolder}
