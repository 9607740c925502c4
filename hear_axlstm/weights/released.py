"""Released checkpoints (.pth) -> weights files, without running anything that a checkpoint says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from hear_axlstm.config import (
    CHUNK_FRAMES,
    DEFAULT_LAYOUT,
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
from hear_axlstm.weights.check import (
    convert_command,
    kinds_in,
    kinds_of,
    parse,
    read_metadata,
    read_options,
    require_fit,
    require_floats,
    require_types,
    shown,
)
from hear_axlstm.weights.find import manifest_entry
from hear_axlstm.weights.load import FORMAT, fill
from hear_axlstm.weights.pickled import read_checkpoint
from hear_axlstm.weights.save import save_weights, write_weights

POSITION_TOLERANCE = 1e-5  # the checkpoints' table was computed in float32
PATCHES = ((4, 16), (8, 16), (4, 8))  # (frames, bands) of the papers


def recognise(
    tensors: Mapping[str, Tensor],
    *,
    flip: bool | None = None,
    input_gate: InputGate | None = None,
    heads: int | None = None,
) -> EncoderConfig:
    """The architecture behind a released checkpoint, from its tensor names and shapes.

    flip and input_gate (AxLSTM) leave no trace in the tensors: flip is on when left out at expansion 2, as the authors
    released it, and must be given otherwise; input_gate is "exp" when left out. heads (SSAST) is width / 64, three at
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

    given = {"flip": flip, "input_gate": input_gate, "heads": heads}

    def only(family: str, *allowed: str) -> None:
        if extra := [name for name, value in given.items() if value is not None and name not in allowed]:
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


# Released names -> ours, within a block and outside; format 1 of our own files had the released ones, but for the scans.
NAMES = (
    ("patch_embed.proj.", "patch_embed."),
    ("encoder_norm.", "norm."),
    ("pred.", "head."),
    (".layer.proj_up.", ".up."),
    (".layer.proj_down.", ".down."),
    (".layer.conv1d.conv.", ".conv."),
    (".layer.learnable_skip", ".skip"),
    (".layer.mlstm_cell.outnorm.weight", ".head_norm"),
    *((f".layer.{name}_proj.weight", f".{name}") for name in "qkv"),
    (".mixer.", "."),
    ("scan.conv1d.", "scan.conv."),
    ("scan.dt_proj.bias", "scan.dt_bias"),
    (".attn.qkv_layer.", ".qkv."),
    (".attn.proj_layer.", ".proj."),
    (".mlp.layer1.", ".mlp.0."),
    (".mlp.layer2.", ".mlp.2."),
)
MIXER_PART = re.compile(r"(blocks\.\d+)\.mixer\.(?!in_proj|out_proj|scan|reverse_scan)(.*)")
BACKWARD = re.compile(r"_b(?=[._]|$)")  # of the parts of the second, reversed scan


def translate(tensors: Mapping[str, Tensor], config: EncoderConfig, origin: str) -> dict[str, Tensor]:
    """The tensors of a released checkpoint, or of a file of format 1, by the names and in the form that ours have.

    origin: names them in errors. Raises WeightsError on gates that cannot be put together.
    """
    ours: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if match := MIXER_PART.fullmatch(name):
            part, marks = BACKWARD.subn("", match[2], count=1)
            name = f"{match[1]}.{'reverse_scan' if marks else 'scan'}.{part}"
        for theirs, own in NAMES:
            name = name.replace(theirs, own)
        if config.family == "axlstm" and name.startswith("blocks."):
            name = name.replace(".norm.weight", ".norm")
        ours[name] = tensor
    for cell in [name.removesuffix("igate.bias") for name in ours if name.endswith(".mlstm_cell.igate.bias")]:
        gates = [cell + name for name in ("igate.weight", "fgate.weight", "igate.bias", "fgate.bias")]
        if all(name in ours for name in gates):
            block = cell.removesuffix("layer.mlstm_cell.")
            parts = [ours.pop(name) for name in gates]
            try:
                ours[f"{block}gates"], ours[f"{block}gate_bias"] = torch.cat(parts[:2]), torch.cat(parts[2:])
            except RuntimeError as error:
                shapes = ", ".join(str(tuple(part.shape)) for part in parts)
                raise WeightsError(f"{origin}: the gates of {block:.80} have shapes {shapes}, which do not fit") from error
    return ours


def steps_by_hand(variant: str, target: Path) -> str:
    """The numbered lines that a user follows to get the authors' checkpoint of a variant."""
    entry = manifest_entry(variant)
    if (drive := entry["sources"]["drive"]) is None:
        return "  Its authors have published no weights that we know of: convert or pretrain some, and pass their path."
    found = drive["path"] or "checkpoint-99.pth of this model (where in the folder is not known, nor whether it is there)"
    flip = entry["architecture"].get("flip")
    option = "" if flip is None else " --flip" if flip else " --no-flip"
    return (
        f"  1. open https://drive.google.com/drive/folders/{drive['folder']}\n"
        f"  2. download {found}\n"
        f"  3. {convert_command('checkpoint-99.pth', target)}{option}\n"
        "and repeat: it is then found by its name."
    )


def convert_checkpoint(
    source: str | Path,
    target: str | Path,
    *,
    flip: bool | None = None,
    input_gate: InputGate | None = None,
    heads: int | None = None,
) -> EncoderConfig:
    """Write a released ``.pth`` checkpoint as safetensors that ``load_model`` reads, and return its encoder's configuration.

    flip: whether odd blocks of an AxLSTM read backwards; on when left out at expansion 2, else it must be given.
    input_gate: an AxLSTM's, "exp" when left out. heads: an SSAST's, width / 64 and at least 3 when left out.
    A weights file that an earlier version wrote (.safetensors) is rewritten likewise, and takes no options.

    Every tensor of the encoder must be there, fit and be finite, none may be left over, and the position table must be
    the papers'. Raises WeightsError or ConfigError otherwise, OSError when the target cannot be written.
    """
    options = {"flip": flip, "input_gate": input_gate, "heads": heads}
    if Path(source).suffix == ".safetensors":
        if any(value is not None for value in options.values()):
            raise ConfigError(f"{source} says itself which encoder it holds; leave the options out")
        return _rewrite(Path(source), Path(target))
    tensors, epoch = read_checkpoint(source)
    try:
        config = recognise(tensors, flip=flip, input_gate=input_gate, heads=heads)
    except (WeightsError, ConfigError) as error:
        raise type(error)(f"{source}: {error}") from error
    ours = translate(tensors, config, str(source))
    require_fit(config, kinds_of(ours), str(source))
    encoder = fill(config, ours, str(source))
    deviation = (encoder.pos_embed - sincos_positions(config.width, config.grid)).abs().max().item()
    if deviation > POSITION_TOLERANCE:
        raise WeightsError(
            f"{source}: pos_embed differs by {deviation:.2g} from the sine-cosine table of a {CHUNK_FRAMES}x{N_MELS} chunk; "
            "expected the papers' fixed positions"
        )
    provenance = {"source": Path(source).name, "source_sha256": sha256_of(Path(source)), "epoch": epoch}
    save_weights(encoder, target, provenance)
    return config


def _rewrite(source: Path, target: Path) -> EncoderConfig:
    """A file of an earlier format in the present one, in the dtypes that it has."""
    facts = {"layout": DEFAULT_LAYOUT, **parse(source, read_metadata(source))}
    require_types(source, facts, {"format": int, "config": dict, "layout": str, "provenance": dict})
    if facts["format"] not in range(1, FORMAT):
        found = shown(facts["format"])
        raise WeightsError(f"{source} has format {found} already; only files of formats below {FORMAT} are rewritten")
    config = read_options(source, facts)
    with safe_open(source, "pt") as file:
        kinds = kinds_in(file)
        require_floats(kinds, str(source))
        tensors = {name: file.get_tensor(name) for name in kinds}
    write_weights(config, translate(tensors, config, str(source)), target, facts["provenance"], layout=facts["layout"])
    return config
