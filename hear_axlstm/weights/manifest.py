"""weights_manifest.json: for every variant its architecture and where weights for it come from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from hear_axlstm.config import EncoderConfig, config_from_dict
from hear_axlstm.errors import ConfigError, WeightsError

SCHEMA_VERSION = 1
PACKAGE = Path(__file__).resolve().parent.parent
SCHEMA = Path(__file__).with_name("manifest.schema.json")
Row = TypeVar("Row")


@dataclass(frozen=True)
class Bundled:
    """A file inside the package."""

    file: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class HubFile:
    """A file on the Hugging Face Hub. Without a pinned hash (a user's own repository) sha256 and bytes are None."""

    repo: str
    revision: str
    file: str
    sha256: str | None
    bytes: int | None


@dataclass(frozen=True)
class DriveFile:
    """A checkpoint in the authors' Google Drive folder; None where it is not known."""

    folder: str
    path: str | None
    sha256: str | None
    bytes: int | None

    @property
    def url(self) -> str:
        return f"https://drive.google.com/drive/folders/{self.folder}"


@dataclass(frozen=True)
class Training:
    """How weights of our own were made. recipe: a name that ``hear-axlstm pretrain`` knows. batch: clips of an update.

    loss_curve: pairs of an update and the mean loss since the pair before.
    """

    recipe: str
    steps: int
    batch: int
    device: str
    loss_curve: list[list[float]]


@dataclass(frozen=True)
class Entry:
    """What the manifest says of one variant. parameters: trainable ones, pretraining head included.

    training: None for weights that are not ours.
    """

    architecture: EncoderConfig
    parameters: int
    licence: str | None
    training_data: str | None
    training: Training | None
    bundled: Bundled | None
    hub: HubFile | None
    drive: DriveFile | None


@dataclass(frozen=True)
class Manifest:
    """default: the variant that ``load_model()`` returns, None while no weights are bundled."""

    default: str | None
    variants: dict[str, Entry]


def manifest_path() -> Path:
    """Beside the modules in a wheel, at the top of the repository in an editable install."""
    inside = PACKAGE / "weights_manifest.json"
    return inside if inside.is_file() else PACKAGE.parent / "weights_manifest.json"


def _row(kind: type[Row], values: Mapping[str, Any] | None) -> Row | None:
    if values is None:
        return None
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if values.keys() != names:
        raise WeightsError(f"{kind.__name__} has the keys {sorted(values)}; expected {sorted(names)}")
    return kind(**values)


def parse_manifest(content: Mapping[str, Any]) -> Manifest:
    """Rows from the JSON value. Raises WeightsError on a key that is missing or unknown."""
    if content.get("schema_version") != SCHEMA_VERSION:
        raise WeightsError(f"schema_version is {content.get('schema_version')}; expected {SCHEMA_VERSION}")
    variants = {}
    for name, value in content["variants"].items():
        try:
            sources = value["sources"]
            variants[name] = Entry(
                architecture=config_from_dict(value["architecture"]),
                parameters=value["parameters"],
                licence=value["licence"],
                training_data=value["training_data"],
                training=_row(Training, value["training"]),
                bundled=_row(Bundled, sources["bundled"]),
                hub=_row(HubFile, sources["hub"]),
                drive=_row(DriveFile, sources["drive"]),
            )
        except (KeyError, ConfigError, WeightsError) as error:
            raise WeightsError(f"variant {name}: {error}") from error
    default = content["default"]
    if default is not None and default not in variants:
        raise WeightsError(f"default is {default!r}; expected one of {', '.join(variants)}")
    return Manifest(default, variants)


@lru_cache(maxsize=1)
def read_manifest() -> Manifest:
    """The manifest that this installation came with. Raises WeightsError when it is damaged."""
    path = manifest_path()
    try:
        return parse_manifest(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, WeightsError) as error:
        raise WeightsError(f"{path}: {error}; install hear-axlstm again") from error


def manifest_entry(variant: str) -> Entry:
    """One row. Raises ConfigError that lists the names."""
    variants = read_manifest().variants
    if variant not in variants:
        raise ConfigError(f"no variant is called {variant!r}; there are {', '.join(variants)}")
    return variants[variant]
