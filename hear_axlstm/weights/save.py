"""Encoder -> weights file, and the hash that tells encoders apart."""

from __future__ import annotations

import os
import sys
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
from hear_axlstm.weights.check import (
    HEAD,
    HEADER_BYTES,
    RELEASED_SUFFIXES,
    canonical,
    digest,
    is_utf8,
    kinds_of,
    require_finite,
    require_fit,
    sealed,
    shown,
)
from hear_axlstm.weights.load import FORMAT, METADATA_KEY

DEEPEST = 50  # dicts and lists in one another


def fingerprint(encoder: Encoder) -> str:
    """The hex sha256 of an encoder's configuration and tensors as they are now, wherever they came from."""
    return digest(encoder.config.to_dict(), encoder.state_dict())


def weights_digest(config: EncoderConfig, tensors: Mapping[str, Tensor]) -> str:
    """The hex sha256 of a configuration and of tensors in half precision: the same before and after a conversion to that."""
    return digest(config.to_dict(), {name: tensor.half() for name, tensor in tensors.items()})


def valid_centring(encoder: Encoder, layout: Layout) -> dict[str, Any] | None:
    """What the file that an encoder was loaded from says for comparing its scene embeddings; None where that does not hold.

    It holds for the layout that the file states, as long as the weights are those of the file.
    """
    facts = getattr(encoder, "centring", None)  # a baseline has none
    if facts is None or layout != encoder.layout:
        return None
    return facts if facts["weights"] == weights_digest(encoder.config, encoder.state_dict()) else None


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
    The file appears under its name only when it is whole. What ``similarity`` centres on is kept as long as the weights and
    the layout are those that were loaded.

    Raises ConfigError on a bad argument, WeightsError when ``load_weights`` would refuse the tensors, and OSError when the
    file cannot be written. Nothing is written then.
    """
    encoder = model.encoder if isinstance(model, Embedder) else model
    require(
        isinstance(encoder, Encoder), f"model is a {type(encoder).__name__}; expected an Encoder, or what load_model returns"
    )
    given = next(choice for choice in (layout, model.layout, DEFAULT_LAYOUT) if choice is not None)
    centring = encoder.centring if given == encoder.layout else None
    facts = {} if provenance is None else provenance
    write_weights(encoder.config, encoder.state_dict(), path, facts, layout=given, centring=centring)


def write_weights(
    config: EncoderConfig,
    tensors: Mapping[str, Tensor],
    path: str | os.PathLike[str],
    provenance: Mapping[str, Any],
    *,
    layout: Layout,
    centring: Mapping[str, Any] | None = None,
    head: tuple[Mapping[str, Any], Mapping[str, Tensor]] | None = None,
) -> None:
    """Write the tensors of an encoder as they are, in their own dtypes; errors as in ``save_weights``.

    centring: as ``Centring.facts`` gives it, for this layout; left out of the file unless it is of these tensors.
    head: of a classifier over scene embeddings, which ``load_weights`` passes by: its "labels" and "problem_type", and the
    tensors of its linear layer, "weight" (classes, embedding_size) and "bias" (classes,).
    """
    check_choice("layout", layout, Layout)
    ours = Path(path).name and Path(path).suffix not in RELEASED_SUFFIXES
    require(bool(ours), f"the file is {shown(str(path))}; expected a name that ends in .safetensors")
    require(isinstance(provenance, Mapping), f"provenance is {shown(provenance)}; expected a dict")
    require_fit(config, kinds_of(tensors), "the encoder")
    require_finite(tensors, "the encoder")
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    facts = {"format": FORMAT, "config": config.to_dict(), "layout": layout, "provenance": _plain(provenance, "provenance")}
    if centring is not None and centring["weights"] == weights_digest(config, whole):
        facts["centring"] = dict(centring)
    if head is not None:
        facts["head"] = dict(head[0])
        require_finite(head[1], "the head")
        whole |= {HEAD + name: tensor.detach().cpu().contiguous() for name, tensor in head[1].items()}
    text, most = canonical(sealed(facts, whole)), HEADER_BYTES // 2
    too_long = f"provenance has {len(text):,} characters; expected at most {most:,}: name a file that has them"
    require(len(text) <= most, too_long)
    write_safetensors(whole, Path(path), {METADATA_KEY: text})


def write_safetensors(tensors: Mapping[str, Tensor], target: Path, metadata: Mapping[str, str]) -> None:
    """Write a safetensors file that appears whole or not at all. Raises OSError, of a full disk as well."""
    if not is_utf8(target):
        raise OSError(f"{target} cannot be written: its path is not UTF-8, which safetensors needs; choose another")
    with replacing(target) as temporary:
        try:
            save_file(dict(tensors), temporary, metadata=dict(metadata))
        except SafetensorError as error:
            raise OSError(f"{target} cannot be written ({error}); what was there before is whole") from error


def _plain(value: object, where: str, depth: int = 0) -> Any:
    """The value of dicts, lists and scalars. Raises ConfigError on what JSON would not give back as it was."""
    require(depth < DEEPEST, f"{where:.80}... is nested {DEEPEST} deep; expected a plain record")
    if isinstance(value, Mapping):
        for key in value:
            require(isinstance(key, str), f"{where} has the key {shown(key)}; expected a string")
        return {key: _plain(item, f"{where}[{shown(key)}]", depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{index}]", depth + 1) for index, item in enumerate(value)]
    is_known = (
        value is None or isinstance(value, str) or (isinstance(value, int | float) and abs(value) <= sys.float_info.max)
    )
    require(is_known, f"{where} is {shown(value)}; expected a string, a finite number, a boolean, None, a list or a dict")
    return value
