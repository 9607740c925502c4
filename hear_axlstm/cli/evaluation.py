"""The commands ``evaluate``, ``probe`` and ``report``: scores on tasks, and a page of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

import hear_axlstm
from hear_axlstm.cli.common import (
    FAILED,
    GO_ON,
    REFUSED,
    device_option,
    failing,
    layout_option,
    main,
    model_name,
    model_option,
    out_option,
    precision_option,
    quiet_option,
    reported,
    show,
    tell,
    tell_failures,
    there_already,
)
from hear_axlstm.cli.tasks import chosen_tasks, generate, suite_options, tasks_option
from hear_axlstm.config import Layout, Precision
from hear_axlstm.errors import ConfigError
from hear_axlstm.evaluation import Engine
from hear_axlstm.evaluation.protocols import LINEAR, PROTOCOLS, find_protocol
from hear_axlstm.evaluation.report import ReportFormat, write_report
from hear_axlstm.evaluation.tasks.catalogue import KNOWN_TASKS, in_order
from hear_axlstm.evaluation.tasks.taskfolder import SYNTHESISED
from hear_axlstm.progress import several
from hear_axlstm.storage import write_text
from hear_axlstm.weights.find import find_weights

if TYPE_CHECKING:
    from hear_axlstm.evaluation.results import Score
    from hear_axlstm.evaluation.run import Evaluated
    from hear_axlstm.evaluation.subject import Subject


@main.command("evaluate")
@click.argument("folder", metavar="TASKS", type=click.Path(path_type=Path))
@out_option("The results go into this folder.")
@model_option
@layout_option
@precision_option
@click.option(
    "--module",
    help="Evaluate this HEAR module, which is installed or in the current folder; --model is then the file that it loads.",
)
@click.option("--model-options", metavar="JSON", help="Pass these arguments, too, to the module's load_model.")
@click.option("--name", help="Call the model this in the results; by default it is called after its weights or its module.")
@tasks_option
@click.option(
    "--protocol",
    type=click.Choice(list(PROTOCOLS)),
    help="Train classifiers by this protocol; by default axlstm, that of the papers, or linear with the linear engine.",
)
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    help="Train classifiers with this many seeds; by default 10, or 1 with the linear engine.",
)
@click.option(
    "--engine",
    type=click.Choice(get_args(Engine)),
    default="native",
    help="native trains our own classifiers, heareval runs hear-eval-kit itself, linear fits a logistic regression.",
)
@device_option
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    help="Work in this many processes side by side; by default one for each processor. 0 starts none.",
)
@quiet_option
def evaluate_command(
    folder: Path,
    out: Path,
    tasks: str | None,
    protocol: str | None,
    seeds: int | None,
    engine: Engine,
    device: str,
    workers: int | None,
    quiet: bool,
    **model: Any,
) -> None:
    """Score a model on HEAR's tasks, or on tasks of your own.

    The model embeds the sounds of every task in the folder TASKS, shallow classifiers learn from the embeddings, and each
    score is written as soon as it is there, with all that it depends on. A second run computes what is missing. A task that
    fails is reported, the others go on, and the exit code is 1.

    To compare with baselines, say --model log-mel for statistics of the log-mel, and --model random, or random:MODEL, for
    an encoder that was never trained.
    """
    from hear_axlstm.evaluation.run import evaluate
    from hear_axlstm.ops.backend import find_device

    linear = engine == "linear"
    with reported(REFUSED):
        settled = find_protocol(protocol or (LINEAR.name if linear else "axlstm"))
        paths = chosen_tasks(folder, tasks)
        on = find_device(device)
        subject = _subject(device=on, **model)
        options: dict[str, Any] = {"engine": engine, "device": on, "workers": workers, "progress": not quiet}
        with failing(GO_ON, OSError):
            evaluated = evaluate(
                paths, subject, out, protocol=settled, seeds=range(seeds or (1 if linear else 10)), **options
            )
    _print_scores(evaluated, out / subject.record.name, quiet)
    sys.exit(FAILED if evaluated.failures else 0)


def _subject(
    device: Any,
    model: str,
    layout: Layout | None = None,
    precision: Precision = "auto",
    module: str | None = None,
    model_options: str | None = None,
    name: str | None = None,
) -> Subject:
    from hear_axlstm.evaluation.probe.baselines import is_baseline, load_baseline
    from hear_axlstm.evaluation.subject import module_subject, our_subject

    if module is None:
        if model_options is not None:
            raise ConfigError("--model-options goes with --module")
        if is_baseline(model):
            return our_subject(None, load_baseline(model, layout, precision).to(device), name or _name(model))
        weights = find_weights(model)
        encoder = hear_axlstm.load_model(weights, layout=layout, precision=precision).to(device)
        return our_subject(weights, encoder, name or _name(model))
    if layout is not None or precision != "auto":
        raise ConfigError("--layout and --precision are for our models; a --module takes --model-options")
    try:
        options = json.loads(model_options or "{}")
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"--model-options {model_options!r} is not JSON ({error})") from error
    if not isinstance(options, dict):
        raise ConfigError(f'--model-options {model_options!r}: expected an object such as {{"size": 3}}')
    if model and not Path(model).is_file():
        raise ConfigError(f"--model {model}: no such file")
    return module_subject(module, Path(model) if model else None, options, name or module)


def _name(model: str) -> str:
    """The name of a model or a baseline among results unless --name says otherwise."""
    from hear_axlstm.evaluation.probe.baselines import is_baseline

    baseline, _, of = model.partition(":")
    if not is_baseline(model):
        return model_name(model)
    return f"{baseline}-{model_name(of)}" if of else baseline


@main.command("probe")
@click.argument("models", metavar="[FILE|FOLDER|REPO|VARIANT]...", nargs=-1)
@out_option("The tasks and the results go into this folder, as tasks/ and results/.")
@device_option
@suite_options
def probe_command(models: tuple[str, ...], out: Path, device: str, quiet: bool, **options: Any) -> None:
    """Compare weights on small tasks of held-out sound.

    Each model is compared in both layouts with the others, with random weights and with the log-mel. The command does what
    `tasks generate --kind probe` and `evaluate --engine linear` do, and prints the scores in percent; `report` shows more of
    them. Name the models as --model does elsewhere; without any, the bundled weights are taken. A second run does what is
    missing.
    """
    from hear_axlstm.evaluation.probe.baselines import LOG_MEL
    from hear_axlstm.evaluation.run import evaluate
    from hear_axlstm.ops.backend import find_device

    models = models or ("",)
    encoders = [(model, layout) for model in (*models, f"random:{models[0]}") for layout in get_args(Layout)]
    with reported(REFUSED):
        on = find_device(device)
        subjects = [_subject(on, model, layout, name=f"{_name(model)}-{layout}") for model, layout in encoders]
        subjects.append(_subject(on, LOG_MEL))
        names = [subject.record.name for subject in subjects]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ConfigError(f"two models would both be called {twice[0]}; expected files or folders of different names")
        suite = generate(out / "tasks", "probe", quiet=quiet, **options)
        with failing(GO_ON, OSError):
            settings: dict[str, Any] = {
                "protocol": LINEAR,
                "seeds": [0],
                "engine": "linear",
                "device": on,
                "progress": not quiet,
            }
            every = []
            for number, subject in enumerate(subjects, 1):
                if not quiet:
                    tell(f"model {number} of {len(subjects)}: {subject.record.name}")
                every.append(evaluate(suite.tasks, subject, out / "results", **settings))
    for name, evaluated in zip(names, every, strict=True):
        tell_failures({f"{name}: {task}": reason for task, reason in evaluated.failures.items()})
    _compare(names, [{score.task: score for score in evaluated.scores} for evaluated in every])
    sys.exit(FAILED if suite.failures or any(evaluated.failures for evaluated in every) else 0)


def _compare(names: list[str], scores: list[dict[str, Score]]) -> None:
    """Print a row for each task that all models have a score of, and the means, in percent."""
    tasks = sorted(set.intersection(*map(set, scores)), key=in_order)
    rows = {task: [of_model[task].score for of_model in scores] for task in tasks}
    means = {f"mean of {len(tasks)}": "test_score", "mean, 5 nearest neighbours": "test_knn_acc"} if tasks else {}
    for title, metric in means.items():
        rows[title] = [sum(of_model[task].splits["test"][metric] for task in tasks) / len(tasks) for of_model in scores]
    width = max(map(len, rows), default=0)
    show(f"{'':{width}}  {'  '.join(names)}")
    for title, row in rows.items():
        numbers = (f"{100 * number:{len(name)}.1f}" for name, number in zip(names, row, strict=True))
        show(f"{title:{width}}  {'  '.join(numbers)}")


def _print_scores(evaluated: Evaluated, folder: Path, quiet: bool) -> None:
    from hear_axlstm.evaluation.report.summary import imitation_banner

    by_task: dict[str, list[Score]] = {}
    for score in evaluated.scores:
        by_task.setdefault(score.task, []).append(score)
    for task in sorted(by_task, key=in_order):
        scores = by_task[task]
        mean = sum(score.score for score in scores) / len(scores)
        mark = "  imitated" if SYNTHESISED in scores[0].differences and task in KNOWN_TASKS else ""
        show(f"{task:36}  {scores[0].metric:9}  {mean:.4f}  over {several(len(scores), 'seed')}{mark}")
    tell_failures(evaluated.failures)
    if banner := imitation_banner(evaluated.scores):
        tell(f"note: {banner}")
    if not quiet:
        there, failed = len(evaluated.scores) - evaluated.computed, len(evaluated.failures)
        computed = f"{several(evaluated.computed, 'score')} computed"
        tell(f"{computed}, {there_already(there)}, {several(failed, 'task')} failed: {folder}")


@main.command("report")
@click.argument("folders", nargs=-1, required=True, metavar="RESULTS...", type=click.Path(path_type=Path))
@click.option("--format", type=click.Choice(get_args(ReportFormat)), default="html", help="Write the report in this format.")
@click.option(
    "-o", "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file; by default to stdout."
)
def report_command(folders: tuple[Path, ...], format: ReportFormat, out: Path | None) -> None:
    """Show scores beside published ones, on a page or as a table.

    The report has the results of `evaluate` with intervals and plots, and says where every number is from. A damaged file
    of results is named and left out, and the exit code is 1.
    """
    from hear_axlstm.evaluation.results import read_results

    with reported(FAILED):
        results = read_results(folders)
        text = write_report(results, format)
        if out is None:
            click.echo(text.encode(), nl=False)  # the page says that it is UTF-8
        else:
            write_text(out, text)
    for damaged in results.damaged:
        tell(f"left out: {damaged}")
    sys.exit(FAILED if results.damaged else 0)
