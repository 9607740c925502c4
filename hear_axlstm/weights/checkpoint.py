"""Checkpoints of a training run: tensors in named parts, an optimiser's state and facts, in one sealed safetensors file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.optim import Optimizer

from hear_axlstm.errors import OutputError
from hear_axlstm.weights.check import is_sealed, sealed
from hear_axlstm.weights.save import write_safetensors

OPTIMIZER = "optimizer"  # beside the names of the parts

State = TypeVar("State")
Parts = Mapping[str, Mapping[str, Tensor]]


def write_checkpoint(
    path: Path, key: str, facts: Mapping[str, Any], parts: Parts, optimizer: Optimizer, scaler: torch.amp.GradScaler
) -> None:
    """Write all that training needs to go on; the file appears whole. Raises OSError, and then the one before is whole.

    key: of the facts in the file's metadata. facts: what JSON can hold, the format among it.
    """
    tensors = {f"{part}.{name}": tensor for part, own in parts.items() for name, tensor in own.items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"{OPTIMIZER}.{index}.{name}": tensor for name, tensor in values.items()}
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(sealed({**facts, "scaler": scaler.state_dict()}, whole))
    write_safetensors(whole, path, {key: text})


def read_checkpoint(
    path: Path,
    key: str,
    expected: int,
    optimizer: Optimizer,
    scaler: torch.amp.GradScaler,
    restored: Callable[[dict[str, Any], dict[str, dict[str, Tensor]]], State],
) -> State:
    """Set an optimiser and a scaler to what ``write_checkpoint`` wrote, and return what ``restored`` makes of the rest.

    expected: the format. restored: called with the facts and the parts, before the optimiser is set.

    Raises OutputError when the file is of another format, or damaged in any way.
    """
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {})[key])
            whole = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        if (found := facts.get("format", 1)) != expected:
            raise OutputError(
                f"{path} has format {found}, of another version of hear-axlstm; expected {expected}. Finish this run with "
                "the version that began it, choose another folder, or start again with --overwrite"
            )
        if not is_sealed(facts, whole):
            raise ValueError("it is not what its fingerprint was made of")
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensor in whole.items():
            part, _, own = name.partition(".")
            parts.setdefault(part, {})[own] = tensor
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in parts.pop(OPTIMIZER, {}).items():
            index, _, own = name.partition(".")
            state.setdefault(int(index), {})[own] = tensor
        result = restored(facts, parts)
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        if facts["scaler"]:
            scaler.load_state_dict(facts["scaler"])
        return result
    except OutputError:
        raise
    except (SafetensorError, OSError, LookupError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise OutputError(f"{path} is damaged ({error}); start again with --overwrite") from error
