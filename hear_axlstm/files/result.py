"""The result of embedding many sounds: aligned with what was given, as a matrix or a table, saved and read again."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from hear_axlstm.centring import Neighbours, load_pandas
from hear_axlstm.errors import ConfigError, OutputError
from hear_axlstm.files.as_html import result_html
from hear_axlstm.files.folder import folder_of
from hear_axlstm.files.outcomes import Array
from hear_axlstm.progress import first_of, printable, several
from hear_axlstm.storage import replacing

if TYPE_CHECKING:
    import pandas

SUFFIX = ".npz"
KIND = "hear-axlstm embeddings"  # what a saved file says it is
SHOWN = 20  # failures in a table
LISTS = ("names", "paths", "skipped", "padded", "gone")
TEXTS = (*LISTS, "failures", "seconds", "audio_seconds", "weights", "centring", "size")  # what JSON holds of a result


class Row(NamedTuple):
    """One sound of a result: its name, and its embedding, which is None where it failed."""

    name: str
    embedding: Array | None


class Failures(dict[str, str]):
    """Why sounds have no embedding: name -> reason. It prints as a table."""

    def __repr__(self) -> str:
        width = max((len(printable(name)) for name in list(self)[:SHOWN]), default=0)
        lines = [f"{printable(name):<{width}}  {printable(why)}" for name, why in list(self.items())[:SHOWN]]
        more = [f"... and {len(self) - SHOWN} more"] if len(self) > SHOWN else []
        return "\n".join([several(len(self), "failure"), *lines, *more])


@dataclass(eq=False, repr=False)
class Embedded:
    """The embeddings of many sounds, in the order given: N of them, folders counted as the sounds in them.

    names: N. embeddings: N, float32, (D,) a scene or (T, D) with ``timestamps``, (layers, D) and (layers, T, D) where layers
    were asked for; None where the sound failed. timestamps: N, the centres in ms, (T,) each; empty without them. Both are
    empty when the embeddings went to ``folder``. ok: (N,), bool: whether there is an embedding. paths: N, absolute, empty
    for sounds in memory. durations: (N,), in seconds, NaN where unknown.

    failures: name -> reason. skipped: names whose embeddings were in the folder already. padded: names of sounds that were
    too short, and were padded with zeros. gone: names of embeddings in the folder whose sounds are not there any more.
    pruned: names of those that were removed for that. left_out: files in folders that have none of the suffixes of audio.
    audio_seconds: the sound embedded in this call. weights: what the model's are called, the name of bundled ones, else the
    variant and the first digits of their fingerprint. centring: what similarity subtracts, from the weights; or None.

    size: D, the numbers in an embedding, also where all sounds failed; 0 where nothing says it.

    seconds: where the time of the call went, all of it, by what it waited for: "prepare" (the model, which files there are,
    their headers, what is done already), "decode" (decoded audio), "encode" (copying to the device, encoding, fetching
    results) and "write" (handing them to the writer, and in the end its last file). Work in the background is not counted:
    where a device is kept busy, nearly all is "encode".
    """

    names: list[str] = field(default_factory=list)
    embeddings: list[Array | None] = field(default_factory=list)
    timestamps: list[Array | None] = field(default_factory=list)
    ok: NDArray[np.bool_] = None  # type: ignore[assignment]
    paths: list[str] = field(default_factory=list)
    durations: NDArray[np.float64] = None  # type: ignore[assignment]
    failures: Failures = field(default_factory=Failures)
    skipped: list[str] = field(default_factory=list)
    padded: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    pruned: list[str] = field(default_factory=list)
    left_out: list[Path] = field(default_factory=list)
    audio_seconds: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    folder: Path | None = None
    weights: str = ""
    centring: Any = None
    size: int = 0

    def __post_init__(self) -> None:
        if self.ok is None:
            self.ok = np.array([one is not None for one in self.embeddings], dtype=bool)
        if self.durations is None:
            self.durations = np.full(len(self.names), np.nan)
        self.size = next((one.shape[-1] for one in self.embeddings if one is not None), self.size)
        self.paths = self.paths or [""] * len(self.names)

    @property
    def embedded(self) -> list[str]:
        """The names of the sounds that were embedded in this call: neither failed, nor there already."""
        skipped = set(self.skipped)
        return [name for name, ok in zip(self.names, self.ok, strict=True) if ok and name not in skipped]

    @property
    def matrix(self) -> Array:
        """The embeddings as one matrix, (N, D), float32, with a row of NaN for each sound that failed.

        Raises ConfigError where there is none: with timestamps, with several layers, or when they went to a folder.
        """
        there = [one for one in self._held() if one is not None]
        if self.timestamps:
            raise ConfigError("embeddings with timestamps make no matrix: use .embeddings, or embed without timestamps")
        if there and there[0].ndim > 1 and len(there[0]) > 1:
            raise ConfigError(f"{len(there[0])} layers make no matrix: ask for one layer, or use .embeddings")
        matrix = np.full((len(self), self.size), np.nan, dtype=np.float32)
        if there:
            matrix[self.ok] = np.stack(there).reshape(-1, self.size)
        return matrix

    def to_frame(self) -> pandas.DataFrame:
        """The embeddings as a pandas table: a row for each sound, by name.

        Columns: folder, the one that holds the sound, as a label perhaps; seconds, how long it is; and e0, e1, ..., the D
        numbers of its embedding, NaN where it failed. Raises ConfigError where there is no ``matrix``, or no pandas.
        """
        pandas, matrix = load_pandas(), self.matrix
        facts = {"folder": list(map(folder_of, self.names, self.paths)), "seconds": self.durations}
        index = pandas.Index(self.names, name="name", dtype=object)
        numbers = pandas.DataFrame(matrix, index=index, columns=[f"e{number}" for number in range(matrix.shape[1])])
        return pandas.concat([pandas.DataFrame(facts, index=index), numbers], axis=1)

    def similarity(self, other: Any = None) -> Array:
        """How similar the sounds are to one another, (N, N), or to others, (N, M), as ``hear_axlstm.similarity``."""
        from hear_axlstm.files.similar import similarity

        return similarity(self, other)

    def neighbours(self, k: int = 5) -> Neighbours:
        """The k sounds that are most similar to each, in a table, as ``hear_axlstm.neighbours``."""
        from hear_axlstm.files.similar import neighbours

        return neighbours(self, k)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all of it to a file, NAME.npz, which ``load_embeddings`` reads. Raises ConfigError and OSError."""
        target = Path(os.path.expanduser(path))
        if target.suffix != SUFFIX:
            raise ConfigError(f"{target} does not end in {SUFFIX}, as the file will; call it {target.name}{SUFFIX}")
        held = [one for one in self._held() if one is not None]
        facts = {name: getattr(self, name) for name in TEXTS} | {"kind": KIND, "left_out": [str(p) for p in self.left_out]}
        arrays = {"ok": self.ok, "durations": self.durations}
        if self.timestamps:  # one after the other along the steps
            times = [one for one in self.timestamps if one is not None]
            arrays["counts"] = np.array([len(one) for one in times], dtype=np.int64)
            arrays["timestamps"] = np.concatenate(times) if times else np.zeros(0, np.float32)
            arrays["embeddings"] = np.concatenate(held, axis=-2) if held else np.zeros((0, 0), np.float32)
        else:
            arrays["embeddings"] = np.stack(held) if held else np.zeros((0, 0), np.float32)
        text = np.frombuffer(json.dumps(facts).encode(), np.uint8)
        with replacing(target) as temporary, open(temporary, "wb") as file:
            np.savez(file, facts=text, **arrays)  # type: ignore[arg-type]

    def _held(self) -> list[Array | None]:
        if self.folder is not None and len(self):
            raise ConfigError(
                f"the embeddings are in {self.folder}; read them: hear_axlstm.load_embeddings({str(self.folder)!r})"
            )
        return self.embeddings

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Row]:
        return map(Row, self.names, self._held())

    @overload
    def __getitem__(self, which: int) -> Row: ...
    @overload
    def __getitem__(self, which: slice | Sequence[Any] | NDArray[Any]) -> Embedded: ...
    def __getitem__(self, which: Any) -> Row | Embedded:
        """A number gives a ``Row``; a slice, a mask of N booleans, or a list of numbers gives an ``Embedded`` of those."""
        self._held()
        chosen = np.arange(len(self))[which if isinstance(which, slice) else _selection(which)]
        if chosen.ndim == 0:
            return Row(self.names[chosen], self.embeddings[chosen])
        names, paths = [self.names[i] for i in chosen], [self.paths[i] for i in chosen]
        known = {*names, *paths}
        durations = self.durations[chosen]
        return Embedded(
            names,
            [self.embeddings[i] for i in chosen],
            timestamps=[self.timestamps[i] for i in chosen] if self.timestamps else [],
            ok=self.ok[chosen],
            paths=paths,
            durations=durations,
            failures=Failures({name: why for name, why in self.failures.items() if name in known}),
            padded=[name for name in self.padded if name in known],
            audio_seconds=float(np.nansum(durations[self.ok[chosen]])),
            weights=self.weights,
            centring=self.centring,
            size=self.size,
        )

    def _repr_html_(self) -> str | None:
        return result_html(self)

    def __repr__(self) -> str:
        first = next((one for one in self.embeddings if one is not None), None)
        shape = "" if first is None else f", {first.shape[-1]} numbers each"
        if first is not None and first.ndim > 1 + bool(self.timestamps):
            shape = f", {several(len(first), 'layer')} of {first.shape[-1]} numbers each"
        times = ", every 40 ms" if self.timestamps else ""
        where = f" in {self.folder}" if self.folder else ""
        skipped = f", {len(self.skipped)} of them there already" if self.skipped else ""
        failed = printable(first_of(list(self.failures), 3))
        return "\n".join([
            f"Embedded: {several(len(self), 'sound')}{shape}{times}{where}{skipped}",
            *([f"  {several(len(self.failures), 'failure')}: {failed}; .failures says why"] if self.failures else []),
            *([f"  weights: {self.weights}"] if self.weights else []),
        ])  # fmt: skip


def load_saved(path: Path) -> Embedded:
    """What ``Embedded.save`` wrote. Raises OutputError when it is no such file, or damaged."""
    try:
        if path.is_file() and not zipfile.is_zipfile(path):
            raise ValueError("it is no .npz")
        with np.load(path, allow_pickle=False) as file:
            facts = json.loads(file["facts"].tobytes())
            if facts.pop("kind") != KIND:
                raise ValueError("it holds something else")
            arrays = {name: file[name] for name in file.files}
        return _restored(facts, arrays)
    except Exception as error:  # zipfile, zlib and numpy have many words for damage
        cause = getattr(error, "strerror", None) or error
        expected = "expected a file that result.save wrote, or a folder of embeddings"
        raise OutputError(f"{path} cannot be read ({cause}); {expected}") from error


def _restored(facts: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Embedded:
    ok, stored = arrays["ok"], arrays["embeddings"]
    numbers = (
        all(array.dtype.kind == "f" for array in (stored, arrays["durations"])) and stored.ndim > 1 and ok.dtype == bool
    )
    if not numbers or not all(isinstance(facts[name], list) for name in LISTS):
        raise ValueError("its parts are not what they should be")
    timestamps: list[Array | None] = []
    if "counts" in arrays:
        cuts = np.cumsum(arrays["counts"])[:-1]
        timestamps = _spread(np.split(arrays["timestamps"], cuts), ok)
        rows = np.split(stored, cuts, axis=-2)
    else:
        rows = list(stored)
    if not isinstance(facts.get("size", 0), int) or facts.get("size", 0) < 0:
        raise ValueError("its size is no number")
    facts["failures"] = Failures(facts["failures"])
    facts["left_out"] = [Path(path) for path in facts["left_out"]]
    if not len(ok) == len(facts["names"]) == len(arrays["durations"]):
        raise ValueError("its parts do not fit together")
    return Embedded(**facts, embeddings=_spread(rows, ok), timestamps=timestamps, ok=ok, durations=arrays["durations"])


def _spread(rows: Sequence[Array], ok: NDArray[np.bool_]) -> list[Array | None]:
    """The rows where ``ok`` says so, None elsewhere. Raises ValueError when there are not as many."""
    waiting = iter(rows if ok.any() else [])
    spread = [next(waiting, None) if one else None for one in ok]
    if next(waiting, None) is not None or any(row is None for row, one in zip(spread, ok, strict=True) if one):
        raise ValueError("its parts do not fit together")
    return spread


def _selection(which: Any) -> NDArray[Any]:
    chosen = np.asarray(which)
    is_number, is_list = chosen.ndim == 0 and chosen.dtype.kind in "iu", chosen.ndim == 1 and chosen.dtype.kind in "biu"
    if chosen.size and not is_number and not is_list:
        raise TypeError(f"a result is indexed by a number, a slice, booleans or a list of numbers, not {which!r:.50}")
    return chosen if chosen.size else chosen.astype(np.intp)
