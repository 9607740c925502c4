"""The commands ``tasks``, ``evaluate``, ``probe`` and ``report``: HEAR tasks, their scores, and a page of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import click

from hear_axlstm.cli.common import (
    FAILED,
    GO_ON,
    REFUSED,
    cause_of,
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
    tell_left_out,
    there_already,
)
from hear_axlstm.config import SAMPLE_RATE, Layout, Precision
from hear_axlstm.errors import ConfigError, HearAxlstmError
from hear_axlstm.evaluation.probe.baselines import LOG_MEL, is_baseline, load_baseline
from hear_axlstm.evaluation.probe.tasks import is_held_out
from hear_axlstm.evaluation.protocols import LINEAR, PROTOCOLS, find_protocol
from hear_axlstm.evaluation.report import ReportFormat, write_report
from hear_axlstm.evaluation.report.summary import imitation_banner
from hear_axlstm.evaluation.results import Engine, Score, read_results
from hear_axlstm.evaluation.run import Evaluated, evaluate
from hear_axlstm.evaluation.subject import Subject, module_subject, our_subject
from hear_axlstm.evaluation.tasks.catalogue import KNOWN_TASKS, PAPER_TASKS, in_order
from hear_axlstm.evaluation.tasks.check import check_task
from hear_axlstm.evaluation.tasks.own import make_task
from hear_axlstm.evaluation.tasks.prepare import RATES, prepare_task
from hear_axlstm.evaluation.tasks.suite import Kind, Suite, task_names, write_suite
from hear_axlstm.evaluation.tasks.taskfolder import SYNTHESISED, find_tasks
from hear_axlstm.evaluation.tasks.zenodo import RECORD, download_tasks
from hear_axlstm.hear import load_model
from hear_axlstm.ops.backend import find_device
from hear_axlstm.progress import several
from hear_axlstm.storage import write_text
from hear_axlstm.weights.find import find_weights

THE_TEN = "the ten of the papers"

tasks_option = click.option(
    "--tasks", metavar="A,B,...", help="Take only these tasks: their folder names, or how these begin."
)
rate_option = click.option(
    "--rate",
    type=click.Choice([str(rate) for rate in sorted((SAMPLE_RATE, *RATES))]),
    default=str(SAMPLE_RATE),
    callback=lambda context, option, value: int(value),
    help="Sample rate of the clips in Hz. Our encoders take 16000; another HEAR module may take another.",
)


@main.group("tasks")
def tasks_group() -> None:
    """Get, make and check the tasks of the HEAR benchmark."""


@tasks_group.command("list")
def list_command() -> None:
    """List the HEAR tasks: the papers' ten first."""
    show(f"{'task':36}  {'labels':>6}  {'clips':>7}  {'seconds':>7}  score")
    for task in KNOWN_TASKS.values():
        clips = "?" if task.clips is None else f"{task.clips:,}"
        seconds = "mixed" if task.seconds is None else f"{task.seconds:g}"
        remarks = [
            task.metrics[0],
            *(["events"] if task.embedding_type == "event" else []),
            *(["papers"] if task.key else []),
        ]
        show(f"{task.folder:36}  {task.labels:>6}  {clips:>7}  {seconds:>7}  {', '.join(remarks)}")


@tasks_group.command("download")
@click.argument("names", nargs=-1, metavar="[TASKS]...")
@out_option("The archives go into this folder.")
@click.option("--record", default=RECORD, help="Download from this record of Zenodo, which has the tasks at 48 kHz.")
@quiet_option
def download_tasks_command(names: tuple[str, ...], out: Path, record: str, quiet: bool) -> None:
    """Download the archives of HEAR's tasks.

    Their sounds are at 48 kHz. Without TASKS the papers' ten are downloaded. A second run continues where the first one
    ended. An archive that fails is reported, the others are downloaded, and the exit code is 1.
    """
    with reported(REFUSED):
        chosen = _named(names, list(KNOWN_TASKS)) if names else [task.folder for task in PAPER_TASKS.values()]
        with failing(GO_ON, HearAxlstmError, OSError):
            result = download_tasks(chosen, out, record=record, progress=not quiet)
    tell_failures(result.failures)
    if not quiet:
        tell(f"{several(len(result.archives), 'archive')} complete, {len(result.failures)} failed: {out}")
    sys.exit(FAILED if result.failures else 0)


@tasks_group.command("prepare")
@click.argument("sources", nargs=-1, required=True, metavar="ARCHIVES-OR-FOLDERS...", type=click.Path(path_type=Path))
@out_option("The tasks go into this folder.")
@rate_option
@click.option(
    "--workers", type=click.IntRange(min=1), help="Resample this many clips at once; by default one for each processor."
)
@quiet_option
def prepare_command(sources: tuple[Path, ...], out: Path, rate: int, workers: int | None, quiet: bool) -> None:
    """Resample downloaded tasks to 16 kHz, or another rate.

    The command takes the archives of `tasks download`, folders of such archives, and task folders. A second run prepares
    what is missing. Tasks that have the rate already need no preparing. A task that fails is reported, the others are
    prepared, and the exit code is 1.
    """
    failures = 0
    with reported(REFUSED):
        found = [path for source in sources for path in _inside(source)]
        for number, path in enumerate(found, 1):
            title = f"{'task' if path.is_dir() else 'archive'} {number} of {len(found)}: {path.name}"
            try:
                task = prepare_task(path, out, sample_rate=rate, workers=workers, progress=not quiet, title=title)
                if not quiet:
                    tell(f"{task.name}: {task.path}")
            except (HearAxlstmError, OSError, MemoryError) as error:
                failures += 1
                tell(f"failed: {path}: {cause_of(error)}")
    if not quiet:
        tell(f"{several(len(found) - failures, 'task')} prepared, {failures} failed: {out}")
    sys.exit(FAILED if failures else 0)


def _inside(source: Path) -> list[Path]:
    """A source itself, or the archives or tasks of a folder of them."""
    archives = sorted(source.glob("*.tar.gz")) if source.is_dir() else []
    return archives or (find_tasks(source) if source.is_dir() else [source])


@tasks_group.command("check")
@click.argument("folder", metavar="TASKS", type=click.Path(path_type=Path))
@tasks_option
@rate_option
@quiet_option
def check_command(folder: Path, tasks: str | None, rate: int, quiet: bool) -> None:
    """Look for missing, damaged and wrong files in tasks.

    The command says what it found: clips, splits, classes and lengths, and how a task differs from the HEAR task of its
    name. It checks tasks of your own as well. The exit code is 1 when a task must be mended.
    """
    broken = 0
    with reported(FAILED):
        paths = _chosen(folder, tasks)
        for number, path in enumerate(paths, 1):
            check = check_task(path, rate, progress=not quiet, title=f"task {number} of {len(paths)}: {path.name}")
            broken += not check.is_good
            show(f"{path.name}: {several(len(check.problems), 'problem') if check.problems else 'good'}")
            whose = " (a task of your own: HEAR has none of this name)" if check.is_own else ""
            show(f"  {check.found}{whose}")
            for kind, lines in (("", check.problems), ("remark: ", check.remarks), ("not as in HEAR: ", check.differences)):
                for line in lines:
                    show(f"  {kind}{line}")
    sys.exit(FAILED if broken else 0)


def suite_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of the commands that synthesise tasks."""
    for option in (  # the last is shown first
        quiet_option,
        tasks_option,
        click.option("--seed", type=click.IntRange(min=0), default=0, help="Every seed makes other clips."),
        click.option(
            "--clips-per-label",
            type=click.IntRange(min=2),
            help="Make this many clips of each label in each split; by default 2, and for the probe's tasks 16 to learn "
            "from and 16 to test on.",
        ),
        click.option(
            "--soundfont",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="Play the probe's music with this SoundFont, which training music must not have; by default with the "
            "system's FluidR3_GM.sf2.",
        ),
    ):
        command = option(command)
    return command


@tasks_group.command("generate")
@out_option("The tasks go into this folder.")
@click.option(
    "--kind", type=click.Choice(get_args(Kind)), default="hear", help="Imitate HEAR's tasks, or make those of the probe."
)
@rate_option
@suite_options
def generate_command(out: Path, **options: Any) -> None:
    """Make small tasks of synthesised sound, to try things out.

    --kind hear imitates HEAR's tasks under their names. They are not HEAR: compare scores on them with nothing but each
    other. --kind probe makes twelve tasks that show how good weights are, since no training sound has the voices,
    instruments or parameters that they are tested on. Tasks of speech need the program espeak-ng, and tasks of music the
    program fluidsynth and the SoundFont FluidR3_GM.sf2.
    """
    with reported(REFUSED):
        suite = _generate(out, **options)
    for path in suite.tasks:
        show(path)
    sys.exit(FAILED if suite.failures else 0)


def _generate(
    out: Path, kind: Kind, tasks: str | None, soundfont: Path | None, quiet: bool, rate: int = SAMPLE_RATE, **options: Any
) -> Suite:
    if soundfont is not None and not is_held_out(soundfont):
        tell(f"warning: {soundfont} is what training music is played with: music tasks are not held out")
    names = None if tasks is None else _named(tasks.split(","), task_names(kind))
    with failing(GO_ON, OSError):
        settings: dict[str, Any] = {"kind": kind, "soundfont": soundfont, "sample_rate": rate, "progress": not quiet}
        suite = write_suite(out, names, **settings, **options)
    tell_failures(suite.failures)
    return suite


@tasks_group.command("make")
@click.argument("source", metavar="FOLDER|CSV", type=click.Path(path_type=Path))
@out_option("The task is written as this folder, which must not exist yet.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Every seed draws other splits.")
@rate_option
@click.option(
    "--workers", type=click.IntRange(min=1), help="Resample this many clips at once; by default one for each processor."
)
@quiet_option
def make_command(source: Path, out: Path, seed: int, rate: int, workers: int | None, quiet: bool) -> None:
    """Make a task of your own labelled sounds.

    FOLDER holds a folder of sounds for each class. CSV has the columns path and label. A column split (train, valid, test)
    or fold may say what each sound is for; without either, five folds are drawn, in which each class has about the same
    share. A column group may say which sounds must stay together. A sound that cannot be read is reported and left out,
    and the exit code is 1.
    """
    with reported(REFUSED):
        with failing(GO_ON, OSError):
            made = make_task(source, out, seed=seed, sample_rate=rate, workers=workers, progress=not quiet)
        clips = sum(len(made.task.clips(split)) for split in made.task.splits)
    show(out)
    tell_failures(made.failures)
    if not quiet:
        tell(f"{several(clips, 'clip')} of {several(len(made.task.labels), 'class')}: {made.drawn}")
    missed = tell_left_out(made.left_out, source, quiet=quiet)
    sys.exit(FAILED if made.failures or missed else 0)


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
    linear = engine == "linear"
    with reported(REFUSED):
        settled = find_protocol(protocol or (LINEAR.name if linear else "axlstm"))
        paths = _chosen(folder, tasks)
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
    if module is None:
        if model_options is not None:
            raise ConfigError("--model-options goes with --module")
        if is_baseline(model):
            return our_subject(None, load_baseline(model, layout, precision).to(device), name or _name(model))
        weights = find_weights(model)
        encoder = load_model(weights, layout=layout, precision=precision).to(device)
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
    models = models or ("",)
    encoders = [(model, layout) for model in (*models, f"random:{models[0]}") for layout in get_args(Layout)]
    with reported(REFUSED):
        on = find_device(device)
        subjects = [_subject(on, model, layout, name=f"{_name(model)}-{layout}") for model, layout in encoders]
        subjects.append(_subject(on, LOG_MEL))
        names = [subject.record.name for subject in subjects]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ConfigError(f"two models would both be called {twice[0]}; expected files or folders of different names")
        suite = _generate(out / "tasks", "probe", quiet=quiet, **options)
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


def _chosen(folder: Path, names: str | None) -> list[Path]:
    paths = find_tasks(folder)
    if names is None:
        return paths
    chosen = _named(names.split(","), [path.name for path in paths])
    return [path for path in paths if path.name in chosen]


def _named(names: Any, known: list[str]) -> list[str]:
    """The names meant by these, which may be beginnings. Raises ConfigError on one that means none."""
    chosen = []
    for name in names:
        found = [name.strip()] if name.strip() in known else [full for full in known if full.startswith(name.strip())]
        if not found:
            raise ConfigError(f"no task is called {name.strip()!r}; there are {', '.join(known)}")
        chosen += found
    return list(dict.fromkeys(chosen))


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
