"""From a variant's name to a verified file: bundled, local cache, Hub, or the steps to get it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from hear_axlstm.errors import WeightsError
from hear_axlstm.storage import sha256_of
from hear_axlstm.weights.drive import fetch_from_drive, steps_by_hand
from hear_axlstm.weights.hub import WEIGHTS_FILE, fetch
from hear_axlstm.weights.load import read_config
from hear_axlstm.weights.manifest import PACKAGE, Bundled, HubFile, manifest_entry, read_manifest

SOURCE_VARIABLE = "HEAR_AXLSTM_SOURCE"
CACHE_VARIABLE = "HEAR_AXLSTM_CACHE"
HUB_SOURCE = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+?)(?:@(?P<revision>[\w./-]+))?")


def cache_file(variant: str) -> Path:
    """Where converted weights of a variant are kept: $HEAR_AXLSTM_CACHE, else hear-axlstm in the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hear-axlstm"
    return Path(os.environ.get(CACHE_VARIABLE) or default) / f"{variant}.safetensors"


def download(variant: str, *, source: str | None = None, from_drive: bool = False) -> Path:
    """The local path of a variant's weights, fetched when need be and verified.

    In this order: the user's own source; the file bundled with the package; the local cache; the Hub; the authors'
    Google Drive folder if ``from_drive`` asks for it.

    source: a folder that holds ``<variant>.safetensors`` or ``model.safetensors``, or a Hub repository "owner/name" or
    "owner/name@revision"; "{variant}" in it stands for the name. $HEAR_AXLSTM_SOURCE when left out.

    Raises ConfigError on an unknown variant, WeightsError when there are no weights to be had; it says what to do.
    """
    entry = manifest_entry(variant)
    source = source or os.environ.get(SOURCE_VARIABLE)
    if source:
        return require_variant(variant, _from_source(variant, source.replace("{variant}", variant)))
    if entry.bundled is not None:
        return _verified_bundle(variant, entry.bundled)
    cached = cache_file(variant)
    if cached.is_file():
        return require_variant(variant, cached)
    if entry.hub is not None:
        return require_variant(variant, fetch(entry.hub))
    if from_drive:
        try:
            fetch_from_drive(variant, entry, cached)
        except OSError as error:
            raise WeightsError(f"{cached} cannot be written ({error}); set {CACHE_VARIABLE} to a folder that can") from error
        return cached
    raise WeightsError(
        f"no weights of {variant} at {cached}, and none are on the Hugging Face Hub. "
        f"They are in their authors' hands:\n{steps_by_hand(variant, entry, cached)}\n"
        f"Weights of your own: pass their path to load_model, or set {SOURCE_VARIABLE} to a folder or a Hub repository."
    )


def default_variant() -> str:
    """The variant whose weights come with the package. Raises WeightsError while there is none."""
    default = read_manifest().default
    if default is None:
        raise WeightsError(
            "this version comes without default weights. Name a variant (`hear-axlstm models` lists them and where their "
            "weights are), or pass the path of a file that `hear-axlstm convert` wrote"
        )
    return default


def _from_source(variant: str, source: str) -> Path:
    folder = Path(source).expanduser()
    if folder.is_dir():
        for name in (f"{variant}.safetensors", WEIGHTS_FILE):
            if (folder / name).is_file():
                return folder / name
        raise WeightsError(f"{folder} holds neither {variant}.safetensors nor {WEIGHTS_FILE}; put the weights there")
    match = HUB_SOURCE.fullmatch(source)
    if match is None or source.startswith((".", "/", "~")):
        raise WeightsError(f"source {source!r} is neither a folder here nor a Hub repository owner/name[@revision]")
    return fetch(HubFile(match["repo"], match["revision"] or "main", WEIGHTS_FILE, sha256=None, bytes=None))


def require_variant(variant: str, path: str | os.PathLike[str]) -> Path:
    """``path``, once its header says that it holds the variant's architecture. Raises WeightsError, ConfigError."""
    expected, actual = manifest_entry(variant).architecture, read_config(path)
    if actual != expected:
        raise WeightsError(
            f"{path} holds {actual}, but {variant} is {expected}; load it by its path alone, or publish it under its own "
            "variant"
        )
    return Path(path)


def _verified_bundle(variant: str, bundled: Bundled) -> Path:
    path = PACKAGE / bundled.file
    actual = sha256_of(path) if path.is_file() else "none, the file is missing"
    if actual != bundled.sha256:
        raise WeightsError(
            f"{variant}: sha256 of {path} is {actual}, but the manifest says {bundled.sha256}; install hear-axlstm again"
        )
    return path
