"""Clips of mixed lengths, each beside itself alone, and a batch that does not fit into memory, beside one that does."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks.gpu.checks import Checks, rehearsing, require
from benchmarks.gpu.graphs import active, configs
from hear_axlstm.config import EncoderConfig
from hear_axlstm.embedder import CHUNKS_PER_BATCH, Embedder

LENGTHS = (80_000, 401, 32_000, 16_000, 31_999, 160_000)  # samples at 16 kHz
REHEARSED = (35_000, 401)
ALONE = {torch.float32: 1e-4, torch.float16: 5e-3}  # relative deviations, of norms: other shapes, other kernels and sums
SHARE = 0.25  # of what a whole batch takes, which is left to it


def noise(count: int, samples: int) -> Tensor:
    return torch.rand(count, samples, generator=torch.Generator().manual_seed(0)) - 0.5


def deviation(ours: Tensor, expected: Tensor) -> float:
    require(ours.isfinite().all(), "a value is not finite")
    expected = expected.to(ours.device)
    return float((ours.double() - expected.double()).norm() / expected.double().norm())


@torch.no_grad()
def mixed(config: EncoderConfig, dtype: torch.dtype, device: str) -> dict[str, Any]:
    """Scenes and timestamps of clips together, each alone, and by plain torch on the CPU in float32."""
    lengths = REHEARSED if rehearsing() else LENGTHS
    audio, encoder = noise(len(lengths), max(lengths)), active(config, "cpu")
    on_cpu = Embedder(encoder, backend="torch")(audio, lengths)
    model = Embedder(active(config, device), precision=str(dtype).removeprefix("torch."))  # type: ignore[arg-type]
    scenes, (stamps, times) = model(audio.to(device), lengths), model.timestamps(audio.to(device), lengths)
    worst = 0.0
    for place, length in enumerate(lengths):
        clip = audio[place : place + 1, :length].to(device)
        worst = max(worst, deviation(scenes[place : place + 1], model(clip)))
        own, own_times = model.timestamps(clip)
        count = own.shape[1]
        worst = max(worst, deviation(stamps[place : place + 1, :count], own))
        require(torch.equal(times[place, :count], own_times[0]), f"clip {place} has other times")
        require(not stamps[place, count:].any(), f"clip {place} has embeddings beyond its end")
    require(worst <= ALONE[dtype], f"a clip deviates by {worst:.1e} beside others")
    return {"deviation beside others": worst, "from a CPU in float32": deviation(scenes, on_cpu)}


@torch.no_grad()
def halved(config: EncoderConfig, device: str) -> dict[str, Any]:
    """A batch whose memory is a part of what it takes is cut in two until it fits, and computes the same."""
    count, clips = (4, 4) if rehearsing() else (CHUNKS_PER_BATCH["cuda"], 2 * CHUNKS_PER_BATCH["cuda"])
    audio = noise(clips, 31_840).to(device)
    expected = Embedder(active(config, device))(audio)
    model = Embedder(active(config, device))
    with _little_memory(model, count):
        found = model(audio)
    size = model.max_chunks
    require(size is not None and 1 <= size < count, f"{size} chunks at once: the memory was not too little")
    worst = deviation(found, expected)
    require(worst <= ALONE[torch.float16], f"it deviates by {worst:.1e}")
    again = deviation(model(audio), expected)
    require(again <= ALONE[torch.float16], f"with memory again, it deviates by {again:.1e}")
    return {"chunks at once, then": size, "deviation": worst}


@contextmanager
def _little_memory(model: Embedder, count: int) -> Iterator[None]:
    """Once the log-mels are there, encoding may take SHARE of what ``count`` chunks at once take."""
    if rehearsing():
        with _refusing(model, count):
            yield
        return
    total = torch.cuda.get_device_properties(0).total_memory
    chunks = torch.randn(count, 200, 80, device="cuda")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    with torch.autocast("cuda", torch.float16):
        model.encoder(chunks)
    taken = torch.cuda.max_memory_allocated() - before
    log_mel = model._log_mel

    def then_limited(*arguments: Any) -> Tensor:
        mel = log_mel(*arguments)
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + SHARE * taken) / total)
        return mel

    try:
        with mock.patch.object(model, "_log_mel", then_limited):
            yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@contextmanager
def _refusing(model: Embedder, count: int) -> Iterator[None]:
    """A rehearsal's memory, in which one chunk fits."""
    encode = model._encode

    def refusing(*options: Any) -> Any:
        encoded = encode(*options)

        def one_at_most(chunks: Tensor) -> Tensor:
            if len(chunks) > 1:
                raise torch.OutOfMemoryError("of the rehearsal")
            return encoded(chunks)

        return one_at_most

    at_once = mock.patch.dict("hear_axlstm.embedder.CHUNKS_PER_BATCH", cpu=count)
    with at_once, mock.patch.object(model, "_encode", refusing):
        yield


def main() -> None:
    """Check an encoder of each family."""
    logging.basicConfig(level=logging.INFO)  # the log says how often a batch was halved
    torch.backends.cudnn.allow_tf32 = False  # or cuDNN may round the patches of one batch and not those of another
    checks, device = Checks(), "cpu" if rehearsing() else "cuda"
    for name, config in configs().items():
        for dtype in (torch.float32, torch.float16):
            words = str(dtype).removeprefix("torch.")
            checks.run(f"{name} {words}: mixed lengths", partial(mixed, config, dtype, device))
        checks.run(f"{name}: out of memory", partial(halved, config, device))
    checks.end()


if __name__ == "__main__":
    main()
