"""CUDA graphs: what they compute, whether they follow the encoder, and what capturing costs.

A rehearsal replaces a graph by the call that it would capture.
"""

from __future__ import annotations

import copy
import threading
import time
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.checks import Checks, rehearsing, require
from hear_axlstm.config import AxLSTMConfig, EncoderConfig, SSAMConfig, SSASTConfig, variant_config
from hear_axlstm.encoder import Encoder
from hear_axlstm.kernels import graphs

CLOSE = 2e-3  # relative, of norms, in float16: other batch sizes may have other tiles and libraries' kernels
DTYPE = torch.float16


def configs() -> dict[str, EncoderConfig]:
    """An encoder of each family."""
    if not rehearsing():
        return {name: variant_config(name) for name in ("axlstm-tiny", "ssam-tiny", "ssast-tiny")}
    small: dict[str, Any] = {"width": 16, "depth": 1, "patch": (100, 40)}
    families = AxLSTMConfig(**small, flip=True), SSAMConfig(**small), SSASTConfig(**small, heads=2)
    return {f"a small {config.family}": config for config in families}


def active(config: EncoderConfig, device: str) -> Encoder:
    """An encoder whose every parameter was moved off its initial value."""
    torch.manual_seed(0)
    encoder = Encoder(config).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return encoder.to(device)


def encoded(encoder: Encoder, chunks: Tensor, *, captured: bool = True) -> Tensor:
    """The tokens of chunks as an Embedder has them encoded; not captured: launched kernel by kernel."""
    types = graphs.CAPTURED
    graphs.CAPTURED = types if captured else ()
    try:
        replay = graphs.replayed(encoder, DTYPE, "auto")
        require(replay is not None, "the encoder is not replayed")
        assert replay is not None
        return replay(chunks).clone()
    finally:
        graphs.CAPTURED = types


def deviation(ours: Tensor, expected: Tensor) -> float:
    require(ours.isfinite().all(), "a value is not finite")
    return float((ours.double() - expected.double()).norm() / expected.double().norm())


def same(encoder: Encoder, device: str) -> dict[str, Any]:
    """A graph's tokens beside those of its kernels launched one by one, for batches that fill it and that do not."""
    worst = 0.0
    for count in (1, 4, 5):
        chunks = torch.randn(count, 200, 80, device=device)
        ours = encoded(encoder, chunks)
        require(torch.equal(ours, encoded(encoder, chunks)), "two replays give other bits")
        worst = max(worst, deviation(ours, encoded(encoder, chunks, captured=False)))
    require(worst <= CLOSE, f"a graph deviates by {worst:.1e}")
    return {"deviation from single launches": worst}


def plain(encoder: Encoder, device: str) -> dict[str, Any]:
    """A graph of kernels in float16 beside plain torch in float32, and beside plain torch under autocast."""
    chunks = torch.randn(4, 200, 80, device=device)
    with torch.no_grad():
        truth = copy.deepcopy(encoder).double()(chunks.double(), backend="torch")
        with torch.autocast(device, DTYPE):
            eager = deviation(encoder(chunks, backend="torch"), truth)
    ours = deviation(encoded(encoder, chunks), truth)
    require(ours <= 1.5 * eager, f"it deviates by {ours:.1e}, plain torch by {eager:.1e}")
    return {"deviation from float64": ours, "plain torch's under autocast": eager}


def followed(encoder: Encoder, device: str) -> dict[str, Any]:
    """A step of an optimiser, other weights, and weights elsewhere in memory are followed."""
    chunks = torch.randn(2, 200, 80, device=device)
    encoder = copy.deepcopy(encoder)
    before = encoded(encoder, chunks)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-2, fused=True)
    with torch.enable_grad():
        encoder(chunks, backend="torch").square().sum().backward()
    optimizer.step()
    for change in ("a step", "other weights", "weights elsewhere"):
        if change == "other weights":
            encoder.load_state_dict({name: 0.9 * value for name, value in encoder.state_dict().items()})
        if change == "weights elsewhere":
            for parameter in encoder.parameters():
                parameter.data = 0.9 * parameter.data
        after = encoded(encoder, chunks)
        require(deviation(after, before) > 1e-3, f"{change} changed nothing")
        require(deviation(after, encoded(copy.deepcopy(encoder), chunks)) <= CLOSE, f"{change} is not followed")
        before = after
    return {}


def threads(encoder: Encoder, device: str) -> dict[str, Any]:
    """Threads that replay one graph at the same time, each on a stream of its own."""
    inputs = [torch.randn(2, 200, 80, device=device) for _ in range(4)]
    expected = [encoded(encoder, chunks) for chunks in inputs]
    found: list[Tensor | None] = [None] * 4

    def work(place: int) -> None:
        with torch.cuda.stream(None if rehearsing() else torch.cuda.Stream()):  # type: ignore[arg-type]
            for _ in range(2 if rehearsing() else 20):
                found[place] = encoded(encoder, inputs[place])
            if not rehearsing():
                torch.cuda.current_stream().synchronize()

    if not rehearsing():
        torch.cuda.synchronize()
    workers = [threading.Thread(target=work, args=(place,)) for place in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for place, tokens in enumerate(found):
        require(tokens is not None and torch.equal(tokens, expected[place]), f"thread {place} has other tokens")
    return {}


def capturing(encoder: Encoder, device: str) -> dict[str, Any]:
    """What the graphs of all sizes take to capture, in seconds and MiB beyond the encoder."""
    encoder, sizes = copy.deepcopy(encoder), (1, 2) if rehearsing() else graphs.GRAPH_SIZES
    before = 0 if rehearsing() else torch.cuda.memory_reserved()
    start = time.perf_counter()
    for size in sizes:
        encoded(encoder, torch.randn(size, 200, 80, device=device))
    memory = 0 if rehearsing() else torch.cuda.memory_reserved() - before
    return {"graphs": len(sizes), "seconds for all": round(time.perf_counter() - start, 2), "MiB": memory >> 20}


class Again:
    """Stands in for a CUDA graph: the same call once more."""

    def __init__(self, encode: graphs.Encode, spectrogram: Tensor, tokens: Tensor) -> None:
        self.encode, self.spectrogram, self.tokens = encode, spectrogram, tokens

    def replay(self) -> None:
        self.tokens.copy_(self.encode(self.spectrogram))

    def pool(self) -> None:
        return None


def without_cuda(encode: graphs.Encode, size: int, like: Tensor, _pool: Any) -> graphs.Graph:
    """A graph in a rehearsal."""
    spectrogram = like.new_zeros(size, *like.shape[1:])
    tokens = encode(spectrogram)
    return graphs.Graph(Again(encode, spectrogram, tokens), spectrogram, tokens)  # type: ignore[arg-type]


@torch.no_grad()
def main() -> None:
    """Check the graphs of an encoder of each family."""
    checks, device = Checks(), "cpu" if rehearsing() else "cuda"
    if rehearsing():
        graphs.CAPTURED, graphs.Graph.of = ("cpu",), without_cuda  # type: ignore[assignment, method-assign]
    for name, config in configs().items():
        encoder = active(config, device)
        for check in (same, plain, followed, threads, capturing):
            checks.run(f"{name}: {check.__name__}", partial(check, encoder, device))
    checks.end()


if __name__ == "__main__":
    main()
