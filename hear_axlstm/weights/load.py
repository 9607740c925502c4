"""Weights file -> encoder: safetensors whose metadata rebuilds the encoder alone."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from hear_axlstm.config import EncoderConfig, Layout, check_choice, config_from_dict
from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import WeightsError

METADATA_KEY = "hear_axlstm"
FORMAT = 2


def read_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The header of a weights file, as ``save_weights`` wrote it: "config" (an EncoderConfig), "layout" and "provenance".

    Raises WeightsError on a file that it did not write, or that is damaged or of another format.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file; expected weights that `hear-axlstm convert` or save_weights wrote")
    if path.suffix in {".pth", ".pt", ".ckpt"}:
        raise WeightsError(
            f"{path} looks like a released checkpoint; expected safetensors: convert it once with "
            f"`hear-axlstm convert {path} {path.with_suffix('.safetensors').name}`"
        )
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a whole safetensors file ({error}); delete it and get it again") from error
    try:
        header: dict[str, Any] = json.loads(metadata[METADATA_KEY])
        if header["format"] != FORMAT:
            command = f"`hear-axlstm convert {path} {path.stem}-2.safetensors` rewrites it, and keeps every number"
            advice = command if header["format"] == 1 else "update hear-axlstm"
            raise WeightsError(f"{path}: format {header['format']}, but this version reads format {FORMAT}: {advice}")
        check_choice("layout", header["layout"], Layout)
        return {**header, "config": config_from_dict(header["config"]), "provenance": header["provenance"]}
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{path}: the header does not say which encoder this is ({error!r}); expected a file that "
            "`hear-axlstm convert` or hear_axlstm.save_weights wrote"
        ) from error


def load_weights(path: str | os.PathLike[str], expected: EncoderConfig | None = None) -> tuple[Encoder, dict[str, Any]]:
    """The encoder in a weights file, in float32 on the CPU, and what ``read_header`` returns of the file.

    expected: the configuration that the encoder must have. Raises WeightsError when it has another, or unless every
    tensor is there and fits.
    """
    header = read_header(path)
    if expected is not None and header["config"] != expected:
        raise WeightsError(f"{path} holds {header['config']}, but {expected} is wanted; load it by its path alone")
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    return fill(header["config"], tensors, str(path)), header


def fill(config: EncoderConfig, tensors: Mapping[str, Tensor], origin: str) -> Encoder:
    """The encoder of ``config`` with exactly these tensors, in float32. ``origin`` names them in errors.

    Raises WeightsError when a tensor is missing, unknown, of another shape, not floating point, or not finite.
    """
    with torch.device("meta"):
        encoder = Encoder(config)
    expected = {name: tensor.shape for name, tensor in encoder.state_dict().items()}
    complaints = [f"{name} is missing" for name in sorted(expected.keys() - tensors.keys())]
    complaints += [f"{name} is unknown" for name in sorted(tensors.keys() - expected.keys())]
    for name in sorted(expected.keys() & tensors.keys()):
        if tensors[name].shape != expected[name]:
            complaints.append(f"{name} has shape {tuple(tensors[name].shape)}, expected {tuple(expected[name])}")
        elif not tensors[name].is_floating_point():
            complaints.append(f"{name} is {tensors[name].dtype}, expected floating point")
        elif not torch.isfinite(tensors[name]).all():
            complaints.append(f"{name} holds NaN or infinity")
    if complaints:
        rest = f" and {len(complaints) - 5} more" if len(complaints) > 5 else ""
        raise WeightsError(
            f"{origin} does not fit {config}: {'; '.join(complaints[:5])}{rest}. Check that it is whole and that the "
            "architecture options are its own"
        )
    encoder.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
    return encoder.eval()
