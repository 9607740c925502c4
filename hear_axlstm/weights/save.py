"""Encoder -> weights file, and the hash that tells encoders apart."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from hear_axlstm.config import DEFAULT_LAYOUT, EncoderConfig, Layout, check_choice
from hear_axlstm.encoder import Encoder
from hear_axlstm.storage import replacing
from hear_axlstm.weights.load import FORMAT, METADATA_KEY


def fingerprint(encoder: Encoder) -> str:
    """The hex sha256 of an encoder's configuration and tensors as they are now, wherever they came from."""
    digest = hashlib.sha256(json.dumps(encoder.config.to_dict(), sort_keys=True).encode())
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


def save_weights(
    encoder: Encoder,
    path: str | os.PathLike[str],
    provenance: Mapping[str, Any] | None = None,
    *,
    layout: Layout = DEFAULT_LAYOUT,
) -> None:
    """Write an encoder's tensors and configuration, and ``provenance``, any JSON-able record of where they come from.

    layout: of scene embeddings, unless whoever loads the weights asks for another. The file appears under its name only
    when it is whole. Raises ConfigError on an unknown layout, OSError when the file cannot be written.
    """
    write_weights(encoder.config, encoder.state_dict(), path, provenance or {}, layout=layout)


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
    header = {"format": FORMAT, "config": config.to_dict(), "layout": layout, "provenance": dict(provenance)}
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(Path(path)) as temporary:
        save_file(whole, temporary, metadata={METADATA_KEY: json.dumps(header, sort_keys=True)})
