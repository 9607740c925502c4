"""The commands ``tasks``: HEAR's tasks, imitations of them, and tasks of a user's own."""

from __future__ import annotations

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
    failing,
    main,
    out_option,
    quiet_option,
    reported,
    show,
    tell,
    tell_failures,
    tell_left_out,
)
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.errors import ConfigError, HearAxlstmError
from hear_axlstm.evaluation.probe.tasks import is_held_out
from hear_axlstm.evaluation.tasks.catalogue import KNOWN_TASKS, PAPER_TASKS
from hear_axlstm.evaluation.tasks.check import check_task
from hear_axlstm.evaluation.tasks.prepare import RATES, prepare_task
from hear_axlstm.evaluation.tasks.suite import Kind, Suite, task_names, write_suite
from hear_axlstm.evaluation.tasks.taskfolder import find_tasks
from hear_axlstm.evaluation.tasks.zenodo import RECORD, download_tasks
from hear_axlstm.progress import several

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
        paths = chosen_tasks(folder, tasks)
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
        suite = generate(out, **options)
    for path in suite.tasks:
        show(path)
    sys.exit(FAILED if suite.failures else 0)


def generate(
    out: Path, kind: Kind, tasks: str | None, soundfont: Path | None, quiet: bool, rate: int = SAMPLE_RATE, **options: Any
) -> Suite:
    """Write the tasks that ``suite_options`` ask for, and name those that failed. Raises ConfigError on names of none."""
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
    from hear_axlstm.evaluation.tasks.own import make_task

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


def chosen_tasks(folder: Path, names: str | None) -> list[Path]:
    """The task folders in a folder, or those of them that ``tasks_option`` names. Raises ConfigError and TaskError."""
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
