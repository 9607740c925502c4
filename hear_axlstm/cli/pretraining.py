"""The commands that make weights: ``synthesize``, ``shards``, ``recipes`` and ``pretrain``."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from hear_axlstm import pretraining, synthesis
from hear_axlstm.cli.common import (
    FAILED,
    GO_ON,
    REFUSED,
    WAY_TO_READ,
    failing,
    main,
    out_option,
    quiet_option,
    reported,
    show,
    tell,
    tell_failures,
    tell_unread,
)
from hear_axlstm.config import Precision
from hear_axlstm.errors import AudioError, TrainingError
from hear_axlstm.pretraining import FILES_PER_SHARD, ShardFormat
from hear_axlstm.progress import several

if TYPE_CHECKING:
    from hear_axlstm.pretraining.state import RunFolder


@main.command("synthesize")
@click.argument("kind", metavar="KIND", type=click.Choice(get_args(synthesis.Kind)))
@out_option("The folder to write to.")
@click.option(
    "--hours", type=click.FloatRange(min=0, min_open=True), required=True, help="Make this many hours of sound in all."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Every seed makes other clips.")
@click.option("--clip-seconds", type=click.FloatRange(0.1, 60), default=10.0, help="Make clips of this many seconds.")
@click.option(
    "--soundfont",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="Play music and notes with this SoundFont; by default with TimGM6mb, where it is installed.",
)
@click.option(
    "--workers", type=click.IntRange(min=1), help="Make this many clips at once; by default one for each processor."
)
@quiet_option
def synthesize_command(kind: synthesis.Kind, out: Path, hours: float, quiet: bool, **options: Any) -> None:
    """Synthesise sound to train on.

    KIND is procedural (made by this package), speech (by the program espeak-ng), music, or notes, one after the other (both
    by the program fluidsynth). The clips are called KIND-SEED-NUMBER.flac. A second run makes the clips that are missing.
    """
    from hear_axlstm.synthesis.corpus import write_corpus

    with reported(REFUSED), failing(GO_ON, AudioError, OSError):
        made = write_corpus(out, kind, hours, progress=not quiet, **options)
    if not quiet:
        tell(f"made {several(made, 'clip')} in {out}")


@main.command("shards")
@click.argument("inputs", metavar="FILES-OR-FOLDERS...", nargs=-1, required=True, type=click.Path(path_type=Path))
@out_option("The folder to write to.")
@click.option(
    "--format",
    type=click.Choice(get_args(ShardFormat)),
    default="flac",
    help="Write audio at 16 kHz, or log-mels, which train faster and cannot be listened to.",
)
@click.option("--clip-seconds", type=float, default=10.0, help="Cut longer recordings into clips of this many seconds.")
@click.option(
    "--files-per-shard", type=click.IntRange(min=1), default=FILES_PER_SHARD, help="Put this many recordings into a shard."
)
@click.option(
    "--workers", type=click.IntRange(min=1), help="Read this many files at once; by default one for each processor."
)
@click.option("--seed", type=int, default=0, help="Every seed packs the files in another order.")
@click.option("--overwrite", is_flag=True, help="First remove the shards in the folder.")
@quiet_option
def shards_command(inputs: tuple[Path, ...], out: Path, quiet: bool, **options: Any) -> None:
    """Pack recordings into shards to pretrain on.

    The shards are tar files as webdataset reads them. They hold the audio files that you name, and all audio files in the
    folders that you name, at any depth. A second run makes the shards that are missing.
    """
    from hear_axlstm.files.find import counted

    with reported(REFUSED), failing(GO_ON, OSError):
        packed = pretraining.write_shards(inputs, out, progress=not quiet, **options)
    tell_failures(packed.failures)
    if not packed.shards:
        tell(f"error: none of the {len(packed.failures)} recordings can be read: nothing was written; name some that can")
    elif not quiet:
        tell(
            f"{several(len(packed.shards), 'shard')}, {several(packed.clips, 'clip')}, {packed.seconds / 3600:.2f} hours, "
            f"{several(len(packed.failures), 'file')} failed: {out}{counted(packed.left_out)}",
            *([WAY_TO_READ] if packed.left_out else []),
        )
    missed = tell_unread(packed.left_out)
    sys.exit(FAILED if packed.failures or missed else 0)


@main.command("recipes")
def recipes_command() -> None:
    """List the recipes that pretrain knows by name."""
    names = pretraining.recipe_names()
    width = max(map(len, names))
    for name in names:
        recipe = pretraining.read_recipe(name, synthetic=1.0)
        show(f"{name:{width}}  {recipe.encoder}" + (f"  subset {recipe.subset}" if recipe.subset < 1 else ""))


@main.command("pretrain")
@click.argument("recipe", metavar="[RECIPE|FILE.toml]", required=False)
@out_option("The run goes into this folder.")
@click.option(
    "--init",
    metavar="FILE|FOLDER|REPO|VARIANT",
    help="Begin with these weights, named as --model names them elsewhere; by default with random ones.",
)
@click.option(
    "--shards",
    multiple=True,
    metavar="PATH",
    help="Train on these shards: a folder, a tar file or a pattern. The option may be given several times.",
)
@click.option(
    "--synthetic",
    type=float,
    help="Synthesise this share of the clips during the training, 0 to 1; by default 1 without shards and 0 with them.",
)
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    help="Make this many updates in all, instead of the recipe's epochs. Another number prolongs or shortens a run.",
)
@click.option("--subset", type=float, help="Use this share of the data, above 0, up to 1.")
@click.option("--batch", type=click.IntRange(min=1), help="Look at this many clips in an update, in all processes together.")
@click.option("--seed", type=int, help="Every seed draws other weights to begin with, other clips, crops and masks.")
@click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    help="Multiply in this precision, instead of the recipe's; the rest is float32. A CPU with AMX or AVX512-BF16 is faster "
    "in bfloat16.",
)
@click.option("--cpu", is_flag=True, help="Train on the CPU even where there is a GPU.")
@click.option(
    "--micro-batch",
    type=click.IntRange(min=1),
    help="Put this many clips of the batch through the encoder at once; fewer take less memory. By default 256 on CUDA, 16 "
    "elsewhere.",
)
@click.option("--workers", type=click.IntRange(min=0), default=0, help="Read the shards in this many more processes.")
@click.option(
    "--checkpoint-minutes", type=click.FloatRange(min=0), default=5.0, help="Write a checkpoint every so many minutes."
)
@click.option(
    "--watch",
    multiple=True,
    metavar="FILE",
    help="Show in guesses.png what the encoder guesses of this recording, instead of synthesised sounds. The option may be "
    "given four times.",
)
@click.option("--overwrite", is_flag=True, help="First remove the run in the folder.")
@quiet_option
def pretrain_command(
    recipe: str | None,
    out: Path,
    init: str | None,
    shards: tuple[str, ...],
    synthetic: float | None,
    steps: int | None,
    subset: float | None,
    batch: int | None,
    seed: int | None,
    precision: Precision | None,
    watch: tuple[str, ...],
    quiet: bool,
    **options: Any,
) -> None:
    """Train an encoder, or go on with a run.

    The encoder learns to guess hidden patches of log-mel spectrograms. RECIPE is one of the names that `hear-axlstm recipes`
    lists, or a TOML file with `base = "NAME"` and what differs. Without a recipe, the weights of --init say which encoder is
    trained. The same command goes on with a run that was interrupted.

    The folder gets the weights as model.safetensors, the loss as curve.csv and curve.png, a picture of what the encoder
    guesses as guesses.png, and logs for TensorBoard. The command may be started by torchrun or accelerate launch.
    """
    from hear_axlstm.pretraining.state import RunFolder

    with reported(REFUSED), _told(quiet):
        changes = {"init": init, "synthetic": synthetic, "steps": steps, "subset": subset, "batch": batch, "seed": seed}
        settled = pretraining.read_recipe(recipe, shards=shards or None, precision=precision, **changes)
        try:
            with failing(lambda: _kept(RunFolder(out)), AudioError, TrainingError, OSError):
                weights = pretraining.pretrain(settled, out, watch=watch or None, progress=not quiet, **options)
        except KeyboardInterrupt as stop:
            if stop.args:  # not at the start, before there was a run
                tell("", str(stop))
            raise
    if os.environ.get("RANK", "0") == "0":  # of the processes that torchrun starts, one
        show(weights)


def _kept(folder: RunFolder) -> str:
    """What there is of a run that has failed."""
    if folder.has_checkpoint:
        return f"the last checkpoint is kept in {folder.path}"
    if folder.recorded():
        return f"the run in {folder.path} has no checkpoint yet: the same command begins with the first update"
    return "the run had made no update, and nothing of it was kept"


@contextmanager
def _told(quiet: bool) -> Iterator[None]:
    """Tell what a run notes inside the block: warnings alone if it is to be quiet."""
    notes, handler = logging.getLogger(pretraining.__name__), _Teller()
    level = notes.level
    notes.setLevel(logging.WARNING if quiet else logging.INFO)
    notes.addHandler(handler)
    try:
        yield
    finally:
        notes.removeHandler(handler)
        notes.setLevel(level)


class _Teller(logging.Handler):
    """Tells people on stderr what is logged."""

    def emit(self, record: logging.LogRecord) -> None:
        tell(*record.getMessage().split("\n"))
