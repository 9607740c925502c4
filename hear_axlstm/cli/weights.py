"""The commands about weights: ``models``, ``download``, ``convert``, ``export``, ``pack`` and ``publish``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, get_args

import click

import hear_axlstm
from hear_axlstm.cli.common import FAILED, layout_option, main, out_option, reported, show
from hear_axlstm.config import InputGate, known_name
from hear_axlstm.weights.find import architecture, find_weights, list_models, read_manifest


@main.command("models")
def models_command() -> None:
    """List the variants, their sizes, and where their weights are."""
    with reported(FAILED):
        manifest = read_manifest()
        width = max(map(len, manifest["variants"]))
        show(f"{'variant':{width}}  parameters  embedding  weights")
        for name, entry in manifest["variants"].items():
            where = _whereabouts(name, entry["sources"]) + (" (default)" if name == manifest["default"] else "")
            show(f"{name:{width}}  {entry['parameters']:>10,}  {architecture(name).embedding_size:>9,}  {where}")


def _whereabouts(variant: str, sources: dict[str, Any]) -> str:
    from hear_axlstm.weights.sources import cache_file

    if sources["bundled"]:
        return "bundled"
    if os.path.isfile(cached := cache_file(variant)):
        return str(cached)
    if sources["hub"]:
        return f"Hub: {sources['hub']['repo']}"
    if sources["drive"]:
        return f"authors' Google Drive: {sources['drive']['path'] or 'place not known'}"
    return "none known"


@main.command("download")
@click.argument("model", metavar="VARIANT|REPO")
def download_command(model: str) -> None:
    """Fetch and verify the weights of a variant or a repository.

    The path of the file is printed.
    """
    with reported(FAILED):
        if "/" not in model:
            known_name(model, list_models())
        show(find_weights(model))


@main.command("convert")
@click.argument("source", metavar="SOURCE", type=click.Path(path_type=Path))
@click.argument("target", metavar="TARGET.safetensors", type=click.Path(path_type=Path))
@click.option(
    "--flip/--no-flip",
    default=None,
    help="Say whether the odd blocks of an AxLSTM read backwards. By default they do at expansion 2; else it must be said.",
)
@click.option(
    "--input-gate", type=click.Choice(get_args(InputGate)), help="Say which input gate an AxLSTM has; by default exp."
)
@click.option(
    "--heads",
    type=click.IntRange(min=1),
    help="Say how many attention heads an SSAST has; by default width / 64, but at least 3.",
)
def convert_command(source: Path, target: Path, **options: Any) -> None:
    """Rewrite a released checkpoint as a safetensors file.

    SOURCE is a checkpoint (.pth) that the authors released, or a weights file (.safetensors) that an earlier version of
    this package wrote. No code that is in a checkpoint is run.
    """
    with reported(FAILED):
        config = hear_axlstm.convert_checkpoint(source, target, **options)
        show(f"{target}: {config}")


@main.command("export")
@click.argument("model", metavar="FILE|FOLDER|REPO|VARIANT")
@click.argument("target", metavar="TARGET.onnx", type=click.Path(path_type=Path))
@click.option(
    "--what",
    type=click.Choice(["scene", "timestamps", "tokens"]),
    default="scene",
    help="Export this: an embedding of each clip, one every 40 ms, or the encoder's tokens.",
)
@click.option("--seconds", type=float, help="Fix how long clips are; by default a graph takes any length.")
@layout_option
def export_command(model: str, target: Path, what: Any, seconds: float | None, layout: Any) -> None:
    """Write a model as an ONNX file, from waveform at 16 kHz to embedding.

    The file is there only if ONNX Runtime computes with it what torch does. How far they differ is printed; for a tiny
    encoder that takes half a minute.
    """
    with reported(FAILED):
        deviation = hear_axlstm.export(hear_axlstm.load_model(model, layout=layout), target, what, seconds)
        show(f"{target}: {what}, {target.stat().st_size / 1e6:.1f} MB, {deviation:.0e} from torch")


@main.command("pack")
@click.argument("model", metavar="FILE|FOLDER|REPO|VARIANT")
@out_option("Write into this folder.")
@click.option("--overwrite", is_flag=True, help="Replace files of the same names that differ.")
def pack_command(model: str, out: Path, overwrite: bool) -> None:
    """Write a folder that transformers and sentence-transformers open.

    It holds the weights as they are, a few files of JSON, a line of code that imports this package, and a model card.
    load_model and --model take it, too.
    """
    with reported(FAILED):
        hear_axlstm.pack(model, out, overwrite=overwrite)
        show(out)


@main.command("publish")
@click.argument("variant")
@click.argument("repo", metavar="OWNER/NAME")
@click.option(
    "--weights", default="", show_default=False, help="Push this file or folder; by default the weights that VARIANT names."
)
def publish_command(variant: str, repo: str, weights: str) -> None:
    """Push weights and a model card to the Hugging Face Hub.

    The repository is as `hear-axlstm pack` writes a folder, for transformers and sentence-transformers as well. The lines
    that pin the weights in weights_manifest.json are printed.
    """
    from hear_axlstm.weights.hub import publish

    with reported(FAILED):
        pinned = publish(variant, find_weights(weights, variant), repo)
        for line in json.dumps({"hub": pinned}, indent=2).splitlines():
            show(line)
