"""The runners of hear-eval-kit as commands: python -m hear_axlstm.evaluation.kit embeddings|predictions ...

They are imported and mended here, in the kit's process: quiet, with a seed, a grid and a log folder of our choice.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import warnings
from contextlib import ExitStack, redirect_stdout
from functools import partial
from importlib import import_module
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import click
import torch

from hear_axlstm.errors import HearAxlstmError
from hear_axlstm.evaluation.kit.launch import require_kit
from hear_axlstm.evaluation.kit.mend import (
    GPU_MAX_MEM,
    PKG_RESOURCES,
    PYNVML,
    TASK_PREDICTIONS,
    TENSORFLOW,
    mend,
    standing_in,
)
from hear_axlstm.evaluation.native.network import INITIALIZATIONS
from hear_axlstm.evaluation.protocols import Protocol, find_protocol

KIT_SEED = 42
SECONDS_BETWEEN_LOOKS = 0.5  # at whether the parent still lives
PASSED_ON = {"ignore_unknown_options": True}


# The commands.


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
    """Run hear-eval-kit's commands on today's packages."""
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
    """Run heareval.embeddings.runner with the ARGUMENTS that it takes."""
    embeddings_runner().main(arguments, prog_name="heareval.embeddings.runner", standalone_mode=False)


@main.command(context_settings=PASSED_ON)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=KIT_SEED, show_default=True)
@click.option("--protocol", default="hear2021", callback=read_protocol, show_default=True, help="The grid, and its points.")
@click.option("--logs", type=click.Path(file_okay=False, path_type=Path), help="Keep Lightning's logs and checkpoints here.")
@click.argument("arguments", metavar="ARGUMENTS...", nargs=-1, type=click.UNPROCESSED)
def predictions(seed: int, protocol: Protocol, logs: Path | None, arguments: tuple[str, ...]) -> None:
    """Run heareval.predictions.runner with the ARGUMENTS that it takes, a seed and a protocol, by default the kit's."""
    if not torch.cuda.is_available():
        torch.set_num_threads(1)  # more are slower for networks of this size, and their sums depend on how many they are
    with ExitStack() as stack:
        logs = logs or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        warnings.simplefilter("ignore")  # dozens, all about the kit and its packages
        runner = predictions_runner(seed, protocol, logs)
        warnings.simplefilter("ignore")  # once more: the imported packages have set filters
        stack.enter_context(redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
        arguments = ("--grid-points", str(protocol.grid_points), *arguments)
        runner.main(arguments, prog_name="heareval.predictions.runner", standalone_mode=False)


# The kit's runners, mended.


def embeddings_runner() -> click.Command:
    """The command of ``heareval.embeddings.runner``, imported and mended."""
    with standing_in([TENSORFLOW, PYNVML]):
        runner: Any = import_module("heareval.embeddings.runner")
    mend(runner.gpu_max_mem, GPU_MAX_MEM)
    _tidy_bars(runner, import_module("heareval.embeddings.task_embeddings"))
    return runner.runner


def predictions_runner(seed: int, protocol: Protocol, logs: Path) -> click.Command:
    """The command of ``heareval.predictions.runner``, imported and mended, with our seed (0 to 2**32 - 1) and protocol.

    The grid takes the place of the one that the kit calls "default". logs: a folder for what Lightning keeps of each
    training: lightning_logs/version_0, version_1, ...
    """
    with standing_in([PKG_RESOURCES, PYNVML]):
        runner: Any = import_module("heareval.predictions.runner")
    kit: Any = import_module("heareval.predictions.task_predictions")
    mend(runner.gpu_max_mem, GPU_MAX_MEM)
    mend(kit, TASK_PREDICTIONS)
    _tidy_bars(runner, kit)
    _quieten_lightning(kit)
    seed_everything, csv_logger = kit.seed_everything, kit.CSVLogger
    kit.seed_everything = lambda _, workers: seed_everything(seed, workers=workers)
    kit.CSVLogger = lambda _: csv_logger(logs)
    kit.PARAM_GRID.update(kit_grid(protocol))
    return runner.runner


def kit_grid(protocol: Protocol) -> dict[str, list[Any]]:
    """The protocol's grid for the kit: the same values, but functions where the kit has functions."""
    grid = {name: list(values) for name, values in protocol.grid.items()}
    grid["initialization"] = [INITIALIZATIONS[name] for name in grid["initialization"]]
    return grid


def _tidy_bars(*modules: Any) -> None:
    """Progress bars are shown to people only, and go away when they are full."""
    for module in modules:
        module.tqdm = partial(module.tqdm, disable=None, leave=False)


def _quieten_lightning(kit: Any) -> None:
    trainer = kit.pl.Trainer
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "profiler": None}
    kit.pl = SimpleNamespace(Trainer=lambda **options: trainer(**{**options, **quiet}))
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)


# How the process ends.


def end_with(owner: int, scratch: Path) -> None:
    """Have this process remove the folder ``scratch`` and end as soon as its parent is not ``owner`` any more."""

    def watch() -> None:
        while os.getppid() == owner:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        shutil.rmtree(scratch, ignore_errors=True)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def end_on_signals() -> None:
    """SIGINT and SIGTERM end the program by SystemExit: Lightning would take KeyboardInterrupt for the end of a training."""

    def stop(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)


if __name__ == "__main__":
    main(prog_name="python -m hear_axlstm.evaluation.kit")
