"""An index on disk: a folder with arrays that are memory-mapped, and index.json, which says which of them count.

Every file is written under a temporary name. index.json comes last and names the files of its own writing, so that a run
that is killed leaves the index as it was, or as it is to be. Nothing in it is a pickle.
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hear_axlstm.errors import ConfigError, OutputError
from hear_axlstm.explore.graph import Graph
from hear_axlstm.explore.scan import Half
from hear_axlstm.explore.texts import Texts
from hear_axlstm.files.folder import locked
from hear_axlstm.storage import read_json, replacing, strict_json, sweep, write_text

KIND, VERSION = "hear-axlstm index", 2
BEFORE = 1  # the graphs of this version had all copies in them, among which a search can get lost: they are not read
HEADER = "index.json"
ARRAYS = {"vectors": "float16", "names": "uint8", "name_ends": "int64", "paths": "uint8", "path_ends": "int64"}
OURS = {*ARRAYS, "projection", "twins", "graph"}  # what files of ours are called, before the mark of their writing
SUFFIXES = {"graph": ".usearch"}  # all others are .npy
ADVICE = "make the index again"

Part = tuple[Half, Texts, Texts]  # vectors, (n, D), names and paths

logger = logging.getLogger(__name__)


@dataclass
class StoredIndex:
    """What an index's folder holds: facts from index.json, and what is memory-mapped.

    graph: of the first ``covered`` vectors; None where there is none, or usearch is not installed.
    """

    facts: dict[str, Any]
    vectors: Half
    names: Texts
    paths: Texts
    graph: Graph | None = None
    covered: int = 0


def said(folder: Path) -> dict[str, Any]:
    """What a folder says of itself as an index, whole or not; nothing where it is none."""
    with suppress(OutputError):
        facts = read_json(folder / HEADER, OutputError, ADVICE)
        if isinstance(facts, dict) and facts.get("kind") == KIND:
            return facts
    return {}


def is_index(folder: Path) -> bool:
    """Whether a folder says that it is an index, whole or not."""
    return bool(said(folder))


def write_index(folder: Path, facts: Mapping[str, Any], parts: Iterable[Part]) -> dict[str, Any]:
    """Write vectors, part by part, with their names and paths, as an index without a graph.

    facts: what JSON can hold, with "dimensions", those of the vectors. What index was there before is replaced when all is
    written. Returns the facts as written, by which ``write_graph`` knows the index. Raises OutputError where the folder is
    something else, or cannot be written.
    """
    mark, sizes = uuid.uuid4().hex[:8], {"vectors": (int(facts["dimensions"]),)}
    with _writing(folder), ExitStack() as temporary:
        paths = {name: temporary.enter_context(replacing(_file(folder, name, mark))) for name in ARRAYS}
        with ExitStack() as opened:
            arrays = {
                name: opened.enter_context(closing(_Growing(paths[name], kind, sizes.get(name, ()))))
                for name, kind in ARRAYS.items()
            }
            for vectors, *texts in parts:
                arrays["vectors"].add(vectors)
                for kind, own in zip(("name", "path"), texts, strict=True):
                    arrays[f"{kind}_ends"].add(own.ends + arrays[f"{kind}s"].count)
                    arrays[f"{kind}s"].add(own.data)
        with locked(folder):
            temporary.close()  # each has its name now
            count = arrays["vectors"].count
            facts = {**facts, "kind": KIND, "version": VERSION, "files": mark, "count": count, "graph": None}
            _commit(folder, facts)
    return facts


def write_graph(folder: Path, facts: Mapping[str, Any], graph: Graph, count: int) -> None:
    """Add the graph of the first ``count`` vectors of the index that has these facts; another one stays as it is.

    Raises OutputError where the folder cannot be written.
    """
    mark = uuid.uuid4().hex[:8]
    with _writing(folder), ExitStack() as temporary:
        projection, twins, inner = (
            temporary.enter_context(replacing(_file(folder, name, mark))) for name in ("projection", "twins", "graph")
        )
        _save(projection, graph.projection)
        _save(twins, graph.twins)
        graph.save(inner)
        with locked(folder):
            temporary.close()
            there = _facts(folder)
            if there["files"] == facts["files"]:
                there |= {"version": VERSION, "graph": {"files": mark, "count": count}}
            _commit(folder, there)


def read_index(folder: Path) -> StoredIndex:
    """An index, memory-mapped. Raises OutputError when there is none, or it is damaged."""
    before: object = None
    while True:  # another run may replace the files after index.json is read
        facts = _facts(folder)
        try:
            return _read(folder, facts)
        except FileNotFoundError as error:
            if before == facts:
                raise OutputError(f"{folder} is damaged: {error.filename} is missing; {ADVICE}") from error
            before = facts
        except Exception as error:  # numpy has many words for damage
            raise OutputError(f"{folder} is damaged ({error}); {ADVICE}") from error


def _facts(folder: Path) -> dict[str, Any]:
    if not (folder / HEADER).is_file():
        raise OutputError(f"{folder} holds no {HEADER}; expected an index that was saved; Index.build makes one")
    facts = read_json(folder / HEADER, OutputError, ADVICE)
    if not isinstance(facts, dict) or facts.get("kind") != KIND or not isinstance(facts.get("files"), str):
        raise OutputError(f"{folder / HEADER} is of no index of this package; {ADVICE}, elsewhere")
    if facts.get("version") not in (BEFORE, VERSION):
        raise OutputError(f"{folder} is an index of version {facts.get('version')}; expected {VERSION}; {ADVICE}")
    return facts


def _read(folder: Path, facts: dict[str, Any]) -> StoredIndex:
    vectors, *texts = (_mapped(_file(folder, name, facts["files"])) for name in ARRAYS)
    names, paths = Texts(texts[0], texts[1]), Texts(texts[2], texts[3])
    kinds = [array.dtype.name for array in (vectors, *texts)]
    if kinds != list(ARRAYS.values()) or vectors.shape != (facts["count"], facts["dimensions"]):
        raise ValueError("its arrays are not of the kind and size that index.json says")
    if not len(names) == len(paths) == len(vectors) or not names.is_whole() or not paths.is_whole():
        raise ValueError("its names do not fit its vectors")
    stored = StoredIndex(facts, vectors, names, paths)
    if (graph := facts["graph"]) is not None and facts["version"] == BEFORE:
        logger.warning("the graph of %s is of an earlier version: every vector is compared until it is made anew", folder)
    elif graph is not None:
        projection, twins = (
            np.load(_file(folder, name, graph["files"]), allow_pickle=False) for name in ("projection", "twins")
        )
        if twins.dtype != np.int64 or twins.shape[1:] != (2,) or not ((twins >= 0) & (twins < len(vectors))).all():
            raise ValueError("its graph's twins are no pairs of its vectors")
        path = _file(folder, "graph", graph["files"])
        os.stat(path)
        try:
            stored.graph, stored.covered = Graph.load(path, projection, twins), int(graph["count"])
        except ConfigError as error:
            logger.warning("%s; without it, every vector is compared", error)
    return stored


def _mapped(path: Path) -> NDArray[Any]:
    """An array of a file. Its pages would be copied where they are written to; nothing does, but torch wants it so."""
    with open(path, "rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        is_empty = file.read(1) == b""  # which cannot be mapped
    array: NDArray[Any] = np.load(path, mmap_mode=None if is_empty else "c", allow_pickle=False)
    return array


def _save(path: Path, array: NDArray[Any]) -> None:
    with open(path, "wb") as file:  # np.save would add .npy to a name
        np.save(file, array)


def _file(folder: Path, name: str, mark: str) -> Path:
    return folder / f"{name}-{mark}{SUFFIXES.get(name, '.npy')}"


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Make an index's folder if need be, and say what is wrong where it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / HEADER).is_file() and not is_index(folder):
            raise OutputError(f"{folder / HEADER} is of no index of this package; choose another folder")
        others = [path.name for path in folder.iterdir() if not path.name.startswith(".") and not _is_ours(path.name)]
        if others and not (folder / HEADER).is_file():
            raise OutputError(f"{folder} holds {min(others)}, which is of no index; choose another folder")
        sweep(folder)
        yield
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error}); choose another folder") from error
    finally:
        with suppress(OSError):
            folder.rmdir()  # where nothing has come of it


def _is_ours(name: str) -> bool:
    return name.rpartition("-")[0] in OURS


def _commit(folder: Path, facts: Mapping[str, Any]) -> None:
    """Make these facts those of the index, and remove the files that do not count any more. The folder is locked."""
    write_text(folder / HEADER, strict_json(facts))
    marks = {facts["files"], (facts["graph"] or {}).get("files")}
    for path in folder.iterdir():
        if _is_ours(path.name) and path.stem.rpartition("-")[2] not in marks:
            with suppress(OSError):  # one that is open, on Windows; the next time
                path.unlink()


class _Growing:
    """An .npy file that grows by rows of one shape and kind. count: the rows so far."""

    def __init__(self, path: Path, kind: str, shape: tuple[int, ...]) -> None:
        self.count, self._kind, self._shape = 0, np.dtype(kind), shape
        self._file = open(path, "r+b")  # noqa: SIM115 - closed by close
        self._write_header()

    def _write_header(self) -> None:
        """numpy leaves room in the header for as many rows as there may be."""
        descr = np.lib.format.dtype_to_descr(self._kind)
        facts = {"descr": descr, "fortran_order": False, "shape": (self.count, *self._shape)}
        np.lib.format.write_array_header_1_0(self._file, facts)

    def add(self, rows: NDArray[Any]) -> None:
        """Append rows. Raises OSError."""
        self._file.write(np.ascontiguousarray(rows, self._kind).tobytes())
        self.count += len(rows)

    def close(self) -> None:
        """Write how many rows there are. Raises OSError."""
        try:
            self._file.seek(0)
            self._write_header()
        finally:
            self._file.close()
