"""Embeddings on their way into a folder of npy files or a parquet data set, and the folders by format."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hear_axlstm.embedder import Embedder
from hear_axlstm.encoder import Layers, layer_numbers
from hear_axlstm.errors import ConfigError, OutputError
from hear_axlstm.files import Format
from hear_axlstm.files.find import SUFFIXES
from hear_axlstm.files.folder import EmbeddingFolder, OtherSettingsError
from hear_axlstm.files.npy import NpyFolder
from hear_axlstm.files.outcomes import Outcome
from hear_axlstm.files.parquet import ParquetFolder
from hear_axlstm.files.rows import COLUMNS
from hear_axlstm.files.sounds import FileSound, Given
from hear_axlstm.parallel import ordered_map
from hear_axlstm.weights.save import fingerprint, valid_centring

FORMATS: dict[str, type[EmbeddingFolder]] = {"npy": NpyFolder, "parquet": ParquetFolder}
NO_FOLDERS = {".npy", ".npz", ".parquet", ".json", ".csv", ".pt", ".pkl", ".h5", ".hdf5", ".safetensors", *SUFFIXES}
WAITING_BYTES = 256 << 20  # embeddings that may wait to be written


def sink(outcomes: Iterable[Outcome], folder: EmbeddingFolder) -> Generator[Outcome, None, None]:
    """Write the embeddings among outcomes, in a thread, and give each outcome back, without its arrays, when it is written.

    Outcomes are drawn without waiting for those before, unless very much has not been written yet. However this ends, what
    was drawn by then is written. A caller that may stop early uses ``contextlib.closing``.

    One that this folder cannot take, for its name or since another run has given the name to another file, comes back as
    failed; where that shows late, it comes once more. Raises OSError when nothing can be written any more, OutputError when
    another run, with other settings, was first to write to the folder.
    """

    def write(outcome: Outcome) -> Outcome:
        failure = outcome.failure
        try:
            if outcome.embedding is not None:
                folder.write(outcome, outcome.embedding)
            else:
                folder.write_failure(outcome)
        except OtherSettingsError:
            raise
        except OutputError as error:
            failure = str(error)
        return replace(outcome, embedding=None, timestamps=None, failure=failure)

    def size(outcome: Outcome) -> int:
        return 0 if outcome.embedding is None else outcome.embedding.nbytes

    try:
        yield from ordered_map(write, outcomes, threads=1, size=size, ahead=0, limit=WAITING_BYTES, cancel=False)
    finally:
        refused = folder.close()
    yield from refused


def check_place(out: Path, sounds: Iterable[Given]) -> None:
    """Raise ConfigError where ``out`` has the name of a file, or embeddings would be written among the sounds."""
    if out.suffix.lower() in NO_FOLDERS and not out.is_dir():
        raise ConfigError(
            f"{out} is called like a file, but is to be a folder; expected a name such as {out.stem or 'embeddings'}"
        )
    places = {(sound.path.parent, os.path.dirname(sound.name)) for sound in sounds if isinstance(sound, FileSound)}
    root, heres = os.path.realpath(out), {os.path.realpath(here) for here, _ in places}
    targets = {root, *(os.path.realpath(os.path.join(root, below)) for below in {below for _, below in places})}
    for here in sorted(heres & targets):
        other = os.path.join(os.path.dirname(root), "embeddings")
        raise ConfigError(f"{out} would mix embeddings with the sounds in {here}; choose another folder, such as {other}")


def open_folder(
    out: str | os.PathLike[str],
    model: Embedder,
    *,
    timestamps: bool = False,
    layers: Layers | None = None,
    format: Format = "npy",
    pad_short: bool = False,
    overwrite: bool = False,
) -> EmbeddingFolder:
    """The folder ``out`` for embeddings of this model and kind, made or continued; it records both.

    pad_short: whether sounds that are too short are padded; a folder does not mix. overwrite: whether to remove embeddings
    that are there, whatever they were made with.

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
        "pad_short": pad_short or None,  # as in folders of earlier versions, which padded none
        "columns": COLUMNS["timestamp" if timestamps else "scene"] if format == "parquet" else None,
        "centring": centring_of(model, timestamps=timestamps, layers=layers),
    }
    return FORMATS[format](Path(out), settings, overwrite=overwrite)


def centring_of(model: Embedder, *, timestamps: bool, layers: Layers | None) -> dict[str, Any] | None:
    """What similarity subtracts from embeddings of this kind, by the weights; None where they do not say."""
    return None if timestamps or layers is not None else valid_centring(model.encoder, model.layout)
