"""The ``finetune`` command: labelled sounds in, weights and a classifier out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from hear_axlstm.cli.common import FAILED, REFUSED, failing, main, model_option, quiet_option, reported, tell, tell_failures
from hear_axlstm.errors import AudioError, TrainingError
from hear_axlstm.finetuning import Finetuned, Settings, finetune


@main.command("finetune")
@click.argument("sounds", metavar="FOLDER|CSV", type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the run.")
@model_option
@click.option("--frozen", is_flag=True, help="Train the linear head alone, on embeddings of the encoder as it is. Quick.")
@click.option(
    "--from-layer",
    type=click.IntRange(min=0),
    metavar="N",
    help="Train from this layer on: 0 is the patch embedding, then come the blocks. The last four blocks by default.",
)
@click.option(
    "--test", type=click.Path(path_type=Path), metavar="FOLDER|CSV", help="Labelled sounds to score the result on."
)
@click.option(
    "--epochs", type=click.IntRange(min=1), default=Settings.epochs, help="Times each clip is learnt from, at most."
)
@click.option(
    "--patience", type=click.IntRange(min=1), default=Settings.patience, help="Epochs without a better one; then stop."
)
@click.option(
    "--lr", type=float, default=Settings.lr, help="Highest learning rate of the encoder; the head's is ten times it."
)
@click.option("--batch", type=click.IntRange(min=1), default=Settings.batch, help="Clips of one update.")
@click.option("--seconds", type=float, default=Settings.seconds, help="Longest part of a clip that an update looks at.")
@click.option("--validation", type=float, default=Settings.validation, help="Share of the clips that choose the epoch.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Another seed sets other clips apart, in another order.")
@click.option("--device", default="auto", help="cpu, cuda, cuda:1, ...; auto is cuda where there is one.")
@click.option("--checkpoint-minutes", type=click.FloatRange(min=0), default=5.0, help="Time between two checkpoints.")
@click.option("--overwrite", is_flag=True, help="Start again in a folder that holds a run.")
@quiet_option
def finetune_command(sounds: Path, out: Path, quiet: bool, **options: Any) -> None:
    """Train encoder and classifier together on your labelled sounds.

    Takes a folder with a folder of sounds for each class, or a CSV file: path,label and perhaps group (clips of one group
    are not divided). A part of the clips is set apart and chooses the epoch. The folder OUT gets model.safetensors and
    classifier.safetensors, which `hear-axlstm classify apply OUT FILES` takes. The same command goes on with a run that was
    interrupted.
    """
    with reported(REFUSED), failing(f"what was finished is kept in {out}", AudioError, TrainingError, OSError):
        result = finetune(sounds, out, progress=not quiet, **options)
    tell_failures(result.failures)
    if not quiet:
        tell(*_summary(result))
    sys.exit(FAILED if result.failures else 0)


def _summary(result: Finetuned) -> list[str]:
    """How good the result is, and by which clips, and what to do next."""
    scores, lines = result.scores, []
    apart, alone = scores["validation"], scores["head_alone"]
    if result.was_finished:
        lines.append(f"{result.folder} holds this run, finished: nothing was left to do")
    lines.append(
        f"accuracy {apart['accuracy']:.3f} on the {apart['clips']} clips that were set apart, after epoch "
        f"{scores['best_epoch']} of {scores['epochs']} (the head alone: {alone['accuracy']:.3f})"
    )
    if test := scores.get("test"):
        lines.append(
            f"accuracy {test['accuracy']:.3f} (balanced {test['balanced_accuracy']:.3f}) on {test['clips']} test clips"
        )
    else:
        lines.append(
            "These clips chose the epoch, so others score lower on the whole: --test measures it on sounds of your own"
        )
    return [*lines, f"Classify other sounds with: hear-axlstm classify apply {result.folder} FILES"]
