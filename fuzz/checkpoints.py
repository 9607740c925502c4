"""Released checkpoints, damaged byte by byte, rebuilt with other members and tensors, or hostile from the start."""

from __future__ import annotations

import io
import json
import re
import zipfile
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors import safe_open

from fuzz.case import Case
from fuzz.hostile import PICKLES, VALUES, WHOLE, archive
from fuzz.mutations import mutate
from hear_axlstm.weights.released import read_checkpoint

GOLDEN = Path(__file__).parents[1] / "tests" / "parity" / "golden"
UNPROTECTED = "before-1.6.pth"  # torch's format of then has no checksums


@cache
def seeds() -> dict[str, bytes]:
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
    tensors, epoch = read_checkpoint(GOLDEN / (name if (GOLDEN / name).exists() else "ssast.pth"))
    return dict(sorted(tensors.items())), epoch  # which come in any order


@cache
def conversion(name: str) -> dict[str, Any]:
    """What the conversion of a seed must be told."""
    facts = GOLDEN / Path(name).with_suffix(".safetensors")
    if not name.startswith("axlstm"):
        return {}
    with safe_open(facts, "pt") as file:
        case = json.loads(file.metadata()["case"])
    return {"flip": case["flip"], "input_gate": case["input_gate"]}


def case(name: str, random: Random) -> Case:
    """A damaged checkpoint, by the choices of ``random``."""
    way, origin = random.choice(WAYS), random.choice(list(seeds()))
    if way is with_member and origin == UNPROTECTED:  # which has no members
        way = hostile
    data, how = way(origin, random)
    kept = origin if way is damaged and origin != UNPROTECTED else ""
    return Case("checkpoint", name, ".pth", f"{origin} {how}", data, {"options": conversion(origin)}, kept)


def damaged(origin: str, random: Random) -> tuple[bytes, str]:
    """The bytes of a checkpoint after mutations, and their names."""
    return mutate(seeds()[origin], random, seeds()[random.choice(list(seeds()))])


def hostile(origin: str, random: Random) -> tuple[bytes, str]:
    """Something else under a checkpoint's name, now and then damaged as well."""
    choices = WHOLE | PICKLES
    how = random.choice(list(choices))
    data = choices[how]()
    if how in PICKLES and random.random() < 0.5:
        data, how = archive(data), f"{how} in a zip"
    if random.random() < 0.3:
        data, more = mutate(data, random, seeds()[origin])
        how += f"+{more}"
    return data, how


def with_content(origin: str, random: Random) -> tuple[bytes, str]:
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


def with_member(origin: str, random: Random) -> tuple[bytes, str]:
    """One member damaged, dropped or compressed, and the archive written anew: all checksums hold."""
    data = seeds()[origin]
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        names = [Path(name).relative_to(Path(name).parts[0]).as_posix() for name in file.namelist()]
        name = random.choice(("data.pkl", "data.pkl", random.choice(names)))
        member = file.read(f"{file.namelist()[0].partition('/')[0]}/{name}")
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


WAYS = (damaged, damaged, with_member, with_content, hostile)
