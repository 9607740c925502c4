"""How fast the encoders are on this machine, how far off in the precision used, and where the time of a whole run goes.

    python -m benchmarks.encoders [axlstm-tiny ...] [--batch 1,16] [-o benchmarks/results/encoders.json]

Random weights: speed does not depend on them.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, get_args

import click
import numpy as np
import soundfile
import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.records import add_record, machine, table
from hear_axlstm.cli.common import REFUSED, reported
from hear_axlstm.config import CHUNK_FRAMES, HOP, N_MELS, SAMPLE_RATE, VARIANTS, Precision, variant_config
from hear_axlstm.embedder import Embedder
from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import ConfigError
from hear_axlstm.files import embed
from hear_axlstm.ops.backend import Backend, find_device

CHUNK_SECONDS = CHUNK_FRAMES * HOP / SAMPLE_RATE
WARM_UPS = 3
INPUT_BYTES = 256 << 20  # inputs are rotated, so that no cache holds them
MOST_INPUTS = 64
ACTIVE = 0.05  # standard deviation of what is added to every parameter, so that gates and decays are at work
ACCURACY_CHUNKS = 4


@dataclass(frozen=True)
class Rate:
    """The speed, accuracy and memory of one encoder at one batch size.

    chunks_per_second: chunks of 2 s, log-mel to tokens; from_waveform: the same from audio on the device to scene
    embeddings. eager: chunks a second of plain torch operations on the same weights. deviation, eager_deviation: norm of
    the difference of tokens from float32's, relative to their norm. peak_mib: memory beyond the weights, on CUDA.
    """

    variant: str
    batch: int
    precision: str
    backend: str
    chunks_per_second: float
    from_waveform: float
    eager: float | None
    deviation: float
    eager_deviation: float | None
    peak_mib: float | None

    @property
    def times_real_time(self) -> float:
        """Seconds of sound that one second turns into scene embeddings."""
        return self.from_waveform * CHUNK_SECONDS


@dataclass(frozen=True)
class EndToEnd:
    """The speed of embedding a folder of files, in hours of sound an hour, and the share of the time of each stage."""

    variant: str
    files: int
    seconds_each: float
    times_real_time: float
    shares: dict[str, float]


def active_encoder(variant: str) -> Encoder:
    """An encoder of random weights, the same every time, with every parameter moved off its initial value."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = Encoder(variant_config(variant)).eval()
        with torch.no_grad():
            for parameter in encoder.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=ACTIVE)
    return encoder


def measure_encoders(
    variants: Sequence[str],
    batches: Sequence[int],
    device: torch.device,
    *,
    precision: Precision = "auto",
    backend: Backend = "auto",
    eager: bool = True,
    seconds: float = 2.0,
    progress: bool = False,
) -> Iterator[Rate]:
    """The rates of each variant at each number of chunks: medians of runs of ``seconds`` s, after WARM_UPS runs.

    Raises ConfigError on an unknown variant or a batch below 1, BackendError when a backend that was named cannot run.
    """
    for variant in variants:
        variant_config(variant)
    if min(batches) < 1:
        raise ConfigError(f"batch is {min(batches)}; expected 1 chunk or more")
    for variant in tqdm(variants, unit="variant", disable=not progress):
        model = Embedder(active_encoder(variant), precision=precision, backend=backend).to(device)
        with torch.no_grad():
            chunks = torch.randn(ACCURACY_CHUNKS, CHUNK_FRAMES, N_MELS, device=device)
            truth = model.encoder(chunks, backend="torch")
            deviation = _deviation(_tokens(model, chunks), truth)
            eager_deviation = _deviation(_eager_tokens(model, chunks), truth) if eager else None
            for batch in batches:
                peak, rate = _rate(partial(_tokens, model), _chunks(batch, device), seconds)
                yield Rate(
                    variant,
                    batch,
                    str(model.compute_dtype).removeprefix("torch."),
                    backend,
                    rate,
                    _rate(model, _audio(batch, device), seconds)[1],
                    _rate(partial(_eager_tokens, model), _chunks(batch, device), seconds)[1] if eager else None,
                    deviation,
                    eager_deviation,
                    peak,
                )


def _tokens(model: Embedder, spectrogram: Tensor) -> Tensor:
    """The tokens of chunks, as the model computes them on its way to embeddings. Shape: (C, 200, 80) -> (C, L, D)."""
    with _autocast(model):
        return model._encode(model.compute_dtype, None)(spectrogram)


def _eager_tokens(model: Embedder, spectrogram: Tensor) -> Tensor:
    """The same tokens by plain torch operations, launched one by one."""
    with _autocast(model):
        return model.encoder(spectrogram, backend="torch")


def _autocast(model: Embedder) -> torch.autocast:
    return torch.autocast(model.device.type, dtype=model.compute_dtype, enabled=model.compute_dtype != torch.float32)


def _deviation(ours: Tensor, truth: Tensor) -> float:
    return float((ours - truth).norm() / truth.norm())


def _chunks(batch: int, device: torch.device) -> list[Tensor]:
    return _inputs(torch.randn(batch, CHUNK_FRAMES, N_MELS, device=device))


def _audio(batch: int, device: torch.device) -> list[Tensor]:
    return _inputs(torch.rand(batch, round(CHUNK_SECONDS * SAMPLE_RATE) - HOP, device=device) - 0.5)


def _inputs(first: Tensor) -> list[Tensor]:
    count = min(MOST_INPUTS, 1 + INPUT_BYTES // first.nbytes) if first.is_cuda else 2
    return [first, *(torch.randn_like(first) * first.std() for _ in range(count - 1))]


def _rate(function: Callable[[Tensor], Tensor], inputs: list[Tensor], seconds: float) -> tuple[float | None, float]:
    """The peak memory of a run in MiB, on CUDA alone, and the items that it does a second."""
    device, turn = inputs[0].device, cycle(inputs)
    for _ in range(WARM_UPS):
        function(next(turn))
    peak = None
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        function(next(turn))
        torch.cuda.synchronize(device)
        peak = (torch.cuda.max_memory_allocated(device) - before) / 2**20
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        times.append(_seconds(lambda: function(next(turn)), device))
    return peak, len(inputs[0]) / statistics.median(times)


def _seconds(action: Callable[[], object], device: torch.device) -> float:
    if device.type != "cuda":
        start = time.perf_counter()
        action()
        return time.perf_counter() - start
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    with torch.cuda.device(device):
        begin.record()
        action()
        end.record()
        end.synchronize()
    return begin.elapsed_time(end) / 1_000


def measure_end_to_end(
    variant: str,
    device: torch.device,
    *,
    files: int,
    seconds_each: float = 10.0,
    precision: Precision = "auto",
    backend: Backend = "auto",
) -> EndToEnd:
    """Embed a folder of noise, 16-bit WAV at 16 kHz, twice to other folders, and time the second run."""
    model = Embedder(active_encoder(variant), precision=precision, backend=backend).to(device)
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        sounds = Path(folder) / "sounds"
        sounds.mkdir()
        for index in range(files):
            wave = random.uniform(-0.5, 0.5, round(seconds_each * SAMPLE_RATE)).astype(np.float32)
            soundfile.write(sounds / f"{index:06}.wav", wave, SAMPLE_RATE)
        for run in ("first", "second"):
            result = embed([sounds], model, out=Path(folder) / run)
    total = sum(result.seconds.values())
    shares = {stage: spent / total for stage, spent in result.seconds.items()}
    return EndToEnd(variant, files, seconds_each, files * seconds_each / total, shares)


def rates_table(rates: Sequence[Rate]) -> str:
    """The rates as a Markdown table, a row each."""
    head = [
        "variant", "batch", "precision", "chunks/s", "eager", "speed-up", "from waveform", "x real time", "MiB a chunk",
        "deviation", "eager's",
    ]  # fmt: skip
    rows = [
        [
            rate.variant,
            str(rate.batch),
            rate.precision,
            f"{rate.chunks_per_second:,.1f}",
            "" if rate.eager is None else f"{rate.eager:,.1f}",
            "" if rate.eager is None else f"{rate.chunks_per_second / rate.eager:.1f}",
            f"{rate.from_waveform:,.1f}",
            f"{rate.times_real_time:,.0f}",
            "" if rate.peak_mib is None else f"{rate.peak_mib / rate.batch:.2f}",
            f"{rate.deviation:.1e}",
            "" if rate.eager_deviation is None else f"{rate.eager_deviation:.1e}",
        ]
        for rate in rates
    ]
    return table(head, rows)


def end_to_end_table(runs: Sequence[EndToEnd]) -> str:
    """The end-to-end runs as a Markdown table, with the share of each stage in percent."""
    stages = list(dict.fromkeys(stage for run in runs for stage in run.shares))
    head = ["variant", "files", "s each", "x real time", *stages]
    rows = [
        [run.variant, str(run.files), f"{run.seconds_each:g}", f"{run.times_real_time:,.0f}"]
        + [f"{100 * run.shares.get(stage, 0):.0f} %" for stage in stages]
        for run in runs
    ]
    return table(head, rows)


def results(rates: Sequence[Rate], runs: Sequence[EndToEnd]) -> dict[str, Any]:
    """The measurements as JSON values, which ``Rate`` and ``EndToEnd`` are made of again."""
    return {"rates": [asdict(rate) for rate in rates], "end_to_end": [asdict(run) for run in runs]}


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("variants", nargs=-1, type=click.Choice(list(VARIANTS)), metavar="[VARIANTS]...")
@click.option("--batch", "batches", metavar="N,N,...", help="Chunks of 2 s at once; 1,16,64,256 on CUDA, else 1,8.")
@click.option("--device", default="auto", help="cpu, cuda, cuda:1, ...; auto is cuda when there is one.")
@click.option("--precision", type=click.Choice(get_args(Precision)), default="auto")
@click.option("--backend", type=click.Choice(get_args(Backend)), default="auto")
@click.option("--eager/--no-eager", default=True, help="Measure plain torch operations beside it.")
@click.option("--seconds", type=click.FloatRange(min=0), default=2.0, help="Shortest time of each measurement.")
@click.option("--files", type=click.IntRange(min=0), default=64, help="Files of 10 s to embed end to end; 0: none.")
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), help="JSON file to append the results to.")
def main(
    variants: tuple[str, ...],
    batches: str | None,
    device: str,
    precision: Precision,
    backend: Backend,
    eager: bool,
    seconds: float,
    files: int,
    out: Path | None,
) -> None:
    """Measure how fast VARIANTS are on this machine, and where the time of an end-to-end run goes; all nine by default."""
    with reported(REFUSED):
        on = find_device(device)
        batches = batches or ("1,16,64,256" if on.type == "cuda" else "1,8")
        try:
            sizes = [int(size) for size in batches.split(",")]
        except ValueError as error:
            raise ConfigError(f"--batch is {batches!r}; expected numbers such as 1,16") from error
        chosen = variants or tuple(name for name in VARIANTS if not name.endswith("-e2"))
        options: dict[str, Any] = {"precision": precision, "backend": backend}
        rates = list(measure_encoders(chosen, sizes, on, eager=eager, seconds=seconds, progress=True, **options))
        click.echo(rates_table(rates))
        runs = [measure_end_to_end(name, on, files=files, **options) for name in chosen if files]
        if runs:
            click.echo(end_to_end_table(runs))
        if out is not None:
            add_record(out, {**machine(on), **results(rates, runs)})


if __name__ == "__main__":
    main()
