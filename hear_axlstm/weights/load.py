"""Weights file -> encoder: safetensors whose metadata rebuilds the encoder alone. check.py refuses what is not as it was."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from hear_axlstm.config import EncoderConfig
from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import WeightsError

METADATA_KEY = "hear_axlstm"
FORMAT = 3


def read_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The header of a weights file, as ``save_weights`` wrote it.

    It has "config" (an EncoderConfig), "layout", "provenance", and "sha256", the fingerprint of all that and the tensors.

    Raises WeightsError on a file that it did not write, or that is damaged or of another format.
    """
    from hear_axlstm.weights.check import read_facts, read_options

    facts = read_facts(Path(path))
    return {**facts, "config": read_options(Path(path), facts)}


def load_weights(path: str | os.PathLike[str], expected: EncoderConfig | None = None) -> tuple[Encoder, dict[str, Any]]:
    """The encoder in a weights file, in float32 on the CPU, and what ``read_header`` returns of the file.

    Raises WeightsError unless its configuration is ``expected``, if given, and every tensor is there, fits and is as saved.
    """
    from hear_axlstm.weights.check import encoder_part, kinds_in, read_facts, read_options, require_fit, verify

    facts = read_facts(Path(path))
    config = read_options(Path(path), facts)
    if expected is not None and config != expected:
        raise WeightsError(f"{path} holds {config}, but {expected} is wanted; load it by its path alone")
    with safe_open(path, "pt") as file:
        require_fit(config, encoder_part(kinds_in(file), facts), str(path))
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - it is no mapping
    verify(Path(path), facts, tensors)
    encoder = fill(config, encoder_part(tensors, facts), str(path))
    encoder.layout, encoder.centring = facts["layout"], facts.get("centring")
    return encoder, {**facts, "config": config}


def fill(config: EncoderConfig, tensors: Mapping[str, Tensor], origin: str) -> Encoder:
    """The encoder of ``config`` with tensors that fit, in float32. ``origin`` names them in errors.

    Raises WeightsError when one is not finite.
    """
    from hear_axlstm.weights.check import require_finite

    whole = {name: tensor.float() for name, tensor in tensors.items()}
    require_finite(whole, origin)
    with torch.device("meta"):
        encoder = Encoder(config)
    encoder.load_state_dict(whole, assign=True)
    return encoder.eval()
