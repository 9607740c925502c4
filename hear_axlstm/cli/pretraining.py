"""The commands that make weights: ``synthesize``, ``shards``, ``recipes`` and ``pretrain``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, get_args

import click

from hear_axlstm.cli.common import (
    FAILED,
    GO_ON,
    REFUSED,
    WAY_TO_READ,
    failing,
    main,
    quiet_option,
    reported,
    show,
    tell,
    tell_failures,
)
from hear_axlstm.errors import AudioError, TrainingError
from hear_axlstm.files.find import counted
from hear_axlstm.pretraining.loop import pretrain
from hear_axlstm.pretraining.recipe import read_recipe, recipe_names
from hear_axlstm.pretraining.shards import FILES_PER_SHARD, ShardFormat, write_shards
from hear_axlstm.synthesis import corpus
from hear_axlstm.synthesis.corpus import write_corpus


@main.command("synthesize")
@click.argument("kind", type=click.Choice(get_args(corpus.Kind)))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), required=True, help="Sound in all, with this seed.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Another seed makes other clips, beside the first's.")
@click.option("--clip-seconds", type=click.FloatRange(0.1, 60), default=10.0, help="Length of a clip.")
@click.option("--soundfont", metavar="PATH", type=click.Path(path_type=Path), help="Plays music; TimGM6mb where installed.")
@click.option("--workers", type=click.IntRange(min=1), help="Clips made at once; as many as processors by default.")
@quiet_option
def synthesize_command(kind: corpus.Kind, out: Path, hours: float, quiet: bool, **options: Any) -> None:
    """Make hours of sound to train on: procedural, speech (by espeak-ng) or music (by fluidsynth).

    Writes KIND-SEED-NUMBER.flac into the folder OUT. A second run makes what is missing.
    """
    with reported(REFUSED), failing(GO_ON, AudioError, OSError):
        made = write_corpus(out, kind, hours, progress=not quiet, **options)
    if not quiet:
        tell(f"{made} clips made: {out}")


@main.command("shards")
@click.argument("inputs", metavar="FILES-OR-FOLDERS...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write to.")
@click.option("--format", type=click.Choice(get_args(ShardFormat)), default="flac", help="16 kHz audio, or log-mels.")
@click.option("--clip-seconds", type=float, default=10.0, help="Longer recordings are cut into clips of this length.")
@click.option("--files-per-shard", type=click.IntRange(min=1), default=FILES_PER_SHARD, help="Recordings in one tar file.")
@click.option("--workers", type=click.IntRange(min=1), help="Threads; as many as processors by default.")
@click.option("--seed", type=int, default=0, help="Another seed packs the files in another order.")
@click.option("--overwrite", is_flag=True, help="Remove the folder's shards first, whatever they were made of.")
@quiet_option
def shards_command(inputs: tuple[Path, ...], out: Path, quiet: bool, **options: Any) -> None:
    """Pack audio files, and all audio files below folders, into webdataset shards to pretrain on.

    A second run makes the shards that are missing.
    """
    with reported(REFUSED), failing(GO_ON, OSError):
        packed = write_shards(inputs, out, progress=not quiet, **options)
    tell_failures(packed.failures)
    if not quiet:
        tell(
            f"{len(packed.shards)} shards, {packed.clips} clips, {packed.seconds / 3600:.2f} hours, "
            f"{len(packed.failures)} files failed: {out}{counted(packed.left_out)}",
            *([WAY_TO_READ] if packed.left_out else []),
        )
    sys.exit(FAILED if packed.failures else 0)


@main.command("recipes")
def recipes_command() -> None:
    """List the recipes that `pretrain` knows by name."""
    width = max(map(len, recipe_names()))
    for name in recipe_names():
        recipe = read_recipe(name, synthetic=1.0)
        show(f"{name:{width}}  {recipe.encoder}" + (f"  subset {recipe.subset}" if recipe.subset < 1 else ""))


@main.command("pretrain")
@click.argument("recipe", metavar="RECIPE|FILE.toml")
@click.option("-o", "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the run.")
@click.option("--shards", multiple=True, help="Folder, tar file or pattern of shards; again for more.")
@click.option("--synthetic", type=float, help="Share of clips that is synthesised while training, 0 to 1; 1 without shards.")
@click.option("--steps", type=click.IntRange(min=1), help="Number of updates, instead of the recipe's epochs.")
@click.option("--subset", type=float, help="Share of the data that is used, above 0, up to 1.")
@click.option("--batch", type=click.IntRange(min=1), help="Clips of one update, over all processes.")
@click.option("--seed", type=int, help="Another seed draws other initial weights, clips, crops and masks.")
@click.option("--cpu", is_flag=True, help="Train on the CPU, also where there is another device.")
@click.option("--micro-batch", type=click.IntRange(min=1), help="Clips of one pass of one process; 256 on CUDA, else 16.")
@click.option("--workers", type=click.IntRange(min=0), default=0, help="Processes that decode shards, beside it.")
@click.option("--checkpoint-minutes", type=click.FloatRange(min=0), default=5.0, help="Time between two checkpoints.")
@click.option("--overwrite", is_flag=True, help="Start again in a folder that holds a run.")
@quiet_option
def pretrain_command(
    recipe: str,
    out: Path,
    shards: tuple[str, ...],
    synthetic: float | None,
    steps: int | None,
    subset: float | None,
    batch: int | None,
    seed: int | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Train a new encoder by masked reconstruction, or go on with the run in the folder.

    RECIPE is a name of `hear-axlstm recipes`, or a TOML file with `base = "NAME"` and what differs. Starts under torchrun
    and accelerate launch, too. The folder gets model.safetensors, curve.csv, and logs for TensorBoard.
    """
    with reported(REFUSED):
        changes = {"synthetic": synthetic, "steps": steps, "subset": subset, "batch": batch, "seed": seed}
        settled = read_recipe(recipe, shards=shards or None, **changes)
        with failing(f"the last checkpoint is kept in {out}", AudioError, TrainingError, OSError):
            weights = pretrain(settled, out, progress=not quiet, **options)
    if os.environ.get("RANK", "0") == "0":  # of the processes that torchrun starts, one
        show(weights)
