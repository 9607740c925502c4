"""How fast the encoders are on this machine, how far off in the precision used, and where the time of a whole run goes."""

from __future__ import annotations

import datetime
import json
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from hear_axlstm.audio import encode
from hear_axlstm.config import CHUNK_FRAMES, HOP, N_MELS, SAMPLE_RATE, Precision, variant_config
from hear_axlstm.embedder import Embedder
from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import ConfigError
from hear_axlstm.files import embed
from hear_axlstm.ops.backend import Backend
from hear_axlstm.storage import replacing
from hear_axlstm.version import __version__

CHUNK_SECONDS = CHUNK_FRAMES * HOP / SAMPLE_RATE
WARM_UPS = 3
INPUT_BYTES = 256 << 20  # inputs are rotated, so that no cache holds them
MOST_INPUTS = 64
ACTIVE = 0.05  # standard deviation of what is added to every parameter, so that gates and decays are at work
ACCURACY_CHUNKS = 4


@dataclass(frozen=True)
class Rate:
    """One encoder at one batch size.

    chunks_per_second: of 2 s each, log-mel to tokens; from_waveform: the same from audio on the device to scene embeddings.
    eager: that of plain torch operations on the same weights. deviation, eager_deviation: norm of the difference of
    tokens from float32's, relative to their norm. peak_mib: memory beyond the weights, on CUDA.
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
        return self.from_waveform * CHUNK_SECONDS


@dataclass(frozen=True)
class EndToEnd:
    """A folder of files embedded: hours of sound an hour, and the share of the time that went to each stage."""

    variant: str
    files: int
    seconds_each: float
    times_real_time: float
    shares: dict[str, float]


def machine(device: torch.device) -> dict[str, Any]:
    """What a result must be read with."""
    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else f"{torch.get_num_threads()} threads of {cpu_name()}",
        "driver": _driver() if cuda else None,
        "torch": torch.__version__,
        "triton": _version("triton"),
        "numba": _version("numba"),
        "hear_axlstm": __version__,
        "date": datetime.date.today().isoformat(),
    }


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _driver() -> str | None:
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]  # noqa: S603
    except (OSError, subprocess.CalledProcessError, IndexError):
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def active_encoder(variant: str) -> Encoder:
    """Random weights, the same every time, with every parameter moved off its initial value."""
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
    """The rates of each variant at each number of chunks; medians of the runs of ``seconds`` after WARM_UPS.

    Raises ConfigError on an unknown variant or a batch below 1, BackendError when a backend that was named cannot run.
    """
    for variant in variants:
        variant_config(variant)
    if min(batches) < 1:
        raise ConfigError(f"batch is {min(batches)}; expected 1 chunk or more")
    for variant in tqdm(variants, unit="variant", disable=not progress):
        model = Embedder(active_encoder(variant), precision=precision, backend=backend).to(device)
        plain = Embedder(active_encoder(variant), precision=precision, backend="torch").to(device)
        with torch.no_grad():
            chunks = torch.randn(ACCURACY_CHUNKS, CHUNK_FRAMES, N_MELS, device=device)
            truth = plain.encoder(chunks)
            deviation = _deviation(model.tokens(chunks), truth)
            eager_deviation = _deviation(_eagerly(plain, chunks), truth) if eager else None
            for batch in batches:
                peak, rate = _rate(model.tokens, _chunks(batch, device), seconds)
                yield Rate(
                    variant,
                    batch,
                    str(model.compute_dtype).removeprefix("torch."),
                    backend,
                    rate,
                    _rate(model, _audio(batch, device), seconds)[1],
                    _rate(partial(_eagerly, plain), _chunks(batch, device), seconds)[1] if eager else None,
                    deviation,
                    eager_deviation,
                    peak,
                )


def _eagerly(model: Embedder, spectrogram: Tensor) -> Tensor:
    """Every operation of plain torch launched by itself, with autocast to the model's precision."""
    dtype = model.compute_dtype
    with torch.autocast(spectrogram.device.type, dtype=dtype, enabled=dtype in (torch.float16, torch.bfloat16)):
        return model.encoder(spectrogram)


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
    """Peak memory of a run in MiB, on CUDA, and items a second."""
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
    workers: int | None = None,
) -> EndToEnd:
    """Embed a folder of noise, 16-bit WAV at 16 kHz, to another folder; twice, of which the second run is timed."""
    model = Embedder(active_encoder(variant), precision=precision, backend=backend).to(device)
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        sounds = Path(folder) / "sounds"
        sounds.mkdir()
        for index in range(files):
            wave = random.uniform(-0.5, 0.5, round(seconds_each * SAMPLE_RATE)).astype(np.float32)
            encode(sounds / f"{index:06}.wav", wave, "wav")
        for run in ("first", "second"):
            result = embed([sounds], model, out=Path(folder) / run, workers=workers)
    total = sum(result.seconds.values())
    shares = {stage: spent / total for stage, spent in result.seconds.items()}
    return EndToEnd(variant, files, seconds_each, files * seconds_each / total, shares)


def rates_table(rates: Sequence[Rate]) -> str:
    """A table for the terminal and for Markdown."""
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
    stages = list(dict.fromkeys(stage for run in runs for stage in run.shares))
    head = ["variant", "files", "s each", "x real time", *stages]
    rows = [
        [run.variant, str(run.files), f"{run.seconds_each:g}", f"{run.times_real_time:,.0f}"]
        + [f"{100 * run.shares.get(stage, 0):.0f} %" for stage in stages]
        for run in runs
    ]
    return table(head, rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown, with columns of even width."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * width for width in widths], *rows]
    return "".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |\n" for line in lines
    )


def add_to(path: Path, device: torch.device, rates: Sequence[Rate], runs: Sequence[EndToEnd]) -> None:
    """Append what was measured to a JSON file of such records."""
    records = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    records.append({**machine(device), "rates": [asdict(r) for r in rates], "end_to_end": [asdict(r) for r in runs]})
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
