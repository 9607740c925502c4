"""The ``hear-axlstm`` command: parse, check early, call one public function, return an honest exit code.

Exit codes: 0 all done; 1 something failed; 2 the command cannot be carried out as given.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import click
import torch

import hear_axlstm
from hear_axlstm.audio import AudioFormat
from hear_axlstm.bench import add_to, end_to_end_table, measure_encoders, measure_end_to_end, rates_table
from hear_axlstm.config import VARIANTS, InputGate, Layout, Precision
from hear_axlstm.embedder import Embedder
from hear_axlstm.errors import AudioError, ConfigError, HearAxlstmError, TrainingError
from hear_axlstm.files import embed
from hear_axlstm.hear import list_models, load_model
from hear_axlstm.kernels.backend import Backend
from hear_axlstm.output import Format
from hear_axlstm.pretraining.loop import pretrain
from hear_axlstm.pretraining.recipe import read_recipe, recipe_names
from hear_axlstm.pretraining.shards import FILES_PER_SHARD, ShardFormat, write_shards
from hear_axlstm.probing.probe import CLIPS_PER_CLASS, Report, is_held_out, probe
from hear_axlstm.probing.tasks import TASKS
from hear_axlstm.sounds import find_files
from hear_axlstm.storage import replacing
from hear_axlstm.synthesis import corpus
from hear_axlstm.synthesis.corpus import write_corpus
from hear_axlstm.weights.convert import convert_checkpoint
from hear_axlstm.weights.format import load_weights
from hear_axlstm.weights.hub import manifest_lines, publish
from hear_axlstm.weights.manifest import Entry, read_manifest
from hear_axlstm.weights.resolve import SOURCE_VARIABLE, cache_file, default_variant, download, require_variant

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


@main.command("embed")
@click.argument("inputs", metavar="FILES-OR-FOLDERS...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write to.")
@click.option("--model", metavar="PATH|VARIANT", help="Weights file or variant name; the bundled default otherwise.")
@source_option
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
    model: str | None,
    source: str | None,
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
        embedder = _open_model(model, source, layout, precision).to(_device(device))
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


def _open_model(model: str | None, source: str | None, layout: Layout | None, precision: Precision) -> Embedder:
    if model is None:
        model = default_variant()
    if model not in list_models():
        if source is not None:
            raise ConfigError(f"--source goes with a variant's name, but the model is {model}")
        if not Path(model).is_file():
            raise ConfigError(f"model {model} is neither a file nor one of {', '.join(list_models())}")
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
        on = _device(device)
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


@main.command("synthesize")
@click.argument("kind", type=click.Choice(get_args(corpus.Kind)))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), required=True, help="Of sound in all, at this seed.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Another seed makes other clips, beside the first's.")
@click.option("--clip-seconds", type=click.FloatRange(0.1, 60), default=10.0)
@click.option("--format", type=click.Choice(get_args(AudioFormat)), default="flac", help="opus: smaller, not exact, slow.")
@click.option("--soundfont", metavar="PATH", type=click.Path(path_type=Path), help="For music; TimGM6mb where installed.")
@click.option("--workers", type=click.IntRange(min=1), help="Clips made at once; as many as processors.")
def synthesize_command(kind: corpus.Kind, out: Path, hours: float, **options: Any) -> None:
    """Make hours of sound to train on: procedural, speech (by espeak-ng) or music (by fluidsynth).

    Writes KIND-SEED-NUMBER.flac into the folder OUT. A second run makes what is missing.
    """
    with reported(REFUSED), failing(GO_ON, AudioError, OSError):
        made = write_corpus(out, kind, hours, progress=True, **options)
    click.echo(f"{made} clips made: {out}", err=True)


@main.command("shards")
@click.argument("inputs", metavar="FILES-OR-FOLDERS...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write to.")
@click.option("--format", type=click.Choice(get_args(ShardFormat)), default="flac", help="16 kHz audio, or log-mels.")
@click.option("--clip-seconds", type=float, default=10.0, help="Longer recordings are cut into clips.")
@click.option("--files-per-shard", type=click.IntRange(min=1), default=FILES_PER_SHARD)
@click.option("--workers", type=click.IntRange(min=1), help="Threads; as many as processors.")
@click.option("--seed", type=int, default=0, help="Of the order of the files.")
@click.option("--overwrite", is_flag=True, help="Remove the folder's shards first, whatever they were made of.")
def shards_command(inputs: tuple[Path, ...], out: Path, **options: Any) -> None:
    """Pack audio files, and all audio files below folders, into webdataset shards to pretrain on.

    A second run makes the shards that are missing.
    """
    with reported(REFUSED), failing(GO_ON, OSError):
        packed = write_shards(inputs, out, progress=True, **options)
    for name, reason in packed.failures.items():
        click.echo(f"failed: {name}: {reason}", err=True)
    click.echo(
        f"{len(packed.shards)} shards, {packed.clips} clips, {packed.seconds / 3600:.2f} hours, "
        f"{len(packed.failures)} files failed: {out}",
        err=True,
    )
    sys.exit(FAILED if packed.failures else 0)


@main.command("recipes")
def recipes_command() -> None:
    """List the recipes that `pretrain` knows by name."""
    width = max(map(len, recipe_names()))
    for name in recipe_names():
        recipe = read_recipe(name, synthetic=1.0)
        click.echo(f"{name:{width}}  {recipe.encoder}" + (f"  subset {recipe.subset}" if recipe.subset < 1 else ""))


@main.command("pretrain")
@click.argument("recipe", metavar="RECIPE|FILE.toml")
@click.option("-o", "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the run.")
@click.option("--shards", multiple=True, help="Folder, tar file or pattern of shards; again for more.")
@click.option("--synthetic", type=float, help="Share of the clips that is synthesised while training.")
@click.option("--steps", type=click.IntRange(min=1), help="Updates in all, instead of epochs.")
@click.option("--subset", type=float, help="Share of the data that is used.")
@click.option("--batch", type=click.IntRange(min=1), help="Clips of one update, over all processes.")
@click.option("--seed", type=int)
@click.option("--cpu", is_flag=True, help="Train on the CPU, also where there is another device.")
@click.option("--micro-batch", type=click.IntRange(min=1), help="Clips of one pass of one process; 256 on CUDA, else 16.")
@click.option("--workers", type=click.IntRange(min=0), default=0, help="Processes that decode shards.")
@click.option("--checkpoint-minutes", type=click.FloatRange(min=0), default=5.0)
@click.option("--overwrite", is_flag=True, help="Start again in a folder that holds a run.")
def pretrain_command(
    recipe: str,
    out: Path,
    shards: tuple[str, ...],
    synthetic: float | None,
    steps: int | None,
    subset: float | None,
    batch: int | None,
    seed: int | None,
    **options: Any,
) -> None:
    """Train a new encoder by masked reconstruction, or go on with the run in the folder.

    RECIPE is a name of `hear-axlstm recipes`, or a TOML file with `base = "NAME"` and what differs. Starts under torchrun
    and accelerate launch, too. The folder gets model.safetensors, curve.csv, and logs for TensorBoard.
    """
    with reported(REFUSED):
        changes = {"synthetic": synthetic, "steps": steps, "subset": subset, "batch": batch, "seed": seed}
        settled = read_recipe(recipe, shards=shards or None, **changes)
        with failing(f"the last checkpoint is kept in {out}", AudioError, TrainingError, OSError):
            weights = pretrain(settled, out, progress=True, **options)
    if os.environ.get("RANK", "0") == "0":  # of the processes that torchrun starts, one
        click.echo(weights)


@main.command("probe")
@click.argument("model", metavar="[PATH|VARIANT]", required=False)
@source_option
@click.option("--tasks", metavar="A,B,...", help=f"Some of {', '.join(TASKS)}; all otherwise.")
@click.option(
    "--clips", type=click.IntRange(min=2), default=CLIPS_PER_CLASS, help="A class, to learn from and again to test."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of the clips.")
@click.option(
    "--soundfont",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="General MIDI SoundFont that no training sound is from; the system's FluidR3_GM.sf2 otherwise.",
)
@click.option("--device", default="auto", help="cpu, cuda, cuda:1, ...; auto is cuda when there is one.")
@click.option("--format", type=click.Choice(get_args(Report)), default="text", help="Of the report.")
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), help="File for the report; stdout otherwise.")
def probe_command(
    model: str | None,
    source: str | None,
    tasks: str | None,
    clips: int,
    seed: int,
    soundfont: Path | None,
    device: str,
    format: Report,
    out: Path | None,
) -> None:
    """Tell how good weights are, by small synthetic tasks that training sound has nothing to do with.

    Frozen embeddings, in both layouts, are classified by logistic regression and by their neighbours, beside those of
    random weights and statistics of the log-mel. Needs the extra [probe]; speech needs espeak-ng, music fluidsynth and
    FluidR3_GM.sf2. A task that cannot be run is told, and makes the exit code 1.
    """
    with reported(REFUSED):
        names = None if tasks is None else [name.strip() for name in tasks.split(",")]
        encoder = _open_model(model, source, None, "auto").encoder.to(_device(device))
        if soundfont is not None and not is_held_out(soundfont):
            click.echo(f"warning: {soundfont} is what training music is played with: music tasks are not held out", err=True)
        result = probe(encoder, names, seed=seed, clips_per_class=clips, soundfont=soundfont, progress=True)
    report = result.to_report(format)
    if out is None:
        click.echo(report, nl=False)
    else:
        with reported(FAILED), replacing(out) as temporary:
            temporary.write_text(report, encoding="utf-8")
    if result.not_run:
        click.echo(f"not run: {', '.join(result.not_run)}: the report says why", err=True)
        sys.exit(FAILED)
