"""``models``, ``download``, ``convert`` and ``publish``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from hear_axlstm.cli.common import FAILED, main, reported, source_option
from hear_axlstm.config import InputGate
from hear_axlstm.weights.find import cache_file, download, require_variant
from hear_axlstm.weights.hub import manifest_lines, publish
from hear_axlstm.weights.load import load_weights
from hear_axlstm.weights.manifest import Entry, read_manifest
from hear_axlstm.weights.released import convert_checkpoint


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
