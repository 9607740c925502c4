"""The ``hear-axlstm`` command: parse, check early, call one public function, return an honest exit code.

Exit codes: 0 all done; 1 something failed; 2 the command cannot be carried out as given.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import click
import torch

import hear_axlstm
from hear_axlstm.config import InputGate, Layout, Precision
from hear_axlstm.embedder import Embedder
from hear_axlstm.errors import ConfigError, HearAxlstmError
from hear_axlstm.files import embed
from hear_axlstm.hear import list_models, load_model
from hear_axlstm.output import Format
from hear_axlstm.sounds import find_files
from hear_axlstm.weights.convert import convert_checkpoint
from hear_axlstm.weights.format import load_weights
from hear_axlstm.weights.hub import manifest_lines, publish
from hear_axlstm.weights.manifest import Entry, read_manifest
from hear_axlstm.weights.resolve import SOURCE_VARIABLE, cache_file, default_variant, download, require_variant

FAILED, REFUSED = 1, 2

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


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(hear_axlstm.__version__)
def main() -> None:
    """Audio embeddings with AxLSTM, SSAM and SSAST encoders."""


@main.command("embed")
@click.argument("inputs", metavar="FILES-OR-FOLDERS...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write to.")
@click.option("--model", metavar="PATH|VARIANT", help="Weights file or variant name; the bundled default otherwise.")
@source_option
@click.option("--timestamps", is_flag=True, help="One embedding every 40 ms instead of one a file.")
@click.option("--format", type=click.Choice(get_args(Format)), default="npy", help="A file a sound, or one dataset.")
@click.option("--layout", type=click.Choice(get_args(Layout)), default="released", help="How scene embeddings group tokens.")
@click.option("--precision", type=click.Choice(get_args(Precision)), default="auto")
@click.option("--device", default="auto", help="cpu, cuda, cuda:1, ...; auto is cuda when there is one.")
@click.option("--batch-seconds", type=click.FloatRange(min=0, min_open=True), help="Audio encoded at once; by device.")
@click.option("--workers", type=click.IntRange(min=1), help="Decoding threads; as many as processors.")
@click.option("--overwrite", is_flag=True, help="Remove the folder's embeddings first, whatever they were made with.")
def embed_command(
    inputs: tuple[Path, ...],
    out: Path,
    model: str | None,
    source: str | None,
    layout: Layout,
    precision: Precision,
    device: str,
    **options: Any,
) -> None:
    """Embed audio files, and all audio files below folders.

    Writes NAME.embedding.npy (and NAME.timestamps.json) as hear-eval-kit does, or parquet. A second run does what is
    missing or has changed.
    """
    with reported(REFUSED):
        if not find_files(inputs):
            raise ConfigError(f"no audio files below {', '.join(map(str, inputs))}")
        embedder = _open_model(model, source, layout, precision).to(_device(device))
        try:
            result = embed(inputs, embedder, out=out, progress=True, **options)
        except OSError as error:
            click.echo(f"error: {error}; what was finished is kept: make room and repeat the command", err=True)
            sys.exit(FAILED)
    for name, reason in result.failures.items():
        click.echo(f"failed: {name}: {reason}", err=True)
    click.echo(
        f"{len(result.names)} embedded, {len(result.skipped)} there already, {len(result.failures)} failed: {out}", err=True
    )
    sys.exit(FAILED if result.failures else 0)


def _open_model(model: str | None, source: str | None, layout: Layout, precision: Precision) -> Embedder:
    if model is None:
        model = default_variant()
    if model not in list_models():
        if source is not None:
            raise ConfigError(f"--source goes with a variant's name, but --model is {model}")
        if not Path(model).is_file():
            raise ConfigError(f"--model {model} is neither a file nor one of {', '.join(list_models())}")
        return load_model(model, layout=layout, precision=precision)
    return load_model(download(model, source=source), layout=layout, precision=precision)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {name}: {str(error).splitlines()[0]}") from error
    return device


@main.command("models")
def models_command() -> None:
    """List the variants, their size, and where their weights are."""
    manifest = read_manifest()
    width = max(map(len, manifest.variants))
    click.echo(f"{'variant':{width}}  parameters  embedding  weights")
    for name, entry in manifest.variants.items():
        where = _whereabouts(name, entry) + (" (default)" if name == manifest.default else "")
        click.echo(f"{name:{width}}  {entry.parameters:>10,}  {entry.architecture.embedding_size:>9,}  {where}")


def _whereabouts(variant: str, entry: Entry) -> str:
    if entry.bundled is not None:
        return "bundled"
    if (cached := cache_file(variant)).is_file():
        return str(cached)
    if entry.hub is not None:
        return f"Hub: {entry.hub.repo}"
    if entry.drive is not None:
        return f"authors' Google Drive: {entry.drive.path or 'not known to be there'}"
    return "none known"


@main.command("download")
@click.argument("variant")
@source_option
@click.option("--from-drive", is_flag=True, help="Fetch and convert the authors' checkpoint (needs the [drive] extra).")
def download_command(variant: str, source: str | None, from_drive: bool) -> None:
    """Fetch and verify the weights of VARIANT; print where they are."""
    with reported(FAILED):
        click.echo(download(variant, source=source, from_drive=from_drive))


@main.command("convert")
@click.argument("source", metavar="SOURCE.pth", type=click.Path(path_type=Path))
@click.argument("target", metavar="TARGET.safetensors", type=click.Path(path_type=Path))
@click.option("--flip/--no-flip", default=None, help="AxLSTM: odd blocks read backwards. On for E=2, else must be said.")
@click.option("--input-gate", type=click.Choice(get_args(InputGate)), help="AxLSTM: exp when left out.")
@click.option("--heads", type=click.IntRange(min=1), help="SSAST: width / 64, at least 3, when left out.")
def convert_command(source: Path, target: Path, **options: Any) -> None:
    """Rewrite a released checkpoint as safetensors, running nothing that is in it."""
    with reported(FAILED):
        config = convert_checkpoint(source, target, **options)
        click.echo(f"{target}: {config}")


@main.command("publish")
@click.argument("variant")
@click.argument("repo", metavar="OWNER/NAME")
@click.option("--weights", type=click.Path(path_type=Path), help="The file to push; what VARIANT resolves to otherwise.")
@source_option
@click.option("--licence", help="SPDX identifier for the model card, such as apache-2.0.")
@click.option("--private", is_flag=True)
def publish_command(variant: str, repo: str, weights: Path | None, source: str | None, **options: Any) -> None:
    """Push weights, configuration and a model card to the Hugging Face Hub; print what pins them."""
    with reported(FAILED):
        weights = download(variant, source=source) if weights is None else require_variant(variant, weights)
        load_weights(weights)  # nothing is published that could not be loaded
        click.echo(manifest_lines(publish(variant, weights, repo, **options)))
