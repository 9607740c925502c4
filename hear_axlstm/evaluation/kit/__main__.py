"""The runners of hear-eval-kit as commands: python -m hear_axlstm.evaluation.kit embeddings|predictions ..."""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from contextlib import ExitStack, redirect_stdout
from pathlib import Path

import click
import torch

from hear_axlstm.errors import HearAxlstmError
from hear_axlstm.evaluation.kit.guard import end_on_signals, end_with
from hear_axlstm.evaluation.kit.require import require_kit
from hear_axlstm.evaluation.kit.runners import embeddings_runner, predictions_runner
from hear_axlstm.evaluation.protocols import Protocol, find_protocol

KIT_SEED = 42
PASSED_ON = {"ignore_unknown_options": True}


def read_protocol(context: click.Context, option: click.Parameter, text: str) -> Protocol:
    """The protocol of this name, or the one that a JSON object describes."""
    try:
        return Protocol(**json.loads(text)) if text.startswith("{") else find_protocol(text)
    except (HearAxlstmError, ValueError, TypeError) as error:
        raise click.BadParameter(str(error)) from error


@click.group()
@click.option("--owner", type=int, hidden=True, help="End with this process, our parent.")
@click.option("--scratch", type=click.Path(path_type=Path), hidden=True, help="Then remove this folder.")
def main(owner: int | None, scratch: Path | None) -> None:
    """hear-eval-kit's own commands on today's packages."""
    if owner is not None and scratch is not None:
        end_with(owner, scratch)
    end_on_signals()
    try:
        require_kit()
    except HearAxlstmError as error:
        raise click.ClickException(str(error)) from error


@main.command(context_settings=PASSED_ON, add_help_option=False)
@click.argument("arguments", metavar="ARGUMENTS...", nargs=-1, type=click.UNPROCESSED)
def embeddings(arguments: tuple[str, ...]) -> None:
    """Run heareval.embeddings.runner with its own ARGUMENTS."""
    embeddings_runner().main(arguments, prog_name="heareval.embeddings.runner", standalone_mode=False)


@main.command(context_settings=PASSED_ON)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=KIT_SEED, show_default=True)
@click.option("--protocol", default="hear2021", callback=read_protocol, show_default=True, help="The grid, and its points.")
@click.option("--logs", type=click.Path(file_okay=False, path_type=Path), help="Keep Lightning's logs and checkpoints here.")
@click.argument("arguments", metavar="ARGUMENTS...", nargs=-1, type=click.UNPROCESSED)
def predictions(seed: int, protocol: Protocol, logs: Path | None, arguments: tuple[str, ...]) -> None:
    """Run heareval.predictions.runner with its own ARGUMENTS, and a seed and a protocol, by default those of the kit."""
    if not torch.cuda.is_available():
        torch.set_num_threads(1)  # more are slower for networks of this size, and their sums depend on how many they are
    with ExitStack() as stack:
        logs = logs or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        warnings.simplefilter("ignore")  # dozens, all about what the kit and its packages do
        runner = predictions_runner(seed, protocol, logs)
        warnings.simplefilter("ignore")  # what they import sets filters of its own
        stack.enter_context(redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
        arguments = ("--grid-points", str(protocol.grid_points), *arguments)
        runner.main(arguments, prog_name="heareval.predictions.runner", standalone_mode=False)


if __name__ == "__main__":
    main(prog_name="python -m hear_axlstm.evaluation.kit")
