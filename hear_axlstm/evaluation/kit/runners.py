"""hear-eval-kit's two commands, imported and put right; quiet, and with the seed, grid and log folder of our choice."""

from __future__ import annotations

import logging
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click

from hear_axlstm.evaluation.kit.grid import kit_grid
from hear_axlstm.evaluation.kit.mend import GPU_MAX_MEM, TASK_PREDICTIONS, mend
from hear_axlstm.evaluation.kit.stubs import PKG_RESOURCES, PYNVML, TENSORFLOW, standing_in
from hear_axlstm.evaluation.protocols import Protocol


def embeddings_runner() -> click.Command:
    """``heareval.embeddings.runner``."""
    with standing_in([TENSORFLOW, PYNVML]):
        runner: Any = import_module("heareval.embeddings.runner")
    mend(runner.gpu_max_mem, GPU_MAX_MEM)
    _tidy_bars(runner, import_module("heareval.embeddings.task_embeddings"))
    return runner.runner


def predictions_runner(seed: int, protocol: Protocol, logs: Path) -> click.Command:
    """``heareval.predictions.runner`` with a seed (0 to 2**32 - 1) and a protocol of our choice.

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
