"""Outcomes -> rows of a table, a row a scene or timestamp, with the same columns and types in every part."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hear_axlstm.audio.addresses import is_address
from hear_axlstm.files.folder import folder_of, source_of, valid_text
from hear_axlstm.files.outcomes import Array, Outcome
from hear_axlstm.files.settings import KEY, load_pyarrow
from hear_axlstm.files.sounds import Source

FACTS = ["name", "folder", "seconds", "sample_rate", "path", "size", "modified"]
COLUMNS = {"scene": [*FACTS, "error", "embedding"], "timestamp": [*FACTS, "timestamp_ms", "error", "embedding"]}
GROUP_NUMBERS = 1 << 24  # of embeddings in a group of rows, which is what readers hold at least


class New(NamedTuple):
    """A sound to write: its name and source as they are recorded, and its embedding, None where it failed."""

    name: str
    source: Source
    outcome: Outcome
    embedding: Array | None


def recorded(name: str, source: Source) -> tuple[str, Source]:
    """A name and a source in UTF-8: names get escapes, and a path that is not UTF-8 becomes a URI, which is no other's."""
    try:
        path = os.fsencode(source.path).decode()
    except UnicodeError:
        path = valid_text(source.path) if is_address(source.path) else Path(source.path).as_uri()
    return valid_text(name), replace(source, path=path)


def new(outcome: Outcome, embedding: Array | None) -> New:
    """An outcome as it is recorded."""
    return New(*recorded(outcome.name, source_of(outcome)), outcome, embedding)


def schema_of(settings: Mapping[str, Any]) -> Any:
    """The columns of every part, and the settings as their metadata.

    Lists of embeddings have no fixed size: pyarrow before version 25 cannot read those that are null where they have.
    """
    arrow, _ = load_pyarrow()
    vector = arrow.list_(arrow.field("element", arrow.float32()))
    kinds = {"seconds": arrow.float64(), "sample_rate": arrow.float64(), "size": arrow.int64()}
    kinds |= {"modified": arrow.timestamp("ns"), "timestamp_ms": arrow.float32()}
    kinds["embedding"] = vector if settings.get("layers") is None else arrow.list_(arrow.field("element", vector))
    columns = COLUMNS[settings["embeddings"]]
    fields = [(name, kinds.get(name, arrow.string())) for name in columns]
    return arrow.schema(fields, {KEY: json.dumps(settings)})


def table_of(sounds: Sequence[New], schema: Any) -> Any:
    """The rows of sounds, by name, a sound's one after the other."""
    arrow, _ = load_pyarrow()
    sounds = sorted(sounds, key=lambda sound: sound.name)
    times = [sound.outcome.timestamps if sound.embedding is not None else None for sound in sounds]
    counts = np.array([1 if own is None else len(own) for own in times])
    facts: dict[str, Any] = {name: [] for name in schema.names if name not in ("timestamp_ms", "embedding")}
    for sound in sounds:
        outcome, source = sound.outcome, sound.source
        facts["name"].append(sound.name)
        facts["folder"].append(folder_of(sound.name, source.path))
        facts["seconds"].append(outcome.seconds or None)
        facts["sample_rate"].append(outcome.sample_rate or None)
        facts["path"].append(source.path)
        facts["size"].append(source.size if source.size >= 0 else None)
        facts["modified"].append(source.modified if source.modified != -1 else None)
        facts["error"].append(None if sound.embedding is not None else valid_text(outcome.failure))
    which = np.repeat(np.arange(len(sounds)), counts)
    columns = {name: arrow.array(facts[name], schema.field(name).type).take(arrow.array(which)) for name in facts}
    if "timestamp_ms" in schema.names:
        steps = np.concatenate([np.zeros(1, np.float32) if own is None else own for own in times])
        there = np.repeat([own is not None for own in times], counts)
        columns["timestamp_ms"] = arrow.array(steps, arrow.float32(), mask=~there)
    embeddings = [_matrix(sound) for sound in sounds]
    kind = schema.field("embedding").type
    columns["embedding"] = arrow.chunked_array([_column(some, kind) for some in _groups(embeddings)], kind)
    return arrow.table([columns[name] for name in schema.names], schema=schema)


def in_order(tables: Sequence[Any]) -> Any:
    """The rows of tables, by name, those of a sound in their order."""
    arrow, _ = load_pyarrow()
    table = arrow.concat_tables(tables)
    keys = [("name", "ascending"), *([("timestamp_ms", "ascending")] if "timestamp_ms" in table.column_names else [])]
    return table.sort_by(keys)


def vectors_of(column: Any) -> Array:
    """The embeddings in a column, (n, D) or (n, layers, D), without those that are null."""
    there, shape = len(column) - column.null_count, []
    values, rows = column, there
    while hasattr(values.type, "value_type"):
        values = values.flatten()
        shape.append(len(values) // max(rows, 1))
        rows = len(values)
    return np.asarray(values.to_numpy(zero_copy_only=False), np.float32).reshape(there, *shape)


def _matrix(sound: New) -> Array | None:
    """The embeddings of a sound, (rows, D) or (rows, layers, D); None where it failed."""
    if sound.embedding is None:
        return None
    return sound.embedding[None] if sound.outcome.timestamps is None else np.moveaxis(sound.embedding, -2, 0)


def _groups(embeddings: Iterable[Array | None]) -> Iterator[list[Array | None]]:
    """The embeddings of sounds in groups of few numbers; those of a long one are divided."""
    some, numbers = list[Array | None](), 0
    for one in embeddings:
        for piece in _pieces(one):
            size = 0 if piece is None else piece.size
            if some and numbers + size > GROUP_NUMBERS:
                yield some
                some, numbers = [], 0
            some.append(piece)
            numbers += size
    yield some


def _pieces(embedding: Array | None) -> Iterator[Array | None]:
    if embedding is None:
        yield None
    else:
        rows = max(1, GROUP_NUMBERS // embedding[0].size)
        yield from (embedding[start : start + rows] for start in range(0, len(embedding), rows))


def _column(embeddings: Sequence[Array | None], kind: Any) -> Any:
    arrow, _ = load_pyarrow()
    there = np.concatenate([[False] if one is None else np.ones(len(one), bool) for one in embeddings])
    whole = [one for one in embeddings if one is not None]
    if not whole:
        return arrow.nulls(len(there), kind)
    values = np.concatenate(whole)
    column = arrow.array(values.ravel(), arrow.float32())
    for size in reversed(values.shape[2:]):
        column = arrow.ListArray.from_arrays(arrow.array(np.arange(0, len(column) + 1, size), arrow.int32()), column)
    ends = np.cumsum(there * values.shape[1])
    return arrow.ListArray.from_arrays(arrow.array([0, *ends], arrow.int32(), mask=np.append(~there, False)), column)
