"""Weights files, made here, and damaged byte by byte or given hostile headers."""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from fuzz import checkpoints
from fuzz.case import Case
from fuzz.hostile import VALUES, dumps
from fuzz.mutations import mutate
from hear_axlstm.config import AxLSTMConfig, EncoderConfig, SSAMConfig, SSASTConfig
from hear_axlstm.encoder import Encoder
from hear_axlstm.weights import check
from hear_axlstm.weights.load import METADATA_KEY
from hear_axlstm.weights.save import save_weights

CONFIGS: dict[str, EncoderConfig] = {
    "axlstm": AxLSTMConfig(width=16, depth=1),
    "ssam": SSAMConfig(width=16, depth=2, bidirectional=True),
    "ssast": SSASTConfig(width=16, depth=1, heads=2),
}
CHECKPOINT_EVERY = 6  # weights, one is a checkpoint: to convert one takes longer than to load a file


@cache
def seeds() -> dict[str, bytes]:
    """Undamaged weights files by name, one a family: no two tensors in it are equal."""
    found = {}
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng([]):
        for name, config in CONFIGS.items():
            torch.manual_seed(0)
            encoder, path = Encoder(config), Path(folder, f"{name}.safetensors")
            with torch.no_grad():
                for parameter in encoder.state_dict().values():
                    parameter += torch.randn_like(parameter) / 10
            save_weights(encoder, path, {"source": "random values", "steps": 7}, layout="time")
            found[path.name] = path.read_bytes()
    return found


def case(seed: int, index: int) -> Case:
    """The weights of this number: the same file for the same numbers, wherever they are made with the same torch."""
    random, name = Random(f"{seed} weights {index}"), f"weights-{seed}-{index}"  # noqa: S311 - not for secrets
    if index % CHECKPOINT_EVERY == 0:
        return checkpoints.case(name, random)
    files = seeds()
    origin, other = random.choice(list(files)), random.choice(list(files))
    if random.random() < 0.5:
        data, how = mutate(files[origin], random, files[other])
    else:
        change = random.choice(HEADER_CHANGES)
        data, how = _with_header(files[origin], lambda header: change(header, random)), change.__name__
        if random.random() < 0.5 and (sealed := _sealed(data)):
            return Case("weights", name, ".safetensors", f"{origin} {how}+sealed", sealed)
    return Case("weights", name, ".safetensors", f"{origin} {how}", data, origin=origin)


def _with_header(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """A safetensors file with another JSON header over the same tensors."""
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    change(header)
    text = dumps(header)
    return struct.pack("<Q", len(text)) + text + data[8 + size :]


def _sealed(data: bytes) -> bytes:
    """The file with a fingerprint of what it says and holds now, as anybody can make one; empty where none can be made."""

    def change(header: dict[str, Any]) -> None:
        facts = json.loads(header["__metadata__"][METADATA_KEY])
        facts.pop("sha256", None)
        header["__metadata__"][METADATA_KEY] = check.canonical(check.sealed(facts, load(data)))

    try:
        return _with_header(data, change)
    except (SafetensorError, LookupError, ValueError, TypeError, AttributeError, RecursionError):
        return b""


def _somewhere(value: Any, random: Random) -> tuple[Any, Any]:
    """A container within a JSON value that has items, and the key of one."""
    places = [(value, key) for key in (value if isinstance(value, dict) else range(len(value)))]
    container, key = random.choice(places)
    inner = container[key]
    return (
        _somewhere(inner, random) if isinstance(inner, dict | list) and inner and random.random() < 0.8 else (container, key)
    )


def hostile_description(header: dict[str, Any], random: Random) -> None:
    """A value of what describes the encoder becomes something else."""
    described = json.loads(header["__metadata__"][METADATA_KEY])
    container, key = _somewhere(described, random)
    container[key] = random.choice(VALUES)
    header["__metadata__"][METADATA_KEY] = dumps(described).decode("utf-8", "surrogatepass")


def missing_description(header: dict[str, Any], random: Random) -> None:
    described = json.loads(header["__metadata__"][METADATA_KEY])
    container, key = _somewhere(described, random)
    del container[key]
    header["__metadata__"][METADATA_KEY] = random.choice((json.dumps(described), "", "[", "[]", "null", "7"))


def other_option(header: dict[str, Any], random: Random) -> None:
    """Another value that the option could have had: a model that computes something else."""
    described = json.loads(header["__metadata__"][METADATA_KEY])
    options = {"axlstm": {"flip": True}, "ssam": {"bidirectional": False}, "ssast": {"heads": 4}}
    described |= random.choice(
        (
            {"layout": "released"},
            {"provenance": {}},
            {"config": described["config"] | options[described["config"]["family"]]},
        )
    )
    header["__metadata__"][METADATA_KEY] = json.dumps(described)


def hostile_header(header: dict[str, Any], random: Random) -> None:
    """A value of what describes the tensors becomes something else."""
    container, key = _somewhere(header, random)
    container[key] = random.choice(VALUES)


def swapped(header: dict[str, Any], random: Random) -> None:
    """Two tensors have each other's place, or each other's name."""
    names = [name for name in header if name != "__metadata__"]
    shapes = [str(header[name]["shape"]) for name in names]
    alike = [name for name, shape in zip(names, shapes, strict=True) if shapes.count(shape) > 1]
    first = random.choice(alike or names)
    second = random.choice([name for name in names if header[name]["shape"] == header[first]["shape"]])
    header[first], header[second] = header[second], header[first]


def renamed(header: dict[str, Any], random: Random) -> None:
    name = random.choice([name for name in header if name != "__metadata__"])
    header[random.choice((name + "x", name[:-1], "", "é" * 99, name.upper()))] = header.pop(name)


def other_dtype(header: dict[str, Any], random: Random) -> None:
    """A tensor of as many bytes, of another type and shape, or of its own shape."""
    name = random.choice([name for name in header if name != "__metadata__"])
    entry = header[name]
    entry["dtype"] = random.choice("F16 BF16 F64 I32 U8 I64 BOOL F8_E4M3 C64 F99".split())
    if random.random() < 0.5 and entry["shape"]:
        entry["shape"][-1] *= 2


HEADER_CHANGES = (hostile_description, missing_description, other_option, hostile_header, swapped, renamed, other_dtype)
