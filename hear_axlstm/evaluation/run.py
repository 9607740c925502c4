"""Task folders and a model -> a folder of results: embed, train the classifiers of every seed, keep each score at once."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter

import torch

from hear_axlstm.errors import ConfigError, HearAxlstmError
from hear_axlstm.evaluation import Engine
from hear_axlstm.evaluation.classes import named
from hear_axlstm.evaluation.embeddings import embed_task, is_embedded, sounds_embedded
from hear_axlstm.evaluation.kit.launch import embed_with_kit, evaluate_with_kit, require_kit
from hear_axlstm.evaluation.metrics import check_metrics
from hear_axlstm.evaluation.native.batched import evaluate_batched
from hear_axlstm.evaluation.native.faithful import evaluate_sequentially
from hear_axlstm.evaluation.outlook import Outlook, Work, title_of
from hear_axlstm.evaluation.probe.classifiers import check_one_label, evaluate_linear, require_scikit_learn
from hear_axlstm.evaluation.protocols import LINEAR, Protocol
from hear_axlstm.evaluation.results import (
    MODEL,
    Failure,
    Outcome,
    Score,
    failure_path,
    score_path,
)
from hear_axlstm.evaluation.subject import Subject
from hear_axlstm.evaluation.tasks.taskfolder import TaskFolder, read_task
from hear_axlstm.parallel import Workers, processors
from hear_axlstm.storage import changed, claim_folder, other_weights, sweep

LOGGER = logging.getLogger("hear_axlstm")
WORDS = {  # for settings that are others than those a folder was begun with
    "module": changed("--module"),
    "weights_sha256": other_weights,
    "parameters": changed("the number of parameters"),
    "options.layout": changed("--layout"),
    "options.precision": changed("--precision"),
}
PACKAGES: dict[Engine, tuple[str, ...]] = {
    "native": ("hear-axlstm", "torch", "numpy"),
    "linear": ("hear-axlstm", "torch", "numpy", "scikit-learn"),
    "heareval": ("hear-axlstm", "torch", "numpy", "heareval", "pytorch-lightning", "scikit-learn"),
}


Pending = Mapping[TaskFolder, Sequence[int]]  # seeds to be done of each task


@dataclass
class Evaluated:
    """The scores and failures of one call of ``evaluate``.

    scores: all that there are now, old ones included. computed: how many are new. failures: task -> reason.
    """

    scores: list[Score] = field(default_factory=list)
    computed: int = 0
    failures: dict[str, str] = field(default_factory=dict)


def evaluate(
    tasks: Sequence[Path],
    subject: Subject,
    results: Path,
    *,
    protocol: Protocol,
    seeds: Sequence[int],
    engine: Engine = "native",
    device: torch.device | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> Evaluated:
    """Evaluate a model on HEAR tasks, with one classifier (or k, of a task with folds) a seed.

    tasks: their folders. results: RESULTS/MODEL is made or continued: what is there already, for the same model, task and
    protocol, is not done again, however the last run ended.
    engine: "native", our own classifiers; "heareval", hear-eval-kit itself, in processes apart; or "linear", logistic
    regression, which has the protocol ``LINEAR`` and nothing random: the only seed is 0.
    device: for embedding and for the classifiers; the native engine trains all seeds at once on CUDA, and in ``workers``
    processes side by side elsewhere (as many as processors when left out; 0: this one). progress: a bar on stderr with the
    time left for all tasks, or, where that is no terminal, a line as each task starts and ends.

    A failed task is recorded in ``failures``, and the others go on. Raises OutputError when RESULTS/MODEL holds
    another model, EvaluationError when the kit is needed and is not installed, ConfigError on no seeds, OSError when results
    cannot be written; what was finished by then is kept.
    """
    _check(subject, protocol, seeds, engine)
    device = device or torch.device("cpu")
    folder = results / subject.record.name
    advice = "name the model otherwise (--name), or choose another folder"
    claim_folder(folder / MODEL, subject.record.to_dict(), ["seed-*.json"], words=WORDS, advice=advice)
    run = _Run(subject, folder, protocol, engine, device, Evaluated())
    side_by_side = 1 if device.type == "cuda" and engine == "native" else processors() if workers is None else workers
    work = [run.work(path, seeds) if progress else Work(path.name) for path in tasks]
    places = {path.name: index for index, path in enumerate(tasks)}
    with Outlook(work, engine, device.type, side_by_side, shown=progress) as run.outlook, ExitStack() as stack:
        found = [run.prepared(index, path, seeds, workers) for index, path in enumerate(tasks)]
        pending = dict(task_and_seeds for task_and_seeds in found if task_and_seeds is not None)
        if device.type == "cuda" and engine == "native":
            finished = run.on_device(pending)
        else:
            jobs = sum(map(len, pending.values()))
            pool = stack.enter_context(Workers(min(side_by_side, jobs)))
            finished = run.in_processes(pending, pool)
        run.outlook.training()
        for name, count, seconds in finished:
            run.outlook.trained(places[name], count, seconds)
    for task in pending:
        if task.name not in run.evaluated.failures:
            failure_path(folder, protocol.name, engine, task.name).unlink(missing_ok=True)
    return run.evaluated


def _check(subject: Subject, protocol: Protocol, seeds: Sequence[int], engine: Engine) -> None:
    """Raises ConfigError on what does not fit together, EvaluationError and ConfigError on packages that are missing."""
    if not seeds:
        raise ConfigError("no seeds; expected at least one")
    if (engine == "linear") != (protocol.name == LINEAR.name):
        raise ConfigError(
            f"protocol is {protocol.name}, engine {engine}; the protocol linear and the engine linear go together"
        )
    if engine == "linear":
        require_scikit_learn()
        if list(seeds) != [0]:
            raise ConfigError(f"seeds are {list(seeds)}; nothing of the engine linear is random: expected one seed, 0")
    if engine == "heareval" and subject.weights is None and subject.model is not None:
        raise ConfigError(f"{subject.record.name} has no weights file, which hear-eval-kit would load; use another engine")
    if engine == "heareval" or subject.model is None:
        require_kit()


@dataclass
class _Run:
    """One call of ``evaluate``: its arguments, and the steps that share them."""

    subject: Subject
    folder: Path
    protocol: Protocol
    engine: Engine
    device: torch.device
    evaluated: Evaluated
    outlook: Outlook = field(init=False)

    def work(self, path: Path, seeds: Sequence[int]) -> Work:
        """What is to be done for a task, as far as that can be told: one that fails is work for nobody."""
        try:
            task = read_task(path)
            missing = len(set(seeds) - self._scores(task, seeds).keys())
            embedded = is_embedded(task, self._embeddings(task))
            return Work.of(task, missing, self.protocol, self.engine, embedded=embedded)
        except Exception:
            return Work(title_of(path.name))

    def prepared(
        self, index: int, path: Path, seeds: Sequence[int], workers: int | None
    ) -> tuple[TaskFolder, list[int]] | None:
        """The task, embedded, and its seeds without a score; None on a failure. Scores that are there are entered."""
        try:
            task = read_task(path)
            if self.engine == "linear":
                check_one_label(task)
            if self.engine != "heareval":
                check_metrics(task.metrics)
            task.stored_order, task.differences()  # every file that describes it
            self._embed(index, task, workers)
            there = self._scores(task, seeds)
        except OSError:
            raise
        except Exception as error:
            self._fail(path.name, _failure_reason(error))
            self.outlook.failed(index)
            return None
        self.evaluated.scores += there.values()
        return task, [seed for seed in seeds if seed not in there]

    def on_device(self, pending: Pending) -> Iterator[tuple[str, int, float]]:
        """Train all seeds of a task at once, task by task. Yields a task's name, its new scores and the seconds."""
        for task, seeds in pending.items():
            if not seeds:
                continue
            start = perf_counter()
            try:
                outcomes = evaluate_batched(self._embeddings(task), self.protocol, seeds, self.device)
            except Exception as error:
                self._fail(task.name, _failure_reason(error))
                continue
            for seed, outcome in outcomes.items():
                self._keep(task, seed, outcome, (perf_counter() - start) / len(outcomes))
            yield task.name, len(outcomes), perf_counter() - start

    def in_processes(self, pending: Pending, pool: Workers) -> Iterator[tuple[str, int, float]]:
        """Train every seed of every task for itself, side by side. Yields a task's name, 1 and seconds for a new score."""
        one: Callable[..., Outcome] = evaluate_sequentially
        if self.engine == "linear":
            one = evaluate_linear
        elif self.engine == "heareval":
            one = partial(evaluate_with_kit, device=str(self.device))
        jobs = {
            pool.submit(_timed, one, self._embeddings(task), self.protocol, seed): (task, seed)
            for task, seeds in pending.items()
            for seed in seeds
        }
        for future in as_completed(jobs):
            task, seed = jobs[future]
            if (error := future.exception()) is not None:
                self._fail(task.name, _failure_reason(error))
            else:
                outcome, seconds = future.result()
                self._keep(task, seed, outcome, seconds)
                yield task.name, 1, seconds

    def _embed(self, index: int, task: TaskFolder, workers: int | None) -> None:
        out = self._embeddings(task)
        if is_embedded(task, out):
            return
        model = None if self.engine == "heareval" else self.subject.model
        with self.outlook.embedding(index, model):
            if model is not None:
                embed_task(task, model, out, workers=workers)
            else:
                record = self.subject.record
                embed_with_kit(
                    record.module,
                    task.path,
                    out,
                    model=self.subject.weights,
                    model_options=record.options,
                    device=str(self.device),
                )

    def _keep(self, task: TaskFolder, seed: int, outcome: Outcome, seconds: float) -> None:
        clips = {split: task.clips(split).values() for split in outcome.classes}
        confusions, precisions = named(outcome.classes, task.labels, clips)
        score = Score(
            model=self.subject.record.name,
            weights_sha256=self.subject.record.weights_sha256,
            task=task.name,
            task_sha256=task.sha256,
            sounds_sha256=sounds_embedded(self._embeddings(task)) or "",
            differences=task.differences(),
            protocol=self.protocol.name,
            protocol_sha256=self.protocol.sha256,
            engine=self.engine,
            seed=seed,
            metric=task.metrics[0],
            score=outcome.mean("test_score"),
            splits=outcome.splits,
            settings=outcome.settings,
            versions=_versions(self.engine),
            device="cpu" if self.engine == "linear" else self.device.type,
            seconds=seconds,
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            confusions=confusions,
            precisions=precisions,
        )
        score.write(self._score_path(task, seed))
        self.evaluated.scores.append(score)
        self.evaluated.computed += 1

    def _scores(self, task: TaskFolder, seeds: Sequence[int]) -> dict[int, Score]:
        """Seed -> a score of this very task and protocol that is there. Raises OutputError on a damaged file."""
        sweep(self._score_path(task, 0).parent)
        paths = {seed: self._score_path(task, seed) for seed in seeds}
        found = {seed: Score.read(path) for seed, path in paths.items() if path.is_file()}
        sounds = sounds_embedded(self._embeddings(task))

        def is_current(score: Score) -> bool:
            of_this_task = (score.task_sha256, score.protocol_sha256) == (task.sha256, self.protocol.sha256)
            return of_this_task and (not (sounds and score.sounds_sha256) or sounds == score.sounds_sha256)

        return {seed: score for seed, score in found.items() if is_current(score)}

    def _fail(self, task: str, reason: str) -> None:
        reason = reason.removeprefix(f"{task}: ")  # whoever shows it names the task
        LOGGER.info("%s failed: %s", task, reason)
        self.evaluated.failures[task] = reason
        failure = Failure(
            model=self.subject.record.name, task=task, protocol=self.protocol.name, engine=self.engine, reason=reason
        )
        failure.write(failure_path(self.folder, self.protocol.name, self.engine, task))

    def _score_path(self, task: TaskFolder, seed: int) -> Path:
        return score_path(self.folder, self.protocol.name, self.engine, task.name, seed)

    def _embeddings(self, task: TaskFolder) -> Path:
        embedded_by: Engine = "native" if self.engine == "linear" else self.engine  # they evaluate the same embeddings
        return self.folder / "embeddings" / embedded_by / task.name


def _timed(function: Callable[..., Outcome], *arguments: object) -> tuple[Outcome, float]:
    """The outcome and the seconds of a training with one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    start = perf_counter()
    try:
        return function(*arguments), perf_counter() - start
    finally:
        torch.set_num_threads(threads)


def _failure_reason(error: BaseException) -> str:
    return str(error) if isinstance(error, HearAxlstmError) else f"{type(error).__name__}: {error}"


def _versions(engine: Engine) -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES[engine]:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed as a package"
    return found
