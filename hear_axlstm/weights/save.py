"""Encoder -> weights file, and the hash that tells encoders apart."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from hear_axlstm.config import DEFAULT_LAYOUT, EncoderConfig, Layout, check_choice, require
from hear_axlstm.embedder import Embedder
from hear_axlstm.encoder import Encoder
from hear_axlstm.storage import replacing
from hear_axlstm.weights.check import HEADER_BYTES, canonical, digest, kinds_of, require_finite, require_fit, sealed, shown
from hear_axlstm.weights.load import FORMAT, METADATA_KEY


def fingerprint(encoder: Encoder) -> str:
    """The hex sha256 of an encoder's configuration and tensors as they are now, wherever they came from."""
    return digest(encoder.config.to_dict(), encoder.state_dict())


def save_weights(
    model: Encoder | Embedder,
    path: str | os.PathLike[str],
    provenance: Mapping[str, Any] | None = None,
    *,
    layout: Layout | None = None,
) -> None:
    """Write the tensors and the configuration of an encoder, or of a model's encoder, and where they come from.

    provenance: any record that JSON can hold, as a dict. layout: of scene embeddings, unless whoever loads the weights asks
    for another; left out, the model's own, or that of the file which the encoder was loaded from, or "released".
    The file appears under its name only when it is whole.

    Raises ConfigError on a bad argument, WeightsError when ``load_weights`` would refuse the tensors, and OSError when the
    file cannot be written. Nothing is written then.
    """
    encoder = model.encoder if isinstance(model, Embedder) else model
    require(
        isinstance(encoder, Encoder), f"model is a {type(encoder).__name__}; expected an Encoder, or what load_model returns"
    )
    given = next(choice for choice in (layout, model.layout, DEFAULT_LAYOUT) if choice is not None)
    write_weights(encoder.config, encoder.state_dict(), path, {} if provenance is None else provenance, layout=given)


def write_weights(
    config: EncoderConfig,
    tensors: Mapping[str, Tensor],
    path: str | os.PathLike[str],
    provenance: Mapping[str, Any],
    *,
    layout: Layout,
) -> None:
    """Write the tensors of an encoder as they are, in their own dtypes; errors as in ``save_weights``."""
    check_choice("layout", layout, Layout)
    require(isinstance(provenance, Mapping), f"provenance is {shown(provenance)}; expected a dict")
    require_fit(config, kinds_of(tensors), "the encoder")
    require_finite(tensors, "the encoder")
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        facts = {"config": config.to_dict(), "layout": layout, "provenance": _plain(provenance, "provenance")}
        text = canonical(sealed({"format": FORMAT, **facts}, whole))
    except (ValueError, RecursionError) as error:  # endless, or an integer too long
        require(False, f"provenance cannot be written as JSON ({error}); expected a plain record")
    most = HEADER_BYTES // 2
    require(
        len(text) <= most, f"provenance has {len(text):,} characters; expected at most {most:,}: name a file that has them"
    )
    write_safetensors(whole, Path(path), {METADATA_KEY: text})


def write_safetensors(tensors: Mapping[str, Tensor], target: Path, metadata: Mapping[str, str]) -> None:
    """Write a safetensors file that appears whole or not at all. Raises OSError, of a full disk as well."""
    with replacing(target) as temporary:
        try:
            save_file(dict(tensors), temporary, metadata=dict(metadata))
        except SafetensorError as error:
            raise OSError(f"{target} cannot be written ({error}); what was there before is whole") from error


def _plain(value: object, where: str) -> Any:
    """The value of dicts, lists and scalars. Raises ConfigError on what JSON would not give back as it was."""
    if isinstance(value, Mapping):
        for key in value:
            require(isinstance(key, str), f"{where} has the key {shown(key)}; expected a string")
        return {key: _plain(item, f"{where}[{shown(key)}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    is_known = value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
    require(is_known, f"{where} is {shown(value)}; expected a string, a finite number, a boolean, None, a list or a dict")
    return value
