"""The ``finetune`` command: labelled sounds in, weights and a classifier out."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hear_axlstm.cli.common import (
    FAILED,
    REFUSED,
    device_option,
    failing,
    main,
    model_option,
    out_option,
    pad_option,
    quiet_option,
    reported,
    show,
    tell,
    tell_failures,
    tell_left_out,
    tell_short,
)
from hear_axlstm.errors import AudioError, TrainingError
from hear_axlstm.finetuning import Settings
from hear_axlstm.progress import several

if TYPE_CHECKING:
    from hear_axlstm.finetuning import Finetuned


@main.command("finetune")
@click.argument("sounds", metavar="FOLDER|CSV", type=click.Path(path_type=Path))
@out_option("The run goes into this folder.")
@model_option
@click.option(
    "--frozen", is_flag=True, help="Train the linear head alone, on embeddings of the encoder as it is, which is quick."
)
@click.option(
    "--from-layer",
    type=click.IntRange(min=0),
    metavar="N",
    help="Train from this layer on: 0 is the patch embedding, then come the blocks. By default the last four blocks learn.",
)
@click.option(
    "--test", type=click.Path(path_type=Path), metavar="FOLDER|CSV", help="Score the result on these labelled sounds."
)
@click.option(
    "--epochs", type=click.IntRange(min=1), default=Settings.epochs, help="Learn from each clip this many times at most."
)
@click.option(
    "--patience",
    type=click.IntRange(min=1),
    default=Settings.patience,
    help="Stop after this many epochs without a better one.",
)
@click.option(
    "--lr",
    type=float,
    default=Settings.lr,
    help="Let the encoder's learning rate rise to this; the head's is three times as high.",
)
@click.option(
    "--batch", type=click.IntRange(min=1), default=Settings.batch, help="Learn from this many clips in each update."
)
@click.option(
    "--seconds", type=float, default=Settings.seconds, help="Look at this many seconds of a clip at most in an update."
)
@click.option(
    "--validation",
    type=float,
    default=Settings.validation,
    help="Set this share of the clips apart; they are not learnt from.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    help="Every seed sets other clips apart and takes the others in another order.",
)
@pad_option
@device_option
@click.option(
    "--checkpoint-minutes", type=click.FloatRange(min=0), default=5.0, help="Write a checkpoint every so many minutes."
)
@click.option("--overwrite", is_flag=True, help="Start again in a folder that holds a run.")
@quiet_option
def finetune_command(sounds: Path, out: Path, quiet: bool, **options: Any) -> None:
    """Train an encoder with a classifier on your labelled sounds.

    The sounds are a folder that has a folder of sounds for each class, or a CSV file with the columns path and label, and
    perhaps group: clips of one group stay together. A part of the clips is set apart; the epoch that does best on
    them is kept. The folder of the run gets model.safetensors and classifier.safetensors; `hear-axlstm classify apply`
    labels other sounds with them. The same command goes on with a run that was interrupted.
    """
    from hear_axlstm.finetuning import finetune

    with reported(REFUSED), failing(f"what was finished is kept in {out}", AudioError, TrainingError, OSError):
        result = finetune(sounds, out, progress=not quiet, **options)
    tell_failures(result.failures)
    if not quiet:
        for line in _summary(result):
            show(line)
        tell(*_advice(result))
    folders = [sounds, *([options["test"]] if options["test"] else [])]
    missed = tell_left_out(result.left_out, *folders, quiet=quiet)
    tell_short(result.failures, ": repeat the command with --pad --overwrite")
    sys.exit(FAILED if result.failures or missed else 0)


def _summary(result: Finetuned) -> list[str]:
    """How good the result is, and by which clips."""
    scores, apart = result.scores, result.scores["validation"]
    low, high = apart["interval"]
    trained = f"epoch {scores['best_epoch']} of {scores['epochs']}; head alone: {scores['head_alone']['accuracy']:.1%}"
    lines = [
        f"accuracy {apart['accuracy']:.1%} on the {apart['clips']} clips that were set apart (95 % interval: {low:.1%} to "
        f"{high:.1%}); {trained if scores['epochs'] else 'frozen encoder'}; by chance: {apart['chance']:.1%}"
    ]
    if test := scores.get("test"):
        low, high = test["interval"]
        lines.append(
            f"accuracy {test['accuracy']:.1%} on {several(test['clips'], 'test clip')} (95 % interval: {low:.1%} to "
            f"{high:.1%}); balanced accuracy {test['balanced_accuracy']:.1%}"
        )
    return lines


def _advice(result: Finetuned) -> list[str]:
    """What to know of these numbers, and what to do next."""
    from hear_axlstm.finetuning.results import choice_of

    done = [f"{result.folder} holds this run, finished: nothing was left to do"] if result.was_finished else []
    biased = (
        f"the clips that were set apart chose {choice_of(result.scores['epochs'])}, so other sounds score lower on "
        "the whole; to measure that, repeat the command with --test and other labelled sounds"
    )
    return [
        *done,
        *([] if "test" in result.scores else [biased]),
        f"label other sounds: hear-axlstm classify apply {shlex.quote(str(result.folder))} NEW-SOUNDS/",
    ]
