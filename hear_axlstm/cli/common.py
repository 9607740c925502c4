"""Exit codes, error messages, and the model and device options that the commands share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import torch

import hear_axlstm
from hear_axlstm.errors import ConfigError, HearAxlstmError
from hear_axlstm.weights.find import WEIGHTS_FILE, list_models, read_manifest

FAILED, REFUSED = 1, 2
GO_ON = "what was finished is kept: mend that, and repeat the command"

model_option = click.option(
    "--model",
    default="",
    show_default=False,
    metavar="FILE|FOLDER|REPO|VARIANT",
    help="Weights: a file or folder, a Hub repository owner/name[@revision], or a variant; the bundled default otherwise.",
)


@contextmanager
def reported(exit_code: int) -> Iterator[None]:
    """Print errors that users can mend without a traceback, and exit: with REFUSED where an option is bad."""
    try:
        yield
    except (HearAxlstmError, OSError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(REFUSED if isinstance(error, ConfigError) else exit_code)


@contextmanager
def failing(advice: str, *errors: type[Exception]) -> Iterator[None]:
    """Print errors in the middle of the work with advice on what to do next, and exit with FAILED."""
    try:
        yield
    except errors as error:
        click.echo(f"error: {error}; {advice}", err=True)
        sys.exit(FAILED)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(hear_axlstm.__version__)
def main() -> None:
    """Audio embeddings with AxLSTM, SSAM and SSAST encoders."""


def model_name(model: str) -> str:
    """The name of a model in results: its variant, or the last part of its path or repository that says something."""
    if not model or model in list_models():
        return model or str(read_manifest()["default"])
    path = Path(model).absolute()
    return path.parent.name if path.name == WEIGHTS_FILE else path.stem


def chosen_device(name: str) -> torch.device:
    """The device of a name, or of "auto" the fastest there is. Raises ConfigError where it cannot be used."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {name}: {str(error).splitlines()[0]}") from error
    return device
