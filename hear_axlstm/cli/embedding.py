"""The ``embed`` command: audio files in, a folder of embeddings out."""

from __future__ import annotations

import re
import sys
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, get_args

import click

from hear_axlstm.cli.common import (
    FAILED,
    GO_ON,
    REFUSED,
    WAY_TO_READ,
    device_option,
    failing,
    layout_option,
    main,
    model_option,
    out_option,
    pad_option,
    precision_option,
    quiet_option,
    reported,
    tell,
    tell_failures,
    tell_short,
    tell_unread,
    there_already,
)
from hear_axlstm.config import Layout, Precision
from hear_axlstm.errors import ConfigError
from hear_axlstm.files import Format
from hear_axlstm.progress import first_of, several

if TYPE_CHECKING:
    from hear_axlstm.encoder import Layers
    from hear_axlstm.files import Embedded

HERE = "local"  # where Ray runs when no address is given
SHOWN = 3  # names of embeddings whose sounds are gone


@main.command("embed")
@click.argument("inputs", metavar="SOURCES...", nargs=-1, required=True, type=click.Path())
@out_option("The embeddings go into this folder.")
@model_option
@click.option("--timestamps", is_flag=True, help="Write an embedding every 40 ms instead of one for each file.")
@click.option(
    "--layers",
    metavar="N,N,...|all",
    help="Write the outputs of these layers: 0 is the patch embedding, 1 the first block, -1 the final norm, the default.",
)
@click.option(
    "--format",
    type=click.Choice(get_args(Format)),
    help="Write npy files, one for each sound, or a parquet data set; by default npy, and with --ray parquet.",
)
@layout_option
@precision_option
@device_option
@click.option(
    "--batch-seconds",
    type=click.FloatRange(min=0, min_open=True),
    help="Encode this many seconds of audio at once; by default 1024 on CUDA, 64 elsewhere.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    help="Decode in this many processes, or with 0 in threads; by default one for each processor on CUDA, 0 elsewhere.",
)
@click.option(
    "--ray",
    metavar="[ADDRESS]",
    is_flag=False,
    flag_value=HERE,
    callback=lambda context, option, address: _ray_address(address),
    help="Encode with Ray Data: on this machine, or on the cluster at HOST:PORT or auto.",
)
@pad_option
@click.option("--overwrite", is_flag=True, help="First remove embeddings in the folder, whatever they were made with.")
@click.option("--prune", is_flag=True, help="First remove embeddings of sounds that are not there any more.")
@click.option("--retry", is_flag=True, help="Try again what failed before, as a parquet folder records it.")
@quiet_option
def embed_command(
    inputs: tuple[str, ...],
    out: Path,
    model: str,
    layers: str | None,
    layout: Layout | None,
    precision: Precision,
    device: str,
    ray: bool | str,
    quiet: bool,
    **options: Any,
) -> None:
    """Embed audio files, and all audio files below folders.

    A source is a file, a folder, an address such as https://... or s3://..., also of a folder, or a list of these in a text
    file (.txt, .lst, .list), one a line; - is such a list on stdin.

    The command writes NAME.embedding.npy (with --timestamps also NAME.timestamps.json) as hear-eval-kit does, or parquet. A
    second run embeds files that are new or have changed. Files such as .m4a and .mp4 are read where the extra [av]
    or the program ffmpeg is installed.
    """
    from hear_axlstm.files import embed
    from hear_axlstm.files.find import counted
    from hear_axlstm.files.lists import SoundList
    from hear_axlstm.files.sounds import NoSound
    from hear_axlstm.hear import load_model
    from hear_axlstm.ops.backend import find_device

    with reported(REFUSED):
        nothing = NoSound("''", "an empty path; expected a file's or a folder's")
        sounds = [SoundList("stdin", _stdin()) if one == "-" else one or nothing for one in inputs]
        chosen = _layers(layers)
        embedder = load_model(model, layout=layout, precision=precision)
        if ray:
            options |= {"ray": ray, "device": device}
        else:
            embedder.to(find_device(device))
        with failing(GO_ON, OSError):
            result = embed(sounds, embedder, out=out, layers=chosen, progress=not quiet, **options)
        left_out = result.left_out
        if not result.names:
            way = f"{counted(left_out)}; {WAY_TO_READ}" if left_out else "; expected files, or folders with some"
            raise ConfigError(f"no audio files below {', '.join(inputs)}{way}")
    tell_failures(result.failures)
    if not quiet:
        tell(*_summary(result, out, left_out))
    missed = tell_unread(left_out)
    tell_short(result.failures, " by --pad; such embeddings need a folder for themselves")
    sys.exit(FAILED if result.failures or missed else 0)


def _ray_address(text: str | None) -> bool | str:
    """What ``embed`` takes as ``ray``. Raises BadParameter on what is no address, such as a folder that follows --ray."""
    if text is None or text == HERE:
        return text is not None
    if text != "auto" and not re.fullmatch(r"\S+:\d+", text):
        raise click.BadParameter(f"{text!r} is no address; expected auto or HOST:PORT; without one, write --ray at the end")
    return text


def _stdin() -> BinaryIO:
    return sys.stdin.buffer if sys.stdin is not None else BytesIO()


def _layers(text: str | None) -> Layers | None:
    """The layers of a command line: "all", or numbers between commas. Raises ConfigError on anything else."""
    if text is None:
        return None
    if text == "all":
        return "all"
    try:
        return [int(number) for number in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"--layers is {text!r}; expected all, or numbers such as 3,6,-1") from error


def _summary(result: Embedded, out: Path, left_out: list[Path]) -> list[str]:
    """How many files were embedded and how fast, in two lines, and how those that were left out can be read."""
    from hear_axlstm.files.find import counted

    total, count, there = sum(result.seconds.values()), len(result.embedded), len(result.skipped)
    done = f"{several(count, 'sound')} embedded, {there_already(there)}, {len(result.failures)} failed"
    if not count and not result.failures:
        done = f"nothing to do, {there_already(there)}"
    where = f": {out}" if result.folder else f"; nothing is written to {out}"
    lines = [f"{done}{where}{counted(left_out)}"]
    if left_out:
        lines.append(WAY_TO_READ)
    if result.pruned:
        lines.append(f"removed from {out}, as their sounds are not there any more: {_shown(result.pruned)}")
    if result.gone:
        lines.append(
            f"still in {out}, though their sounds are not there any more: {_shown(result.gone)}; --prune removes them"
        )
    if count:
        speed = f"{count / total:.1f} sounds a second, {result.audio_seconds / total:.0f} x real time"
        lines.append(f"{total:.1f} s: {speed}")
    return lines


def _shown(names: list[str]) -> str:
    """How many embeddings these are, and the first names."""
    return f"{several(len(names), 'embedding')} ({first_of(names, SHOWN)})"
