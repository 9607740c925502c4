"""From what a user calls a model to its weights file: a path, a variant's name, or a repository of the Hub."""

import json
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from hear_axlstm.config import EncoderConfig, config_from_dict, known_name, unknown
from hear_axlstm.errors import WeightsError

PACKAGE = Path(__file__).resolve().parent.parent
WEIGHTS_FILE = "model.safetensors"
REPOSITORY = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w.-]+?)(?:@(?P<revision>[\w./-]+))?")


def manifest_path() -> Path:
    """weights_manifest.json: beside the modules in a wheel, above them in a checkout."""
    inside = PACKAGE / "weights_manifest.json"
    return inside if inside.is_file() else PACKAGE.parent / "weights_manifest.json"


@lru_cache(maxsize=1)
def read_manifest() -> dict[str, Any]:
    """The manifest of this installation, as manifest.schema.json describes it. Raises WeightsError when it is damaged."""
    path = manifest_path()
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {**manifest, "variants": dict(manifest["variants"]), "default": str(manifest["default"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: {error!r}; install hear-axlstm again") from error


def list_models() -> list[str]:
    """The variants' names, each of which ``load_model`` takes."""
    return list(read_manifest()["variants"])


def manifest_entry(variant: str) -> dict[str, Any]:
    """A variant's row of the manifest. Raises ConfigError that lists the names."""
    variants: dict[str, dict[str, Any]] = read_manifest()["variants"]
    return variants[known_name(variant, variants)]


def architecture(variant: str) -> EncoderConfig:
    """The configuration of a variant's encoder. Raises ConfigError that lists the names."""
    return config_from_dict(manifest_entry(variant)["architecture"])


def variant_of(model: str | os.PathLike[str]) -> str | None:
    """The variant that ``model`` names; None where it names none, or weights are there under that name."""
    name, is_there = os.fspath(model).replace("_", "-"), os.path.isfile(model) or os.path.isfile(Path(model, WEIGHTS_FILE))
    return name if name in list_models() and not is_there else None


def find_weights(model: str | os.PathLike[str] = "", variant: str | None = None) -> Path:
    """The local path of the weights file that ``model`` means, fetched when need be.

    model: a file, a folder that holds model.safetensors, a variant, or a Hub repository "owner/name[@revision]"; empty for
    ``variant``, or for the bundled default. A variant's weights are the bundled file, else what `hear-axlstm convert` left
    in the cache, else the manifest's file on the Hub.

    Raises ConfigError on an unknown variant, WeightsError when there are no weights to be had; it says what to do.
    """
    name = os.fspath(model)
    if not name or variant_of(name):
        from hear_axlstm.weights.sources import weights_of

        return weights_of(known_name(name or variant or read_manifest()["default"], list_models()))
    path = Path(os.path.expanduser(name))  # unchanged where nobody's home is known
    if os.path.isdir(path):
        if os.path.isfile(path / WEIGHTS_FILE):
            return path / WEIGHTS_FILE
        raise WeightsError(f"the folder {path} holds no {WEIGHTS_FILE}; put the weights there, or pass the file itself")
    if re.fullmatch(r"[\w-]+", name) and not os.path.lexists(path):
        raise WeightsError(f"{name}: no such file or folder, and {unknown(name, list_models())}")
    match = REPOSITORY.fullmatch(name)
    if os.path.exists(path) or match is None or path.suffix in {".safetensors", ".pth", ".pt", ".ckpt"}:
        return path  # reading it tells what is wrong with it
    from hear_axlstm.weights.hub import fetch

    return fetch(match["repo"], match["revision"] or "main", WEIGHTS_FILE)
