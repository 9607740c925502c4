"""What the commands share: exit codes, how errors are told, and how a model and a device are named."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import torch

import hear_axlstm
from hear_axlstm.config import Layout, Precision
from hear_axlstm.embedder import Embedder
from hear_axlstm.errors import ConfigError, HearAxlstmError
from hear_axlstm.hear import list_models, load_model
from hear_axlstm.weights.find import SOURCE_VARIABLE, default_variant, download

FAILED, REFUSED = 1, 2
GO_ON = "what was finished is kept: mend that, and repeat the command"

source_option = click.option(
    "--source",
    metavar="FOLDER|REPO",
    help=f"Your own weights: a folder, or a Hub repository owner/name[@revision]. Otherwise ${SOURCE_VARIABLE}.",
)


@contextmanager
def reported(exit_code: int) -> Iterator[None]:
    """Errors that users can mend are told without a traceback; bad options always exit with REFUSED."""
    try:
        yield
    except (HearAxlstmError, OSError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(REFUSED if isinstance(error, ConfigError) else exit_code)


@contextmanager
def failing(advice: str, *errors: type[Exception]) -> Iterator[None]:
    """Errors in the middle of the work are told with what to do about them."""
    try:
        yield
    except errors as error:
        click.echo(f"error: {error}; {advice}", err=True)
        sys.exit(FAILED)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(hear_axlstm.__version__)
def main() -> None:
    """Audio embeddings with AxLSTM, SSAM and SSAST encoders."""


def open_model(model: str | None, source: str | None, layout: Layout | None, precision: Precision) -> Embedder:
    return load_model(find_weights(model, source)[1], layout=layout, precision=precision)


def find_weights(model: str | None, source: str | None) -> tuple[str, Path]:
    """A name for the model, and the file of its weights. model: a file or a variant, the default one when left out."""
    if model is None:
        model = default_variant()
    if model in list_models():
        return model, download(model, source=source)
    if source is not None:
        raise ConfigError(f"--source goes with a variant's name, but the model is {model}")
    if not Path(model).is_file():
        raise ConfigError(f"model {model} is neither a file nor one of {', '.join(list_models())}")
    return Path(model).stem, Path(model)


def chosen_device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {name}: {str(error).splitlines()[0]}") from error
    return device
