"""Where the weights of a variant are: bundled with the package, in the cache, or on the Hub."""

from __future__ import annotations

import os
from pathlib import Path

from hear_axlstm.errors import WeightsError
from hear_axlstm.storage import cache_folder
from hear_axlstm.weights.find import PACKAGE, architecture, manifest_entry, read_manifest
from hear_axlstm.weights.load import read_header

CACHE_VARIABLE = "HEAR_AXLSTM_CACHE"


def cache_file(variant: str) -> Path:
    """Where converted weights of a variant are kept: $HEAR_AXLSTM_CACHE, else hear-axlstm in the user's cache folder.

    Raises WeightsError where there is no such folder.
    """
    return cache_folder("hear-axlstm", CACHE_VARIABLE, WeightsError) / f"{variant}.safetensors"


def weights_of(variant: str) -> Path:
    """The weights file of a variant: bundled, in the cache, or from the Hub. Raises WeightsError where there is none."""
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

    bundled = [name for name, entry in read_manifest()["variants"].items() if entry["sources"]["bundled"]]
    alike = ", ".join(name for name in bundled if architecture(name) == architecture(variant))
    raise WeightsError(
        f"no weights of {variant} at {cached}, and none are on the Hugging Face Hub.\n{steps_by_hand(variant, cached)}\n"
        + (f"Of the same architecture, bundled, and not the papers': {alike}.\n" if alike else "")
        + "Weights that you have: give their file, folder or Hub repository as the model."
    )
