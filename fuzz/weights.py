"""Weights files and released checkpoints, damaged byte by byte or rebuilt with hostile values in them."""

from __future__ import annotations

import io
import json
import re
import struct
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load

from fuzz.case import Case
from fuzz.hostile import PICKLES, VALUES, WHOLE, archive, dumps
from fuzz.mutations import mutate
from hear_axlstm.config import AxLSTMConfig, EncoderConfig, SSAMConfig, SSASTConfig
from hear_axlstm.encoder import Encoder
from hear_axlstm.weights import check
from hear_axlstm.weights.load import METADATA_KEY
from hear_axlstm.weights.released import read_checkpoint
from hear_axlstm.weights.save import save_weights

GOLDEN = Path(__file__).parents[1] / "tests" / "parity" / "golden"
CONFIGS: dict[str, EncoderConfig] = {
    "axlstm": AxLSTMConfig(width=16, depth=1),
    "ssam": SSAMConfig(width=16, depth=2, bidirectional=True),
    "ssast": SSASTConfig(width=16, depth=1, heads=2),
}
UNPROTECTED = "before-1.6.pth"  # torch's format of then has no checksums
CHECKPOINT_EVERY = 6  # weights, one is a checkpoint: a conversion takes longer than a load


@cache
def weights_seeds() -> dict[str, bytes]:
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


@cache
def checkpoint_seeds() -> dict[str, bytes]:
    """Undamaged checkpoints by name: the golden ones, and one as torch wrote them before version 1.6."""
    found = {path.name: path.read_bytes() for path in sorted(GOLDEN.glob("*.pth"))}
    tensors, epoch = content_of("ssast.pth")
    flat = torch.cat([tensor.flatten() for tensor in tensors.values()])  # one storage: their order follows addresses
    views = zip(tensors, flat.split([tensor.numel() for tensor in tensors.values()]), tensors.values(), strict=True)
    old = io.BytesIO()
    content = {"model": {name: part.view(tensor.shape) for name, part, tensor in views}, "epoch": epoch}
    torch.save(content, old, _use_new_zipfile_serialization=False)
    address = re.compile(rb"X[\x08-\x14]\0\0\0\d{8,20}(?!\d)")
    return found | {UNPROTECTED: address.sub(b"X\x08\0\0\0" + b"1" * 8, old.getvalue())}


@cache
def content_of(name: str) -> tuple[dict[str, torch.Tensor], Any]:
    """The tensors and the epoch of a golden checkpoint."""
    return read_checkpoint(GOLDEN / (name if (GOLDEN / name).exists() else "ssast.pth"))


@cache
def conversion(name: str) -> dict[str, Any]:
    """What the conversion of a seed must be told."""
    facts = GOLDEN / Path(name).with_suffix(".safetensors")
    if not name.startswith("axlstm"):
        return {}
    with safe_open(facts, "pt") as file:
        case = json.loads(file.metadata()["case"])
    return {"flip": case["flip"], "input_gate": case["input_gate"]}


def case(seed: int, index: int) -> Case:
    """The weights of this number: the same file for the same numbers, wherever they are made with the same torch."""
    random, name = Random(f"{seed} weights {index}"), f"weights-{seed}-{index}"  # noqa: S311 - not for secrets
    return _checkpoint(name, random) if index % CHECKPOINT_EVERY == 0 else _weights(name, random)


def _weights(name: str, random: Random) -> Case:
    files = weights_seeds()
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


def _checkpoint(name: str, random: Random) -> Case:
    files = checkpoint_seeds()
    origin, other = random.choice(list(files)), random.choice(list(files))
    facts: dict[str, Any] = {"options": conversion(origin)}
    how, kept = random.choice((("bytes", origin), ("bytes", origin), ("member", ""), ("content", ""), ("hostile", "")))
    if how == "bytes":
        data, how = mutate(files[origin], random, files[other])
    elif how == "content":
        data, how = _with_content(origin, random)
    elif how == "member" and zipfile.is_zipfile(io.BytesIO(files[origin])):
        data, how = _with_member(files[origin], random)
    else:
        choices = WHOLE | PICKLES
        how = random.choice(list(choices))
        data = choices[how]()
        if how in PICKLES and random.random() < 0.5:
            data, how = archive(data), f"{how} in a zip"
        if random.random() < 0.3:
            data, more = mutate(data, random, files[other])
            how += f"+{more}"
    return Case("checkpoint", name, ".pth", f"{origin} {how}", data, facts, "" if kept == UNPROTECTED else kept)


def _with_content(origin: str, random: Random) -> tuple[bytes, str]:
    """A checkpoint as somebody could have saved it, with other tensors and values: its bytes and what was changed."""
    before, epoch = content_of(origin)
    tensors, target = dict(before), io.BytesIO()
    name, large = random.choice(list(tensors)), random.choice((10**4, 10**7, 10**9, 2**40))
    tensor = tensors[name]
    changes: dict[str, dict[Any, Any]] = {
        "a late block": {f"blocks.{large}.norm.weight": tensor},
        "a wide one": {"patch_embed.proj.weight": torch.zeros(1).expand(large, 1, 4, 16)},
        "a large tensor": {name: torch.zeros(1).expand(large, *tensor.shape)},
        "an odd name": {random.choice((7, None, "", "x" * 100_000, "\udcff", "blocks.-1.x", "blocks.\u0663.x")): tensor},
        "no tensor": {name: random.choice(VALUES[:20])},
        "another type": {name: tensor.to(random.choice((torch.int64, torch.bool, torch.complex64, torch.float8_e5m2)))},
        "NaN": {name: tensor / 0},
        "nothing in it": {name: tensor.flatten()[:0]},
        "sparse": {name: tensor.to_sparse()},
    }
    how = random.choice([*changes, "epoch"])
    if how in changes:
        tensors |= changes[how]
    else:
        epoch = random.choice((-1, 10**400, True, None, "x" * 100_000, float("nan"), []))
    torch.save({"model": tensors, "epoch": epoch}, target)
    return target.getvalue(), f"{name} {how}"


def _with_member(data: bytes, random: Random) -> tuple[bytes, str]:
    """One member damaged, dropped or compressed, and the archive written anew: all checksums hold."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = [Path(name).relative_to(Path(name).parts[0]).as_posix() for name in archive.namelist()]
        name = random.choice(("data.pkl", "data.pkl", random.choice(names)))
        member = archive.read(f"{archive.namelist()[0].partition('/')[0]}/{name}")
    action = random.choice(("mutated", "mutated", "mutated", "dropped", "compressed"))
    if action == "mutated":
        changed, how = mutate(member, random, b"torch")
        return rezipped(data, {name: changed}), f"{name} {how}+sealed"
    if action == "dropped":
        return rezipped(data, {name: None}), f"{name} dropped"
    return rezipped(data, {name: member}, zipfile.ZIP_DEFLATED), f"{name} compressed"


def rezipped(data: bytes, changes: dict[str, bytes | None], method: int = zipfile.ZIP_STORED) -> bytes:
    """A torch archive written anew with other members, by their names within its folder; None leaves one out."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as before, zipfile.ZipFile(target, "w", method) as after:
        for info in before.infolist():
            content = changes.get(info.filename.partition("/")[2], before.read(info))
            if content is not None:
                after.writestr(zipfile.ZipInfo(info.filename), content, method)
    return target.getvalue()
