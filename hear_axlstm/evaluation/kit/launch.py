"""A HEAR module and a task folder -> its embeddings -> their scores, both made by hear-eval-kit itself.

Everything here happens in our process; what the kit's process does is in __main__.py.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from glob import escape
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import dropwhile
from os.path import abspath
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

import torch

from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.errors import EvaluationError, OutputError, TaskError
from hear_axlstm.evaluation.embeddings import DONE, is_embedded
from hear_axlstm.evaluation.native.network import INITIALIZATIONS
from hear_axlstm.evaluation.protocols import SETTINGS, Protocol, Settings, task_grid
from hear_axlstm.evaluation.results import Outcome
from hear_axlstm.evaluation.tasks.taskfolder import METADATA, VOCABULARY, TaskFolder, read_task
from hear_axlstm.storage import lives, read_json, write_text

KIT_VERSION = "2021.1.3"
IMPORTED = (  # by the kit, when it runs
    "dcase_util", "intervaltree", "more_itertools", "pandas", "pytorch_lightning", "scipy", "sed_eval", "sklearn", "slugify",
    "torchinfo",
)  # fmt: skip
INSTALL_IMPORTED = "pip install 'hear-axlstm[kit]'"
INSTALL_KIT = f"pip install --no-deps --ignore-requires-python heareval=={KIT_VERSION}"

SUFFIX = ".kit"  # of the hidden folder beside embeddings in which they are made
SCRATCH_PREFIX = "hear-axlstm-kit-"
LOCK = "lock"  # a file in a scratch folder, locked as long as the process lives that made the folder
SCORES = "test.predicted-scores.json"
NO_SCORE = "time_in_min"  # stands among the kit's scores

NO_SUCH_RATE = re.compile(r"/(\d+)/[^/\n]+ is not a directory")  # the kit's complaint
TAIL = 1 << 16  # bytes at the end of stderr in which the reason of a failure is looked for
REASON_LINES = 10
POLL = 0.1  # seconds
GRACE_SECONDS = 10  # from asking the process to end to killing it


# The two things that the kit is run for.


def embed_with_kit(
    module: str, task: Path, out: Path, *, model: Path | None, model_options: Mapping[str, Any], device: str
) -> Path:
    """The embeddings of one task, in the folder ``out``, which is returned.

    module: any HEAR module that this environment can import, or that lies in the current folder. task: its folder, wherever
    it lies. model: the module's weights. model_options: the other arguments of its ``load_model``; JSON must have words for
    them. device: "cpu", or "cuda", "cuda:1", ...

    ``out`` appears when it is complete, and takes the place of embeddings of another version of the task; those of this one
    are left as they are. What a killed call left beside it is removed.

    Raises TaskError when the task is damaged, EvaluationError when the kit is missing or fails, OutputError when ``out``
    holds something else or cannot be written.
    """
    require_kit()
    task, out = Path(abspath(task)), Path(abspath(out))
    found = read_task(task)
    if is_embedded(found, out):
        return out
    sounds_sha256 = found.sounds_sha256(SAMPLE_RATE)
    try:
        if out.exists() and any(out.iterdir()) and not (out / METADATA).is_file():
            raise OutputError(f"{out} holds something else than embeddings (no {METADATA}); choose another folder")
        out.parent.mkdir(parents=True, exist_ok=True)
        for left in out.parent.glob(f".{escape(out.name)}.*{SUFFIX}"):
            if not _is_at_work(left.name.split(".")[-3]):
                shutil.rmtree(left)
        with TemporaryDirectory(
            prefix=f".{out.name}.{os.getpid()}.", suffix=SUFFIX, dir=out.parent, ignore_cleanup_errors=True
        ) as folder:
            made = _embed(module, task, Path(folder), model, model_options, device)
            write_text(made / DONE, sounds_sha256)
            if out.exists():
                out.replace(Path(folder) / "old")
            made.replace(out)
    except OSError as error:
        raise OutputError(f"{out} cannot be written ({error}); choose another folder") from error
    return out


def _is_at_work(process: str) -> bool:
    """Whether another process of this number lives."""
    return process.isdecimal() and int(process) != os.getpid() and lives(int(process))


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
        if (rate := NO_SUCH_RATE.search(str(error))) and not (task / rate[1]).is_dir():
            raise TaskError(
                f"{task.name}: {module} takes sounds at {rate[1]} Hz, and there is no {task / rate[1]}; make tasks of this "
                f"rate with --rate {rate[1]} of `hear-axlstm tasks prepare`, `tasks make` or `tasks generate`"
            ) from error
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
    """Copy what Lightning logged of each training, in the order of the trainings."""
    curves.mkdir(parents=True, exist_ok=True)
    for index in range(len(list(logs.iterdir()))):
        shutil.copy(logs / f"version_{index}" / "metrics.csv", curves / f"training-{index:02}.csv")


def _link(task: TaskFolder, folder: Path) -> None:
    """Link the files that the kit reads into a folder that it may write to. Raises TaskError when one is missing."""
    kinds = [".json", ".embeddings.npy", ".embedding-dimensions.json", ".target-labels.pkl"]
    if task.embedding_type == "event":
        kinds.append(".filename-timestamps.json")
    folder.mkdir(parents=True)
    for name in (METADATA, VOCABULARY, *(f"{split}{kind}" for split in task.splits for kind in kinds)):
        if not (task.path / name).is_file():
            raise TaskError(f"{task.path / name} is missing; embed the task first")
        (folder / name).symlink_to((task.path / name).absolute())


# What the kit leaves.


def read_outcome(folder: Path, task: TaskFolder) -> Outcome:
    """The outcome in a folder where the kit has finished ``task``. Raises EvaluationError when it left no scores there."""
    found = read_json(folder / SCORES, EvaluationError, "hear-eval-kit ended well, but left no scores")
    try:
        splits = {split.test: found[split.test] for split in task.data_splits}
        return Outcome(
            splits={
                name: {key: float(value) for key, value in split.items() if key != NO_SCORE}
                for name, split in splits.items()
            },
            settings=settings_of(found["hparams"]).to_dict(),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EvaluationError(f"hear-eval-kit ended well, but left no scores in {SCORES} ({error!r})") from error


def settings_of(hparams: Mapping[str, Any]) -> Settings:
    """The settings that stand among the kit's scores, where a function is "<function xavier_normal_ at 0x...>".

    Raises KeyError or ValueError when they are not what the kit writes.
    """
    values = {name: hparams[name] for name in SETTINGS}
    match = re.fullmatch(r"<function (\w+)_ at \w+>", values["initialization"])
    if match is None or match[1] not in INITIALIZATIONS:
        raise ValueError(f"initialization is {values['initialization']!r}")
    return Settings(**{**values, "initialization": match[1]})


# Whether the kit can be run, where, and how.


def require_kit() -> str:
    """The version of hear-eval-kit that is installed, found without importing it.

    Raises EvaluationError, with the commands that install it, when the kit or a package that it really imports is missing.
    (The rest of what its metadata asks for is not needed, and cannot be installed any more.)
    """
    try:
        found = version("heareval")
    except PackageNotFoundError:
        found = None
    if found is None or find_spec("heareval") is None:
        raise EvaluationError(f"hear-eval-kit is not installed; install it: {INSTALL_IMPORTED} && {INSTALL_KIT}")
    if found != KIT_VERSION:
        raise EvaluationError(f"hear-eval-kit is {found}; expected {KIT_VERSION}, which is what we mend: {INSTALL_KIT}")
    if missing := [name for name in IMPORTED if find_spec(name) is None]:
        raise EvaluationError(
            f"hear-eval-kit imports {', '.join(missing)}, which is missing; install it: {INSTALL_IMPORTED}"
        )
    return found


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new folder in the system's temporary one ($TMPDIR); those of processes that were killed are removed first."""
    for lock in Path(gettempdir()).glob(f"{SCRATCH_PREFIX}*/{LOCK}"):
        with suppress(OSError), open(lock) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)
    with TemporaryDirectory(prefix=SCRATCH_PREFIX, ignore_cleanup_errors=True) as folder:
        unlocked = Path(folder) / f"no {LOCK}"  # by this name nobody takes the folder for a dead process's
        with open(unlocked, "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            unlocked.rename(Path(folder) / LOCK)
            yield Path(folder)


def run_kit(arguments: Sequence[str], *, scratch: Path, device: str, threads: int | None = None) -> None:
    """Run ``python -m hear_axlstm.evaluation.kit ARGUMENTS`` to its end; its output is dropped.

    scratch: a folder for this run alone, which the process removes when ours is killed. device: "cpu", where the process
    sees no GPU, or "cuda", "cuda:1", ..., where it sees that one only. threads: for its matrix products; None: its own
    choice.

    Raises EvaluationError, with the reason that it wrote to stderr, when it fails.
    """
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": _visible(device)}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    command = [sys.executable, "-m", "hear_axlstm.evaluation.kit", "--owner", str(os.getpid()), "--scratch", str(scratch)]
    log = scratch / "stderr.txt"
    with open(log, "wb") as stderr:
        process = subprocess.Popen(  # noqa: S603 - our own module
            [*command, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr, env=environment
        )
        try:
            while (code := process.poll()) is None:
                time.sleep(POLL)  # a wait without end outlasts Ctrl-C where a library, as polars does, has it begin anew
        finally:
            _end(process)
    if code:
        raise EvaluationError(_reason_of_end(log, code))


def _visible(device: str) -> str:
    """The CUDA_VISIBLE_DEVICES of a process that is to see this device only."""
    if device == "cpu":
        return ""
    wanted, there = torch.device(device), torch.cuda.device_count()
    index = wanted.index or 0
    if wanted.type != "cuda" or index >= there:
        raise EvaluationError(f"device is {device!r}; hear-eval-kit runs on cpu or cuda, and {there} GPUs are seen here")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",")[index] if visible else str(index)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process if it has not ended: ask it to, then kill it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _reason_of_end(log: Path, code: int) -> str:
    """The exception that ended the process and where it was raised, or the last lines of stderr where there was none."""
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL))
        lines = file.read().decode(errors="replace").rstrip().splitlines()
    if code < 0:
        return "\n".join([f"ended by {signal.Signals(-code).name}", *lines[-REASON_LINES:]])
    frame = max((index for index, line in enumerate(lines) if line.startswith('  File "')), default=len(lines))
    exception = list(dropwhile(lambda line: line.startswith(" "), lines[frame:]))
    if not exception:
        return "\n".join(lines[-REASON_LINES:]) or f"exit code {code}"
    return "\n".join([*exception[:REASON_LINES], lines[frame].strip()])
