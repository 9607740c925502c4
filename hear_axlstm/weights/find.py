"""From what a user calls a model to its weights file: a path, a variant's name, or a repository of the Hub."""

import json
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from hear_axlstm.config import EncoderConfig, config_from_dict, require
from hear_axlstm.errors import WeightsError
from hear_axlstm.weights.load import read_header

PACKAGE = Path(__file__).resolve().parent.parent
WEIGHTS_FILE = "model.safetensors"
CACHE_VARIABLE = "HEAR_AXLSTM_CACHE"
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
    require(variant in variants, f"no variant is called {variant!r}; there are {', '.join(variants)}")
    return variants[variant]


def architecture(variant: str) -> EncoderConfig:
    """The configuration of a variant's encoder. Raises ConfigError that lists the names."""
    return config_from_dict(manifest_entry(variant)["architecture"])


def find_weights(model: str | os.PathLike[str] = "", variant: str | None = None) -> Path:
    """The local path of the weights file that ``model`` means, fetched when need be.

    model: a file, a folder that holds model.safetensors, a variant, or a Hub repository "owner/name[@revision]"; empty for
    ``variant``, or for the bundled default. A variant's weights are the bundled file, else what `hear-axlstm convert` left
    in the cache, else the manifest's file on the Hub.

    Raises ConfigError on an unknown variant, WeightsError when there are no weights to be had; it says what to do.
    """
    name = os.fspath(model or variant or read_manifest()["default"])
    if not model or name in list_models():
        return _weights_of(name)
    path = Path(os.path.expanduser(name))  # unchanged where nobody's home is known
    if os.path.isdir(path):
        if os.path.isfile(path / WEIGHTS_FILE):
            return path / WEIGHTS_FILE
        raise WeightsError(f"the folder {path} holds no {WEIGHTS_FILE}; put the weights there, or pass the file itself")
    match = REPOSITORY.fullmatch(name)
    if os.path.exists(path) or match is None or path.suffix in {".safetensors", ".pth", ".pt", ".ckpt"}:
        return path  # reading it tells what is wrong with it
    from hear_axlstm.weights.hub import fetch

    return fetch(match["repo"], match["revision"] or "main", WEIGHTS_FILE)


def cache_file(variant: str) -> Path:
    """Where converted weights of a variant are kept: $HEAR_AXLSTM_CACHE, else hear-axlstm in the user's cache folder.

    Raises WeightsError where there is no such folder.
    """
    from hear_axlstm.storage import cache_folder

    return cache_folder("hear-axlstm", CACHE_VARIABLE, WeightsError) / f"{variant}.safetensors"


def _weights_of(variant: str) -> Path:
    sources = manifest_entry(variant)["sources"]
    if bundled := sources["bundled"]:
        path = PACKAGE / bundled["file"]
        try:
            found = read_header(path)["sha256"]  # compared with all that the file holds when it is loaded
        except WeightsError as error:
            raise WeightsError(f"{error}; install hear-axlstm again") from error
        if found != bundled["fingerprint"]:
            raise WeightsError(f"{path} is not the file that the manifest names; install hear-axlstm again")
        return path
    if os.path.isfile(cached := cache_file(variant)):
        return cached
    if hub := sources["hub"]:
        from hear_axlstm.weights.hub import fetch

        return fetch(hub["repo"], hub["revision"], hub["file"], hub["sha256"])
    from hear_axlstm.weights.released import steps_by_hand

    raise WeightsError(
        f"no weights of {variant} at {cached}, and none are on the Hugging Face Hub.\n{steps_by_hand(variant, cached)}\n"
        "Weights that you have: pass their file, folder or Hub repository to load_model."
    )
