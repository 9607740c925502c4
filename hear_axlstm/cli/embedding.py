"""The ``embed`` command: audio files in, a folder of embeddings out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, get_args

import click

from hear_axlstm.cli.common import FAILED, GO_ON, REFUSED, chosen_device, failing, main, model_option, reported
from hear_axlstm.config import Layout, Precision
from hear_axlstm.errors import ConfigError
from hear_axlstm.files import embed
from hear_axlstm.files.find import find_files
from hear_axlstm.files.write import Format
from hear_axlstm.hear import load_model


@main.command("embed")
@click.argument("inputs", metavar="FILES-OR-FOLDERS...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write to.")
@model_option
@click.option("--timestamps", is_flag=True, help="One embedding every 40 ms instead of one a file.")
@click.option("--format", type=click.Choice(get_args(Format)), default="npy", help="A file a sound, or one dataset.")
@click.option("--layout", type=click.Choice(get_args(Layout)), help="How scene embeddings group tokens; the weights' own.")
@click.option("--precision", type=click.Choice(get_args(Precision)), default="auto")
@click.option("--device", default="auto", help="cpu, cuda, cuda:1, ...; auto is cuda when there is one.")
@click.option("--batch-seconds", type=click.FloatRange(min=0, min_open=True), help="Audio encoded at once; by device.")
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    help="Processes that decode; 0: threads of this one. As many as processors for CUDA, else 0.",
)
@click.option("--overwrite", is_flag=True, help="Remove the folder's embeddings first, whatever they were made with.")
def embed_command(
    inputs: tuple[Path, ...],
    out: Path,
    model: str,
    layout: Layout | None,
    precision: Precision,
    device: str,
    **options: Any,
) -> None:
    """Embed audio files, and all audio files below folders.

    Writes NAME.embedding.npy (and NAME.timestamps.json) as hear-eval-kit does, or parquet. A second run does what is
    missing or has changed.
    """
    with reported(REFUSED):
        sounds = find_files(inputs)
        if not sounds:
            raise ConfigError(f"no audio files below {', '.join(map(str, inputs))}")
        embedder = load_model(model, layout=layout, precision=precision).to(chosen_device(device))
        with failing(GO_ON, OSError):
            result = embed(sounds, embedder, out=out, progress=True, **options)
    for name, reason in result.failures.items():
        click.echo(f"failed: {name}: {reason}", err=True)
    total = sum(result.seconds.values())
    click.echo(
        f"{len(result.names)} embedded, {len(result.skipped)} there already, {len(result.failures)} failed: {out}\n"
        f"{total:.1f} s: {len(result.names) / total:.1f} sounds a second, {result.audio_seconds / total:.0f} x real time",
        err=True,
    )
    sys.exit(FAILED if result.failures else 0)
