"""Exit codes, messages, and the options that the commands share.

Help must not wait for torch: a command imports what needs it when it is run.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, get_args

import click

import hear_axlstm
from hear_axlstm.config import Layout, Precision
from hear_axlstm.errors import ConfigError, HearAxlstmError
from hear_axlstm.progress import printable, several
from hear_axlstm.weights.find import WEIGHTS_FILE, list_models, read_manifest

FAILED, REFUSED = 1, 2
ORDER = (  # of the commands in the list of them: what people begin with
    "embed stream search duplicates map show classify finetune models download convert export pack publish "
    "tasks evaluate probe report synthesize shards recipes pretrain reconstruct"
).split()
WAY_TO_READ = "a file left out that is sound is read when you name it, or after ffmpeg -i NAME NAME.flac"
GO_ON = "what was finished is kept: mend that, and repeat the command"

model_option = click.option(
    "--model",
    default="",
    show_default=False,
    metavar="FILE|FOLDER|REPO|VARIANT",
    help="Use these weights: a file, a folder, a repository of the Hugging Face Hub (owner/name[@revision]) or a variant; "
    "by default the bundled ones.",
)


def out_option(help: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The option for the folder that a command writes. help: what goes into it."""
    return click.option("-o", "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help=help)


layout_option = click.option(
    "--layout",
    type=click.Choice(get_args(Layout)),
    help="Group the tokens of scene embeddings by time, or as the released code does; by default as the weights say.",
)

precision_option = click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    default="auto",
    help="Compute matrix products in this number format; auto is float16 on CUDA with tensor cores, and float32 elsewhere.",
)

device_option = click.option(
    "--device", default="auto", help="Compute on cpu, cuda, cuda:1 and so on; auto takes cuda where there is one."
)

pad_option = click.option(
    "--pad", "pad_short", is_flag=True, help="Pad sounds too short to embed, under 12.6 ms, with zeros."
)

quiet_option = click.option("-q", "--quiet", is_flag=True, help="Show no progress and no summary. Failures are still named.")


def tell(*lines: str) -> None:
    """Print lines for people on stderr, whatever characters a file's name brings into them."""
    for line in lines:
        _print(sys.stderr, line)


def tell_failures(failures: Mapping[str, str]) -> None:
    """Print a line for each failure: its name and the reason."""
    for name, reason in failures.items():
        tell(f"failed: {name}: {reason}")


def tell_short(failures: Mapping[str, str], how: str) -> None:
    """Print how sounds that were too short are padded, if there are any. how: the end of the sentence."""
    from hear_axlstm.audio import TOO_SHORT

    if any(TOO_SHORT in why for why in failures.values()):
        tell(f"sounds that are too short are padded with zeros{how}")


def tell_unread(left_out: Sequence[Path]) -> bool:
    """Print how many files in folders are sounds that only PyAV and ffmpeg read, if there are any. Whether there are."""
    from hear_axlstm.audio import containers
    from hear_axlstm.files.find import by_suffix, unread

    missed = unread(left_out)
    if missed:
        count = several(len(missed), "sound")
        tell(f"NOT READ: {count} in folders ({by_suffix(missed)}): {containers.GET}; then repeat the command")
    return bool(missed)


def tell_left_out(left_out: Sequence[Path], *folders: Path, quiet: bool) -> bool:
    """Print which files a command on labelled sounds has left out. Whether some are sounds that only PyAV and ffmpeg read.

    folders: of classes; sounds that lie beside those are told by themselves. quiet: whether to print NOT READ alone.
    """
    from hear_axlstm.classification.labelled import loose_sounds
    from hear_axlstm.files.find import counted

    others = set(left_out)
    for folder in folders:
        if loose := loose_sounds(left_out, folder):
            others.difference_update(loose)
            if not quiet:
                count = several(len(loose), "sound")
                tell(f"left out: {count} in {folder} itself, such as {loose[0].name}, in no class's folder")
    if others and not quiet:
        tell(counted(sorted(others)).removeprefix("; "), WAY_TO_READ)
    return tell_unread(sorted(others))


def show(line: str | Path) -> None:
    """Print a line of what was asked for on stdout; a path as it is, byte by byte, for other programs."""
    if isinstance(line, Path):
        click.echo(os.fsencode(line))
    else:
        _print(sys.stdout, line)


def send(data: bytes) -> bool:
    """Write bytes on stdout at once. Whether more are wanted: not where it cannot be written, or someone has read enough."""
    stdout = sys.stdout.buffer
    stdout.write(data)
    stdout.flush()
    return getattr(getattr(stdout, "raw", None), "refused", None) is None


def _print(stream: TextIO | None, line: str) -> None:
    if stream is not None:
        stream.write(f"{printable(line)}\n")
        stream.flush()


def there_already(count: int) -> str:
    """What a run did not have to do again: "1 was there already", "2 were there already"."""
    return f"{count} {'was' if count == 1 else 'were'} there already"


@contextmanager
def reported(exit_code: int) -> Iterator[None]:
    """Print errors that users can mend without a traceback, and exit: with REFUSED where an option is bad."""
    try:
        yield
    except (HearAxlstmError, OSError, MemoryError) as error:
        tell(*f"error: {cause_of(error)}".split("\n"))  # some give steps, line by line
        sys.exit(REFUSED if isinstance(error, ConfigError) else exit_code)


@contextmanager
def failing(advice: str | Callable[[], str], *errors: type[Exception]) -> Iterator[None]:
    """Print errors in the middle of the work with advice on what to do next, and exit with FAILED.

    advice: what to print, or what gives it when there is an error.
    """
    try:
        yield
    except errors as error:
        tell(*f"error: {cause_of(error)}; {advice if isinstance(advice, str) else advice()}".split("\n"))
        sys.exit(FAILED)


@contextmanager
def unwarned(module: str = "hear_axlstm.files.run") -> Iterator[None]:
    """Keep a module from warning: that of ``embed``, of failures that are named here, or another."""
    log = logging.getLogger(module)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def cause_of(error: Exception) -> str:
    """What an error says, also where it says nothing."""
    return str(error) or ("out of memory" if isinstance(error, MemoryError) else type(error).__name__)


class _Outlet(io.FileIO):
    """A file descriptor that takes everything. refused: why something was not written, None when all was."""

    refused: OSError | None = None

    @property
    def failure(self) -> OSError | None:
        """Why something was not written, unless it is that someone has read enough, as ``head`` does."""
        return self.refused if self.refused and self.refused.errno != errno.EPIPE else None

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.refused = error
            return len(data)


@contextmanager
def _streams() -> Iterator[_Outlet | None]:
    """Make a stdout and stderr that never end the work, whether they are closed, full, or cannot show a character.

    Gives stdout, None where somebody has put another in its place. A closed descriptor is taken, read-only, or the first
    file that is opened would get its number, and whatever libraries print.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDONLY), True)
    if sys.stdout is not sys.__stdout__ or sys.stderr is not sys.__stderr__:
        yield None
        return
    before = sys.stdout, sys.stderr
    outlets = [_Outlet(number, "w", closefd=False) for number in (1, 2)]
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(io.BufferedWriter(outlet), getattr(old, "encoding", None), "backslashreplace", line_buffering=True)
        for outlet, old in zip(outlets, before, strict=True)
    )
    try:
        yield outlets[0]
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


class _Commands(click.Group):
    """A group of commands that lists them whole, and whose exit code says, too, when their output could not be written."""

    group_class = type

    def main(self, *arguments: Any, **options: Any) -> Any:
        with _streams() as stdout:
            try:
                return super().main(*arguments, **options)
            except SystemExit as end:
                sys.stdout.flush()
                if stdout is None or stdout.failure is None or end.code:
                    raise
                tell(f"error: stdout cannot be written ({stdout.failure.strerror}): its output is lost")
                sys.exit(FAILED)

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except KeyboardInterrupt:
            tell("", "interrupted: what was finished is kept, and the same command goes on from there")
            sys.exit(FAILED)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a line or more for each command: its first sentence, whole."""
        commands = [(name, self.get_command(context, name)) for name in self.list_commands(context)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, _first_sentence(command)) for name, command in commands if command is not None])

    def list_commands(self, context: click.Context) -> list[str]:
        """The commands in the order of ORDER, and of a group's own commands as they were made."""
        return sorted(self.commands, key=ORDER.index) if context.parent is None else list(self.commands)


def _first_sentence(command: click.Command) -> str:
    """What a command does, in the first sentence of its help."""
    return " ".join((command.help or "").split("\n\n")[0].split()).partition(". ")[0].rstrip(".")


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(hear_axlstm.__version__)
def main() -> None:
    """Turn sound into embeddings with AxLSTM, SSAM and SSAST encoders; train and score such encoders."""


def model_name(model: str) -> str:
    """The name of a model in results: its variant, or the last part of its path or repository that says something."""
    if not model or model in list_models():
        return model or str(read_manifest()["default"])
    path = Path(model).absolute()
    return path.parent.name if path.name == WEIGHTS_FILE else path.stem
