"""Released checkpoint (.pth) -> safetensors, without running anything that the checkpoint says."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hear_axlstm.config import (
    CHUNK_FRAMES,
    N_MELS,
    AxLSTMConfig,
    EncoderConfig,
    InputGate,
    SSAMConfig,
    SSASTConfig,
)
from hear_axlstm.errors import ConfigError, WeightsError
from hear_axlstm.patches import sincos_positions
from hear_axlstm.storage import sha256_of
from hear_axlstm.weights.load import fill, save_weights

POSITION_TOLERANCE = 1e-5  # the checkpoints' table was computed in float32
PATCHES = ((4, 16), (8, 16), (4, 8))  # (frames, bands) of the papers


class Inert:
    """Stands in for a foreign class of a checkpoint: takes the state that was stored, and does nothing."""

    def __setstate__(self, state: Any) -> None:
        self.state = state


# The authors' checkpoints carry their training arguments, made of these; nothing else foreign is let in.
FOREIGN_CLASSES = (
    "argparse.Namespace",
    "ml_collections.config_dict.config_dict.ConfigDict",
    "ml_collections.config_dict.config_dict.FrozenConfigDict",
    "ml_collections.config_dict.config_dict.FieldReference",
)


def read_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], int | None]:
    """The model's tensors and the epoch of a released checkpoint.

    torch's restricted unpickler reads it: known tensor constructors, plain containers, and inert stand-ins for the
    foreign classes above. Raises WeightsError on anything else, before it could run.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file; expected a checkpoint such as checkpoint-99.pth")
    try:
        with torch.serialization.safe_globals([(Inert, name) for name in FOREIGN_CLASSES]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's message also advises to switch the protection off; only its finding is passed on.
        finding = re.search(r"[Uu]nsupported [^\n]*?(?=\.? was not|\. *(?:\n|$)|\n|$)", str(error))
        raise WeightsError(
            f"{path}: refused, it asks for more than tensors and plain values"
            f"{f' ({finding.group()})' if finding else ''}; nothing in it was run. Get the file from its authors again"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path}: not a whole torch checkpoint ({error}); download it again") from error
    tensors = content.get("model") if isinstance(content, Mapping) else None
    if not isinstance(tensors, Mapping) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise WeightsError(f"{path}: no tensors under the key 'model'; expected a released AxLSTM, SSAM or SSAST checkpoint")
    epoch = content.get("epoch")
    return dict(tensors), epoch if isinstance(epoch, int) else None


def recognise(
    tensors: Mapping[str, Tensor],
    *,
    flip: bool | None = None,
    input_gate: InputGate | None = None,
    heads: int | None = None,
) -> EncoderConfig:
    """The architecture behind a released checkpoint, from its tensor names and shapes.

    flip and input_gate (AxLSTM) leave no trace in the tensors: flip is on when left out at expansion 2, as the authors
    released it, and must be told otherwise; input_gate is "exp" when left out. heads (SSAST) is width / 64, three at
    least, as in the papers, when left out.

    Raises WeightsError when the tensors are no such encoder's, ConfigError when an option is needed or does not apply.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    try:
        width, _, *patch = shapes["patch_embed.proj.weight"]
        depth = 1 + max(int(match[1]) for match in map(re.compile(r"blocks\.(\d+)\.").match, shapes) if match)
    except (KeyError, ValueError) as error:
        raise WeightsError(
            f"no patch embedding or no blocks among the {len(shapes)} tensors; expected a released AxLSTM, SSAM or SSAST "
            "checkpoint"
        ) from error
    if tuple(patch) not in PATCHES:
        raise WeightsError(f"patches of {'x'.join(map(str, patch))} (time x frequency); the papers have {PATCHES}")
    common: dict[str, Any] = {"width": width, "depth": depth, "patch": tuple(patch)}

    told = {"flip": flip, "input_gate": input_gate, "heads": heads}

    def only(family: str, *allowed: str) -> None:
        if extra := [name for name, value in told.items() if value is not None and name not in allowed]:
            raise ConfigError(f"this is {family}, which has no option {', '.join(extra)}: leave it out")

    if "blocks.0.layer.proj_up.weight" in shapes:
        only("an AxLSTM checkpoint", "flip", "input_gate")
        expansion = shapes["blocks.0.layer.proj_up.weight"][0] // (2 * width)
        if flip is None:
            if expansion != 2:
                raise ConfigError(
                    f"an AxLSTM checkpoint with expansion {expansion}: its tensors do not tell whether odd blocks read the "
                    "tokens backwards. Say --flip or --no-flip (flip=True or False); the paper's E=3 models do not flip"
                )
            flip = True
        return AxLSTMConfig(**common, expansion=expansion, flip=flip, input_gate=input_gate or "exp")
    if "blocks.0.mixer.in_proj.weight" in shapes:
        only("an SSAM checkpoint")
        return SSAMConfig(**common, bidirectional="blocks.0.mixer.A_b_log" in shapes)
    if "blocks.0.attn.qkv_layer.weight" in shapes:
        only("an SSAST checkpoint", "heads")
        return SSASTConfig(**common, heads=heads or max(3, width // 64))
    raise WeightsError("the blocks are neither mLSTM, Mamba nor attention; expected an AxLSTM, SSAM or SSAST checkpoint")


def rename(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Released names -> ours. They differ inside the Mamba mixer only: each direction is a module of its own there."""
    scan = re.compile(r"(blocks\.\d+\.mixer)\.(?!in_proj|out_proj)(.*)")
    backward_mark = re.compile(r"_b(?=[._]|$)")
    renamed = {}
    for name, tensor in tensors.items():
        if match := scan.fullmatch(name):
            plain, marks = backward_mark.subn("", match[2], count=1)
            name = f"{match[1]}.{'reverse_scan' if marks else 'scan'}.{plain}"
        renamed[name] = tensor
    return renamed


def convert_checkpoint(
    source: str | Path,
    target: str | Path,
    *,
    flip: bool | None = None,
    input_gate: InputGate | None = None,
    heads: int | None = None,
) -> EncoderConfig:
    """Write a released ``.pth`` checkpoint as safetensors that ``load_model`` reads; options as in ``recognise``.

    Every tensor of the encoder must be there, fit and be finite, none may be left over, and the position table must be
    the papers'. Raises WeightsError or ConfigError otherwise, OSError when the target cannot be written.
    """
    tensors, epoch = read_checkpoint(source)
    try:
        config = recognise(tensors, flip=flip, input_gate=input_gate, heads=heads)
    except (WeightsError, ConfigError) as error:
        raise type(error)(f"{source}: {error}") from error
    encoder = fill(config, rename(tensors), str(source))
    deviation = (encoder.pos_embed - sincos_positions(config.width, config.grid)).abs().max().item()
    if deviation > POSITION_TOLERANCE:
        raise WeightsError(
            f"{source}: pos_embed differs by {deviation:.2g} from the sine-cosine table of a {CHUNK_FRAMES}x{N_MELS} chunk; "
            "expected the papers' fixed positions"
        )
    provenance = {"source": Path(source).name, "source_sha256": sha256_of(Path(source)), "epoch": epoch}
    save_weights(encoder, target, provenance)
    return config
