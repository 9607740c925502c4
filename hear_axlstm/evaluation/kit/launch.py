"""A HEAR module and a task folder -> its embeddings -> their scores, both made by hear-eval-kit itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from glob import escape
from os.path import abspath
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hear_axlstm.errors import EvaluationError, OutputError, TaskError
from hear_axlstm.evaluation.embeddings import is_embedded
from hear_axlstm.evaluation.kit.outcome import read_outcome
from hear_axlstm.evaluation.kit.process import run_kit
from hear_axlstm.evaluation.kit.require import require_kit
from hear_axlstm.evaluation.kit.scratch import scratch_folder
from hear_axlstm.evaluation.protocols import Protocol, task_grid
from hear_axlstm.evaluation.results import Outcome
from hear_axlstm.evaluation.tasks.taskfolder import METADATA, VOCABULARY, TaskFolder, read_task

__all__ = ["embed_with_kit", "evaluate_with_kit", "require_kit"]

SUFFIX = ".kit"


def embed_with_kit(
    module: str, task: Path, out: Path, *, model: Path | None, model_options: Mapping[str, Any], device: str
) -> Path:
    """The embeddings of one task, in the folder ``out``, which is returned.

    module: any HEAR module that this environment can import, or that lies in the current folder. task: its folder, wherever
    that is. model: the module's weights. model_options: what else its ``load_model`` is given; JSON must have words for it.
    device: "cpu", or "cuda", "cuda:1", ...

    ``out`` appears when it is complete, and takes the place of embeddings of another version of the task; those of this one
    are left as they are. What a killed call left beside it is removed.

    Raises TaskError when the task is damaged, EvaluationError when the kit is missing or fails, OutputError when ``out``
    holds something else or cannot be written.
    """
    require_kit()
    task, out = Path(abspath(task)), Path(abspath(out))
    if is_embedded(read_task(task), out):
        return out
    try:
        if out.exists() and any(out.iterdir()) and not (out / METADATA).is_file():
            raise OutputError(f"{out} holds what are no embeddings (no {METADATA}); choose another folder")
        out.parent.mkdir(parents=True, exist_ok=True)
        for left in out.parent.glob(f".{escape(out.name)}.*{SUFFIX}"):
            shutil.rmtree(left)
        with TemporaryDirectory(prefix=f".{out.name}.", suffix=SUFFIX, dir=out.parent, ignore_cleanup_errors=True) as folder:
            made = _embed(module, task, Path(folder), model, model_options, device)
            if out.exists():
                out.replace(Path(folder) / "old")
            made.replace(out)
    except OSError as error:
        raise OutputError(f"{out} cannot be written ({error}); choose another folder") from error
    return out


def _embed(
    module: str, task: Path, scratch: Path, model: Path | None, model_options: Mapping[str, Any], device: str
) -> Path:
    """The folder of embeddings, somewhere in ``scratch``."""
    embeddings = scratch / "embeddings"
    arguments = ["embeddings", module, "--tasks-dir", str(task.parent), "--task", task.name]
    arguments += ["--embeddings-dir", str(embeddings), "--model-options", json.dumps(dict(model_options))]
    if model is not None:
        arguments += ["--model", str(model)]
    try:
        run_kit(arguments, scratch=scratch, device=device)
    except EvaluationError as error:
        raise EvaluationError(f"{task.name}: hear-eval-kit could not embed it with {module}: {error}") from error
    (named_after_module,) = embeddings.iterdir()
    return named_after_module / task.name


def evaluate_with_kit(
    embeddings: Path, protocol: Protocol, seed: int, *, device: str = "cpu", curves: Path | None = None
) -> Outcome:
    """The scores of one task's embeddings with one seed (0 to 2**32 - 1).

    embeddings: the task's folder of them. It is only read, so several seeds may go side by side. device: "cpu", where a run
    takes one thread, or "cuda", "cuda:1", ... curves: a folder for what Lightning logged of each training, in order:
    training-00.csv, ... Checkpoints take 12 bytes a parameter and training in the system's temporary folder ($TMPDIR) until
    the run ends.

    Raises TaskError when embeddings are not what the kit evaluates, EvaluationError when the kit is missing or fails.
    """
    require_kit()
    task = read_task(embeddings)
    task_grid(task.metadata)
    with scratch_folder() as scratch:
        private, logs = scratch / "embeddings" / task.name, scratch / "logs"
        _link(task, private)
        arguments = ["predictions", "--seed", str(seed), "--protocol", json.dumps(asdict(protocol))]
        arguments += ["--logs", str(logs), "--gpus", "null" if device == "cpu" else "[0]", str(private)]
        try:
            run_kit(arguments, scratch=scratch, device=device, threads=1 if device == "cpu" else None)
        except EvaluationError as error:
            raise EvaluationError(f"{task.name}: hear-eval-kit failed with seed {seed}: {error}") from error
        if curves is not None:
            _copy_curves(logs / "lightning_logs", curves)
        return read_outcome(private, task)


def _copy_curves(logs: Path, curves: Path) -> None:
    curves.mkdir(parents=True, exist_ok=True)
    for index in range(len(list(logs.iterdir()))):
        shutil.copy(logs / f"version_{index}" / "metrics.csv", curves / f"training-{index:02}.csv")


def _link(task: TaskFolder, folder: Path) -> None:
    """What the kit reads of a task's embeddings, in a folder that it may write to. Raises TaskError on a missing file."""
    kinds = [".json", ".embeddings.npy", ".embedding-dimensions.json", ".target-labels.pkl"]
    if task.embedding_type == "event":
        kinds.append(".filename-timestamps.json")
    folder.mkdir(parents=True)
    for name in (METADATA, VOCABULARY, *(f"{split}{kind}" for split in task.splits for kind in kinds)):
        if not (task.path / name).is_file():
            raise TaskError(f"{task.path / name} is missing; embed the task first")
        (folder / name).symlink_to((task.path / name).absolute())
