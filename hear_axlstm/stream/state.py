"""The state of a stream in tensors: what another process needs to go on with a sound."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hear_axlstm.config import N_MELS
from hear_axlstm.errors import ConfigError
from hear_axlstm.patches import scene_steps
from hear_axlstm.stream.sound import Sound
from hear_axlstm.stream.standards import Standard, Statistics, check_statistics

FORMAT = 1
ABOUT = "about"  # JSON as bytes: what numbers alone do not say
RECURRENCE = "recurrence."
WORDS = {"weights": "weights", "layout": "layout", "context": "context", "dtype": "precision"}  # of what must be the same


def to_state(sound: Sound, recurrence: Mapping[str, Tensor], made_with: Mapping[str, str]) -> dict[str, Tensor]:
    """A sound, and the state of its recurrence by name, as tensors of their own on the CPU.

    made_with: what must be the same where it goes on, under the names of WORDS.
    """
    windows, standard = sound.windows, sound.standard
    about = {
        "format": FORMAT,
        **made_with,
        "statistics": standard.kind if standard.kind != "given" else None,
        "given": standard.given,
        "seconds": standard.seconds,
        "tally": standard.tally.state(),
        "samples": windows.samples,
        "columns": sound.columns,
        "counted": sound.counted,
    }
    tensors = {
        ABOUT: torch.frombuffer(bytearray(json.dumps(about).encode()), dtype=torch.uint8),
        "rest": torch.from_numpy(windows.rest),
        "waiting": torch.from_numpy(standard.waiting),
        "mel": torch.from_numpy(sound.mel),
        "chunk": sound.chunk,
        "sums": sound.sums,
        **{RECURRENCE + name: tensor for name, tensor in recurrence.items()},
    }
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def from_state(
    state: Mapping[str, Tensor], empty: Sound, recurrence: Mapping[str, Tensor], made_with: Mapping[str, str]
) -> tuple[Sound, dict[str, Tensor]]:
    """The sound in a state, and the state of its recurrence by name.

    empty: a sound that has heard nothing. recurrence: what a state of it looks like. made_with: as of ``to_state``.

    Raises ConfigError where the state was made with something else, or is damaged.
    """
    try:
        about = json.loads(bytes(state[ABOUT].cpu().numpy()))
        if about["format"] != FORMAT:
            raise ValueError(f"its format is {about['format']!r}, not {FORMAT}")
        _check(about, made_with)
        sound = _sound(state, about, empty)
        own = {name: state[RECURRENCE + name] for name in recurrence}
        for name, tensor in own.items():
            _fits(name, tensor, recurrence[name].shape, recurrence[name].dtype)
    except ConfigError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
        cause = f"it has no {error}" if isinstance(error, KeyError) else error
        raise ConfigError(f"the state is not what state_dict() returned ({cause}); expected that of a stream") from error
    return sound, own


def _check(about: Mapping[str, Any], made_with: Mapping[str, str]) -> None:
    for name, word in WORDS.items():
        if about[name] != made_with[name]:
            was, now = str(about[name])[:12], made_with[name][:12]
            raise ConfigError(f"the state was saved with the {word} {was}; it goes on with the same alone, not with {now}")


def _sound(state: Mapping[str, Tensor], about: Mapping[str, Any], empty: Sound) -> Sound:
    given = None if about["given"] is None else Statistics(*about["given"])
    check_statistics(about["statistics"] or given, about["seconds"])
    if given is not None:  # or learnt by now
        check_statistics(given, about["seconds"])
    standard = Standard(about["statistics"] or given, about["seconds"])  # type: ignore[arg-type]
    standard.given = given
    _fits("tally", torch.tensor(about["tally"], dtype=torch.float64), torch.Size([4]), torch.float64)
    standard.tally.restore(about["tally"])
    empty.standard = standard
    for name in ("samples", "columns"):
        if type(about[name]) is not int or about[name] < 0:
            raise ValueError(f"{name} is {about[name]!r:.50}")
    windows = empty.windows
    windows.samples = about["samples"]
    empty.columns, empty.counted = about["columns"], about["counted"]
    windows.rest = _rows("rest", state, torch.float32)
    standard.waiting, empty.mel = (_rows(name, state, torch.float64, N_MELS) for name in ("waiting", "mel"))
    _fits("chunk", state["chunk"], empty.chunk.shape, empty.chunk.dtype)
    _fits("sums", state["sums"], empty.sums.shape, empty.sums.dtype)
    empty.chunk = state["chunk"].to(empty.chunk.device, copy=True)
    empty.sums = state["sums"].cpu().clone()
    _add_up(empty)
    return empty


def _add_up(sound: Sound) -> None:
    """Raise ValueError unless the samples that came are those of the frames that were encoded or wait, and what is left."""
    windows = sound.windows
    if sound.counted is None:
        frames = sound.columns * sound.patch_frames + len(sound.mel) + len(sound.standard.waiting)
        fits = (frames, len(windows.rest)) == windows.so_far()
    else:
        steps = scene_steps(windows.samples, sound.grid[0])
        fits = sound.counted == steps and sound.columns in (steps, steps + -steps % sound.grid[0])
    if not fits:
        raise ValueError(f"{windows.samples} samples do not make {sound.columns} columns and what waits")


def _rows(name: str, state: Mapping[str, Tensor], dtype: torch.dtype, *shape: int) -> np.ndarray[Any, np.dtype[Any]]:
    """A copy of numbers of which there may be any many, in rows of that shape."""
    _fits(name, state[name], torch.Size([len(state[name]), *shape]), dtype)
    return state[name].cpu().numpy().copy()


def _fits(name: str, tensor: Tensor, shape: torch.Size, dtype: torch.dtype) -> None:
    if tensor.shape != shape or tensor.dtype != dtype:
        raise ValueError(f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)}, not {dtype} of {tuple(shape)}")
    if not tensor.isfinite().all():
        raise ValueError(f"{name} holds NaN or infinity")
