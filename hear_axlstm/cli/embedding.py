"""``embed`` and ``bench``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, get_args

import click

from hear_axlstm.bench import add_to, end_to_end_table, measure_encoders, measure_end_to_end, rates_table
from hear_axlstm.cli.common import FAILED, GO_ON, REFUSED, chosen_device, failing, main, model_option, reported
from hear_axlstm.config import VARIANTS, Layout, Precision
from hear_axlstm.errors import ConfigError
from hear_axlstm.files import embed
from hear_axlstm.files.find import find_files
from hear_axlstm.files.write import Format
from hear_axlstm.hear import load_model
from hear_axlstm.ops.backend import Backend


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


@main.command("bench")
@click.argument("variants", nargs=-1, type=click.Choice(list(VARIANTS)), metavar="[VARIANTS]...")
@click.option("--batch", "batches", metavar="N,N,...", help="Chunks of 2 s at once; 1,16,64,256 on CUDA, else 1,8.")
@click.option("--device", default="auto", help="cpu, cuda, cuda:1, ...; auto is cuda when there is one.")
@click.option("--precision", type=click.Choice(get_args(Precision)), default="auto")
@click.option("--backend", type=click.Choice(get_args(Backend)), default="auto")
@click.option("--eager/--no-eager", default=True, help="Measure plain torch operations beside it.")
@click.option("--seconds", type=click.FloatRange(min=0), default=2.0, help="Each measurement takes at least so long.")
@click.option("--files", type=click.IntRange(min=0), default=64, help="Embed so many files of 10 s end to end; 0: none.")
@click.option("--workers", type=click.IntRange(min=0), help="Of the end-to-end runs; as for embed.")
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), help="JSON file to append the results to.")
def bench_command(
    variants: tuple[str, ...],
    batches: str | None,
    device: str,
    precision: Precision,
    backend: Backend,
    eager: bool,
    seconds: float,
    files: int,
    workers: int | None,
    out: Path | None,
) -> None:
    """Measure how fast VARIANTS are on this machine, and where the time of an end-to-end run goes; all nine by default.

    Random weights: speed does not depend on them.
    """
    with reported(REFUSED):
        on = chosen_device(device)
        batches = batches or ("1,16,64,256" if on.type == "cuda" else "1,8")
        try:
            sizes = [int(size) for size in batches.split(",")]
        except ValueError as error:
            raise ConfigError(f"--batch is {batches!r}; expected numbers such as 1,16") from error
        chosen = variants or tuple(name for name in VARIANTS if not name.endswith("-e2"))
        options: dict[str, Any] = {"precision": precision, "backend": backend}
        rates = list(measure_encoders(chosen, sizes, on, eager=eager, seconds=seconds, progress=True, **options))
        click.echo(rates_table(rates))
        runs = [measure_end_to_end(name, on, files=files, workers=workers, **options) for name in chosen if files]
        if runs:
            click.echo(end_to_end_table(runs))
        if out is not None:
            add_to(out, on, rates, runs)
