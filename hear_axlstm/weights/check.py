"""Checks of weights before they are used: the size of a file's header, the types in it, its fingerprint, and values."""

from __future__ import annotations

import hashlib
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from hear_axlstm.config import EncoderConfig, Layout, check_choice, config_from_dict
from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import ConfigError, WeightsError
from hear_axlstm.weights.load import FORMAT, METADATA_KEY

HEADER_BYTES = 4 << 20  # of a safetensors header, which lists the tensors; those of the papers' encoders have 20 kB
FACTS = {"format": int, "config": dict, "layout": str, "provenance": dict, "sha256": str}  # what a header states
HEAD, HEAD_FACTS = "classifier.", {"labels": list, "problem_type": str}  # of a linear layer over scene embeddings
CENTRING = {"mean": list, "directions": list, "gains": list, "source": str, "weights": str}  # of a fact that may be there
RELEASED_SUFFIXES = {".pth", ".pt", ".ckpt"}
EXPECTED = "expected a file that `hear-axlstm convert` or hear_axlstm.save_weights wrote"
LARGEST = 1e6  # size of a number of a centring
FLOATS = {"F16", "BF16", "F32", "F64", "float16", "bfloat16", "float32", "float64"}  # safetensors' names and torch's
Kind = tuple[tuple[int, ...], str]  # shape and dtype of a tensor


def canonical(facts: Mapping[str, Any]) -> str:
    """The one JSON text, in ASCII, of these facts. Raises ValueError on NaN and infinity, TypeError on what JSON lacks."""
    return json.dumps(facts, sort_keys=True, allow_nan=False)


def digest(facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """The hex sha256 of facts that JSON can state and of tensors: their names, dtypes, shapes and bytes."""
    total = hashlib.sha256(canonical(facts).encode())
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def sealed(facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The facts with their digest beside them, as a header states them."""
    return {**facts, "sha256": digest(facts, tensors)}


def is_sealed(facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are exactly the facts and tensors whose digest the facts have."""
    return sealed({key: value for key, value in facts.items() if key != "sha256"}, tensors) == facts


def verify(path: Path, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Raise WeightsError unless the facts in a file's header are sealed with exactly the tensors that were read from it."""
    if not is_sealed(facts, tensors):
        raise WeightsError(
            f"{path} is damaged: its header and tensors are not those that its fingerprint, {facts['sha256']:.12}.., was "
            "made of; delete it and get it again (install hear-axlstm again if it came with that)"
        )


def read_facts(path: Path) -> dict[str, Any]:
    """What the header of a weights file states, with the types of FACTS.

    Raises WeightsError on any other file, and on one of another format.
    """
    text = read_metadata(path)
    facts = parse(path, text)
    found = facts.get("format")
    if type(found) is int and 0 < found != FORMAT:
        target = path.with_name(f"{path.stem}-{FORMAT}.safetensors")
        command = f"`{convert_command(path, target)}` rewrites it, and keeps every number"
        advice = command if found in range(1, FORMAT) else "update hear-axlstm"
        raise WeightsError(f"{path}: format {shown(found)}, but this version reads format {FORMAT}: {advice}")
    require_types(path, facts, FACTS)
    if facts["format"] != FORMAT or canonical(facts) != text:
        raise unclear(path, "it is not as it was written")
    return facts


def read_options(path: Path, facts: Mapping[str, Any]) -> EncoderConfig:
    """The encoder that the facts of a file describe. Raises WeightsError when it, the layout or the centring is not ours."""
    try:
        check_choice("layout", facts["layout"], Layout)
        config = config_from_dict(facts["config"])
    except ConfigError as error:
        raise unclear(path, str(error)) from error
    if "centring" in facts:
        _check_centring(path, facts["centring"], config.embedding_size)
    if "head" in facts:
        _check_head(path, facts["head"])
    return config


def encoder_part(named: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """What belongs to the encoder of all that a file names: without the head, where the facts say that there is one."""
    return {name: value for name, value in named.items() if not ("head" in facts and name.startswith(HEAD))}


def _check_head(path: Path, head: Any) -> None:
    """Raise WeightsError unless this is what a header says of a head: its classes, and what its numbers mean."""
    if not isinstance(head, dict) or head.keys() != HEAD_FACTS.keys():
        raise unclear(path, f"head is {shown(head)}; expected {', '.join(HEAD_FACTS)}")
    require_types(path, head, HEAD_FACTS)
    if not head["labels"] or not all(isinstance(label, str) for label in head["labels"]):
        raise unclear(path, f"the head's labels are {shown(head['labels'])}; expected names")


def _check_centring(path: Path, centring: Any, size: int) -> None:
    """Raise WeightsError unless this is a header's centring, for embeddings of this size."""
    if not isinstance(centring, dict) or centring.keys() != CENTRING.keys():
        raise unclear(path, f"centring is {shown(centring)}; expected {', '.join(CENTRING)}")
    require_types(path, centring, CENTRING)
    directions, gains = centring["directions"], centring["gains"]
    for numbers, length in [(centring["mean"], size), (gains, len(directions)), *((row, size) for row in directions)]:
        is_row = isinstance(numbers, list) and len(numbers) == length
        if not is_row or not all(type(number) in (int, float) and abs(number) <= LARGEST for number in numbers):
            raise unclear(path, f"centring has {shown(numbers)}; expected {length} numbers of at most {LARGEST}")


def kinds_in(file: Any) -> dict[str, Kind]:
    """The tensors that an open safetensors file lists, of which none is read."""
    parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    return {name: (tuple(part.get_shape()), part.get_dtype()) for name, part in parts.items()}


def kinds_of(tensors: Mapping[str, Tensor]) -> dict[str, Kind]:
    """The shapes and dtypes of tensors by their names; of what is no plain tensor, its type for a dtype."""

    def kind(tensor: Tensor) -> Kind:
        is_plain = type(tensor) in (Tensor, nn.Parameter) and tensor.layout == torch.strided and not tensor.is_meta
        dtype = str(tensor.dtype).removeprefix("torch.") if is_plain else f"no plain tensor ({type(tensor).__name__})"
        return tuple(tensor.shape) if isinstance(tensor, Tensor) else (), dtype

    return {name: kind(tensor) for name, tensor in tensors.items()}


def require_fit(config: EncoderConfig, kinds: Mapping[str, Kind], origin: str) -> None:
    """Raise WeightsError unless tensors are exactly an encoder's, in floating point. ``origin`` names them in the error.

    Nothing is made that is larger than the tensors are.
    """
    steps, bands = config.grid
    sizes = {"cls_token": (1, 1, config.width), "pos_embed": (1, 1 + steps * bands, config.width)}
    complaints = _complaints(sizes, {name: kinds[name] for name in sizes.keys() & kinds.keys()})
    if config.depth > len(kinds):
        complaints.append(f"depth is {shown(config.depth)}, but there are {len(kinds)} tensors")
    advice = "check that it is whole, and that the architecture options are its own"
    try:
        complaints = complaints or _complaints(_shapes(config), kinds)
    except (RuntimeError, TypeError, OverflowError) as error:  # sizes beyond 64 bits
        complaints = [f"no tensor is so large ({error!s:.80})"]
    _refuse(complaints, f"{origin} does not fit {config!s:.300}", advice)


def require_values(device: torch.device) -> None:
    """Raise ConfigError where the weights of a model are on the meta device."""
    if device.type == "meta":
        raise ConfigError("the model is on the meta device, without values; expected weights: load_model reads them")


def require_floats(kinds: Mapping[str, Kind], origin: str) -> None:
    """Raise WeightsError unless tensors are in floating point. ``origin`` names them in the error."""
    _refuse(_complaints({name: shape for name, (shape, _) in kinds.items()}, kinds), origin)


def require_finite(tensors: Mapping[str, Tensor], origin: str) -> None:
    """Raise WeightsError on NaN and infinity. ``origin`` names the tensors in the error."""
    bad = [name for name, tensor in tensors.items() if not all(map(torch.isfinite, torch.aminmax(tensor.detach())))]
    _refuse([f"{name} holds NaN or infinity" for name in bad], origin)


def _refuse(complaints: Sequence[str], origin: str, advice: str = "get it again, whole") -> None:
    if complaints:
        rest = f" and {len(complaints) - 5} more" if len(complaints) > 5 else ""
        raise WeightsError(f"{origin}: {'; '.join(complaints[:5])}{rest}; {advice}")


def _shapes(config: EncoderConfig) -> dict[str, tuple[int, ...]]:
    """The shapes of an encoder's tensors by their names."""
    with torch.device("meta"):
        one = Encoder(replace(config, depth=1)).state_dict()
    shapes: dict[str, tuple[int, ...]] = {}
    for name, tensor in one.items():
        first = name.startswith("blocks.0.")
        names = (name.replace("0", str(index), 1) for index in range(config.depth)) if first else [name]
        shapes |= dict.fromkeys(names, tuple(tensor.shape))
    return shapes


def _complaints(shapes: Mapping[str, tuple[int, ...]], kinds: Mapping[str, Kind]) -> list[str]:
    """Why tensors are not exactly those of these names and shapes, in floating point."""
    complaints = [f"{name} is missing" for name in sorted(shapes.keys() - kinds.keys())]
    complaints += [f"{name:.80} is unknown" for name in sorted(kinds.keys() - shapes.keys())]
    for name in sorted(shapes.keys() & kinds.keys()):
        shape, dtype = kinds[name]
        if shape != shapes[name]:
            complaints.append(f"{name} has shape {shown(shape)}, expected {shown(shapes[name])}")
        elif dtype not in FLOATS:
            complaints.append(f"{name} is {dtype}, expected floating point of 16 bits or more")
    return complaints


def read_metadata(path: Path) -> str:
    """The JSON text of our header in a safetensors file, bounded by HEADER_BYTES.

    Raises WeightsError on a file that has none, is damaged or cannot be read.
    """
    try:
        if not path.is_file():
            raise WeightsError(f"{path}: no such file; {EXPECTED}")
        if not is_utf8(path):
            raise WeightsError(f"{path}: its path is not UTF-8, which safetensors needs; rename it")
        if path.suffix in RELEASED_SUFFIXES:
            command = convert_command(path, path.with_suffix(".safetensors"))
            raise WeightsError(
                f"{path} looks like a released checkpoint; expected safetensors: convert it once with `{command}`"
            )
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
        if size > HEADER_BYTES:
            raise SafetensorError(f"its header would have {size:,} bytes; ours have at most {HEADER_BYTES:,}")
        with safe_open(path, "pt") as opened:
            metadata = opened.metadata() or {}
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error.strerror or error}); see that you may read it") from error
    except SafetensorError as error:
        raise WeightsError(f"{path}: not a whole safetensors file ({error!s:.300}); delete it and get it again") from error
    if METADATA_KEY not in metadata:
        raise unclear(path, f"there is no {METADATA_KEY!r} in its metadata")
    return metadata[METADATA_KEY]


def parse(path: Path, text: str) -> dict[str, Any]:
    """The JSON object in the text of a file's header, NaN as a string. Raises WeightsError when there is none."""
    try:
        facts = json.loads(text, parse_constant=str, parse_float=_finite, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise unclear(path, str(error)) from error
    if not isinstance(facts, dict):
        raise unclear(path, f"it is {shown(facts)}")
    return facts


def _finite(text: str) -> float:
    if math.isinf(number := float(text)):
        raise ValueError(f"{text} is larger than any number")
    return number


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(facts := dict(pairs)) < len(pairs):
        raise ValueError("a key is there twice")
    return facts


def require_types(path: Path, facts: Mapping[str, Any], types: Mapping[str, type]) -> None:
    """Raise WeightsError unless each fact is there and of its type, which ``bool`` is not where ``int`` is wanted."""
    for key, kind in types.items():
        if type(facts.get(key)) is not kind:
            raise unclear(path, f"{key} is {shown(facts[key])}" if key in facts else f"{key} is missing")


def unclear(path: Path, cause: str) -> WeightsError:
    """The error of a file whose header cannot be made sense of, for this cause."""
    return WeightsError(f"{path}: the header does not say which encoder this is ({cause:.300}); {EXPECTED}")


def is_utf8(path: Path) -> bool:
    """Whether a path is text, which other bytes in file names are not."""
    return not any("\ud800" <= letter <= "\udfff" for letter in str(path))


def shown(value: object) -> str:
    """A value as messages show it, however long it is."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # integers of more than 4,300 digits, deep lists
        return f"a {type(value).__name__} too large to show"
    return text if len(text) <= 80 else f"{text[:77]}..."


def convert_command(source: Path | str, target: Path | str) -> str:
    """The command line that converts a file, to be copied into a shell."""
    return shlex.join(["hear-axlstm", "convert", str(source), str(target)])
