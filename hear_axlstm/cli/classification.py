"""The commands ``classify`` and ``classify apply``: labelled sounds -> a classifier -> labels of other sounds."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hear_axlstm.cli.common import (
    FAILED,
    GO_ON,
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
    tell_unread,
    unwarned,
)
from hear_axlstm.errors import ConfigError
from hear_axlstm.progress import printable, several
from hear_axlstm.storage import write_text

if TYPE_CHECKING:
    from hear_axlstm.classification.outcome import Classified

ROWS = 12  # classes in the terminal


class _WithApply(click.Command):
    """A command that hands over to another one where its first argument is "apply"."""

    @property
    def others(self) -> dict[str, click.Command]:
        """The commands that it hands over to, by what they are called after its own name."""
        return {"apply": apply_command}

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> click.Context:
        if args and args[0] in self.others:
            return self.others[args[0]].make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@main.command("classify", cls=_WithApply)
@click.argument("sounds", metavar="SOUNDS", type=click.Path(path_type=Path))
@out_option("The results go into this folder.")
@model_option
@click.option(
    "--folds",
    type=click.IntRange(min=2),
    default=5,
    help="Divide the sounds into this many parts, and test on each in turn.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Every seed divides the sounds differently.")
@pad_option
@device_option
@click.option("--overwrite", is_flag=True, help="Replace what is in the folder, whatever it was made with.")
@quiet_option
def classify_command(sounds: Path, out: Path, model: str, quiet: bool, **options: Any) -> None:
    """Learn to tell classes of sound apart, and write a report.

    SOUNDS is a folder that has a folder of sounds for each class, or a CSV file with the columns path and label. Two sounds
    of each class are enough to begin with. A CSV file may also have the column group, for instance the speaker: sounds of
    one group are never divided between learning and testing. Other columns are not read. Relative paths in a CSV file start
    at its own folder.

    Every sound is guessed once, by a classifier that has not heard it; the accuracy is the share of right guesses. The
    folder gets report.html, and classifier.safetensors, which has learnt from all sounds. A second run embeds only sounds
    that are new or have changed.

    `hear-axlstm classify apply FOLDER FILES-OR-FOLDERS...` labels other sounds with that classifier.
    """
    from hear_axlstm.classification.classifier import CLASSIFIER
    from hear_axlstm.classification.run import classify
    from hear_axlstm.classification.write import REPORT

    with reported(REFUSED), failing(GO_ON, OSError):
        result = classify(sounds, model, out=out, progress=not quiet, **options)
    tell_failures(result.failures)
    for names in result.torn:
        tell(f"the same file has different labels: {', '.join(names)}")
    for line in [] if quiet else _summary(result):
        show(line)
    if not quiet:
        copies = sum(map(len, result.copies)) - len(result.copies)
        if copies:
            tell(f"{several(copies, 'file')} with the sound of another: copies are learnt from, or tested on, together")
        tell(
            f"report: {out / REPORT}",
            f"classifier: {out / CLASSIFIER}",
            f"label other sounds: hear-axlstm classify apply {shlex.quote(str(out))} NEW-SOUNDS/",
        )
    missed = tell_left_out(result.left_out, sounds, quiet=quiet)
    tell_short(result.failures, ": repeat the command with --pad --overwrite")
    sys.exit(FAILED if result.failures or missed else 0)


def _summary(result: Classified) -> list[str]:
    """The accuracy beside chance, the scores of the classes, and what is confused most."""
    scores = result.per_class
    shown = scores if len(scores) <= ROWS else sorted(scores, key=lambda one: one.f1)[:ROWS]
    width = max(len("class"), *(len(printable(one.name)) for one in shown))
    return [
        f"{several(len(result.names), 'sound')} of {several(len(result.classes), 'class')}, "
        f"{several(len(result.validation.penalties), 'fold')}",
        f"accuracy {result.accuracy:.1%} ({result.interval_words()}); by chance: {result.chance:.1%}",
        f"balanced accuracy {result.balanced_accuracy:.1%}; by chance: {1 / len(result.classes):.1%}",
        f"{'class':{width}}  precision  recall     F1  sounds",
        *(
            f"{printable(one.name):{width}}  {one.precision:9.3f}  {one.recall:6.3f}  {one.f1:5.3f}  {one.clips:6}"
            for one in shown
        ),
        *(
            [f"({ROWS} of {len(scores)} classes, those with the lowest F1; the report has all)"]
            if len(scores) > ROWS
            else []
        ),
        *([result.confusion_words()] if result.confusions else []),
        result.curve_words(),
    ]


@click.command("apply", context_settings=main.context_settings)
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))
@click.argument("inputs", metavar="FILES-OR-FOLDERS...", nargs=-1, required=True, type=click.Path())
@click.option(
    "-o", "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write this CSV file; by default print to stdout."
)
@click.option("--all", "every_class", is_flag=True, help="Add a column for each class, with its probability.")
@click.option(
    "--model",
    default="",
    show_default=False,
    metavar="FILE|FOLDER|REPO|VARIANT",
    help="Take the weights from here, if they are neither in FOLDER nor where they were when it was made.",
)
@click.option(
    "--pad",
    "pad_short",
    is_flag=True,
    default=None,
    help="Pad sounds too short to embed, under 12.6 ms, with zeros. By default that is done where the classifier was made "
    "with --pad.",
)
@device_option
@quiet_option
def apply_command(
    folder: Path,
    inputs: tuple[str, ...],
    out: Path | None,
    every_class: bool,
    model: str,
    pad_short: bool | None,
    device: str,
    quiet: bool,
) -> None:
    """Label sounds with the classifier that `classify` or `finetune` wrote into FOLDER.

    It prints a CSV line for each sound: path,label,probability. The sounds may be files, and folders of files at any depth.
    """
    from hear_axlstm.classification.apply import load_classifier
    from hear_axlstm.files.find import counted, find_files

    with reported(REFUSED):
        left_out: list[Path] = []
        sounds = [replace(sound, name=str(sound.path or sound.name)) for sound in find_files(inputs, left_out)]
        if not sounds:
            raise ConfigError(f"no audio files below {', '.join(inputs)}{counted(left_out)}")
        classifier = load_classifier(folder, model, device=device)
        with unwarned():
            predictions = classifier.predict(sounds, pad_short=pad_short, progress=not quiet)
        text = predictions.to_csv(every_class=every_class)
        if out is None:
            click.echo(text, nl=False)
        else:
            write_text(out, text)
    tell_failures(predictions.failures)
    if not quiet:
        failed = len(predictions.failures)
        where = f": {out}" if out else ""
        tell(f"{several(len(predictions) - failed, 'sound')} labelled, {failed} failed{where}{counted(left_out)}")
    missed = tell_unread(left_out)
    tell_short(predictions.failures, ": repeat the command with --pad")
    sys.exit(FAILED if predictions.failures or missed else 0)
