"""Sounds in blocks of 40 ms, many in one batch, beside the whole sounds, and the time of a push."""

from __future__ import annotations

import time
from functools import partial
from statistics import median
from typing import Any

import torch

from benchmarks.gpu import missing  # noqa: F401 - before what imports sound files
from benchmarks.gpu.checks import Checks, rehearsing, require
from benchmarks.gpu.graphs import active, configs
from benchmarks.gpu.lengths import ALONE, deviation, noise
from hear_axlstm.config import EncoderConfig
from hear_axlstm.embedder import Embedder
from hear_axlstm.frontend import log_mel_frames
from hear_axlstm.stream import Streams

BLOCK = 640  # samples: 40 ms
SECONDS, SOUNDS, MANY = 5, 4, 64


@torch.no_grad()
def streamed(config: EncoderConfig, dtype: torch.dtype, device: str) -> dict[str, Any]:
    """Timestamp and scene embeddings of sounds that come in blocks, and of the whole."""
    samples = (1 if rehearsing() else SECONDS) * 16_000
    audio = noise(SOUNDS, samples)
    model = Embedder(active(config, device), precision=str(dtype).removeprefix("torch."))  # type: ignore[arg-type]
    stamps, scenes = model.timestamps(audio.to(device))[0], model(audio.to(device))
    streams = Streams(model, SOUNDS, statistics="running")
    for clip in audio:
        mel = log_mel_frames(clip[None].double(), [samples])
        streams.start(statistics=(mel.mean().item(), mel.std().item()))
    found: list[list[torch.Tensor]] = [[] for _ in range(SOUNDS)]
    for start in range(0, samples, BLOCK):
        pushed = streams.push({place: audio[place, start : start + BLOCK] for place in range(SOUNDS)})
        for place, steps in pushed.items():
            found[place].append(steps.embeddings)
    worst = 0.0
    for place in range(SOUNDS):
        found[place].append(streams.flush(place).embeddings)
        worst = max(worst, deviation(torch.cat(found[place]), stamps[place]), deviation(streams.scene(place), scenes[place]))
    require(worst <= ALONE[dtype], f"a sound in bits deviates by {worst:.1e}")
    return {"deviation": worst}


def push_ms(config: EncoderConfig, device: str) -> dict[str, Any]:
    """The median time of a push of 40 ms to one stream, and to many."""
    found, model = {}, Embedder(active(config, device))
    for count in (1, 2 if rehearsing() else MANY):
        streams = Streams(model, count, statistics=(0.0, 1.0))
        places, times = [streams.start() for _ in range(count)], []
        block = noise(count, BLOCK).numpy()
        for _ in range(5 if rehearsing() else 120):
            before = time.perf_counter()
            for steps in streams.push(dict(zip(places, block, strict=True))).values():
                steps.embeddings.cpu()
            times.append(1_000 * (time.perf_counter() - before))
        found[f"ms of a push to {count}"] = round(median(times[2:]), 2)
    return found


def main() -> None:
    """Check an encoder of each family."""
    torch.backends.cudnn.allow_tf32 = False
    checks, device = Checks(), "cpu" if rehearsing() else "cuda"
    for name, config in configs().items():
        for dtype in (torch.float32, torch.float16):
            words = str(dtype).removeprefix("torch.")
            checks.run(f"{name} {words}: in bits", partial(streamed, config, dtype, device))
        checks.run(f"{name}: a push", partial(push_ms, config, device))
    checks.end()


if __name__ == "__main__":
    main()
