"""Times, each part alone on the machine: python -m benchmarks.gpu.speed encoders|training|norm|operations|tiles.

Kernels whose values are wrong are not timed. In a rehearsal the sizes are tiny, and the times mean nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import mock

from benchmarks.gpu import missing  # noqa: F401 - before what imports sound files

import torch  # isort: skip
from torch import nn  # isort: skip

from benchmarks.gpu.checks import Checks, rehearsing, require
from benchmarks.gpu.graphs import active, configs, encoded
from benchmarks.operands import milliseconds, operation_of, results
from hear_axlstm.config import VARIANTS, variant_config
from hear_axlstm.encoder import Encoder

DEVICE = torch.device("cpu" if rehearsing() else "cuda")
BATCHES = (256, 1, 16, 64)  # in order of value
SECONDS = 0.3  # the shortest measurement
COPIED, SIDE = (2**20, 64) if rehearsing() else (4 * 2**30, 8192)
ALLOWED = 5e-3  # relative deviation of float16 from float32


def ceilings() -> dict[str, Any]:
    """What the device can do at best: bytes copied, read and written, and float16 products."""
    one = torch.randn(COPIED // 4, device=DEVICE)
    other = torch.empty_like(one)
    copying = milliseconds(lambda: other.copy_(one), DEVICE, 10)
    half = torch.float32 if rehearsing() else torch.float16
    a, b = (torch.randn(SIDE, SIDE, device=DEVICE).to(half) for _ in range(2))
    multiplying = milliseconds(lambda: a @ b, DEVICE, 10)
    return {"TB/s": 2 * COPIED / copying / 1e9, "TFLOP/s": 2 * SIDE**3 / multiplying / 1e9}


def floor(variant: str, found: dict[str, Any]) -> float:
    """Chunks a second of the linear maps alone at the measured ceiling; nothing can be faster."""
    with torch.device("meta"):
        encoder = Encoder(variant_config(variant))
    columns, rows = encoder.config.grid
    products = sum(m.in_features * m.out_features for m in encoder.blocks.modules() if isinstance(m, nn.Linear))
    return found["TFLOP/s"] * 1e12 / (2 * products * (columns * rows + 1))


def rate(variant: str, batch: int, checks: Checks) -> dict[str, Any]:
    """Chunks a second of a variant, of plain torch beside it, and the share of the floor."""
    from benchmarks.encoders import measure_encoders

    torch.cuda.empty_cache()
    (found,) = measure_encoders([variant], [batch], DEVICE, seconds=0.0 if rehearsing() else SECONDS)
    assert found.eager is not None
    values = {
        "batch": batch, "chunks/s": found.chunks_per_second, "plain torch": found.eager,
        "speed-up": found.chunks_per_second / found.eager, "from waveform": found.from_waveform,
        "times real time": found.times_real_time,
        "MiB": found.peak_mib, "deviation": found.deviation, "plain torch's": found.eager_deviation,
    }  # fmt: skip
    limits = checks.found["ceilings"].get("values")
    return {**values, "of the linear maps' floor": found.chunks_per_second / floor(variant, limits) if limits else None}


def encoders(checks: Checks) -> None:
    """The nine variants at every batch size, beside plain torch."""
    checks.run("ceilings", ceilings)
    names = ["ssast-tiny"] if rehearsing() else [name for name in VARIANTS if not name.endswith("-e2")]
    for batch in (1,) if rehearsing() else BATCHES:
        for name in names:
            checks.run(f"{name}, {batch} chunks", partial(rate, name, batch, checks))


def training(checks: Checks) -> None:
    """Clips a second of an update, our kernels and plain torch."""
    from benchmarks.pretraining import COLUMNS, measure

    def row(name: str, backend: str) -> dict[str, Any]:
        batch, updates = (2, 1) if rehearsing() else (512, 4)
        found = measure(name, backend, batch, 1 if rehearsing() else None, updates, rehearsing(), {})
        return {column: found[column] for column in COLUMNS if column in found}

    names = ["ssast-tiny"] if rehearsing() else ["axlstm-tiny", "ssam-tiny", "axlstm-base"]
    for backend in ("torch",) if rehearsing() else ("auto", "torch"):
        for name in names:
            checks.run(f"{name} {backend}", partial(row, name, backend))


def norm(checks: Checks) -> None:
    """Encoders with and without the fused addition and norm, in graphs."""
    from hear_axlstm.kernels import cuda

    def both(name: str, batch: int) -> dict[str, Any]:
        encoder = active(configs()[name] if rehearsing() else variant_config(name), DEVICE.type)
        chunks = torch.randn(batch, 200, 80, device=DEVICE)
        found = {}
        for word in ("fused", "plain torch"):
            others = {key: value for key, value in cuda.MODULES.items() if key != "add_norm"}
            modules = cuda.MODULES if word == "fused" else others
            with mock.patch.object(cuda, "MODULES", modules), torch.no_grad():
                cuda.find.cache_clear()
                own = Encoder(encoder.config).to(DEVICE)  # an encoder keeps its graphs
                own.load_state_dict(encoder.state_dict())
                repeats = 1 if rehearsing() else 20
                found[word] = batch * 1_000 / milliseconds(partial(encoded, own, chunks), DEVICE, repeats)
        cuda.find.cache_clear()
        return {"batch": batch, **{f"{word}, chunks/s": value for word, value in found.items()}}

    for name in list(configs())[:1] if rehearsing() else ("axlstm-tiny", "axlstm-base", "ssam-tiny"):
        for batch in (1,) if rehearsing() else (1, 16, 256):
            checks.run(f"{name}, {batch} chunks", partial(both, name, batch))


def timed(name: str, batch: int, width: int, *, gradients: bool = False, backend: str = "triton") -> float:
    """Milliseconds of an operation, forward or with gradients, on operands that no cache holds."""
    tokens = 5 if rehearsing() else 251
    dtype = torch.float32 if rehearsing() else torch.float16
    torch.manual_seed(0)
    operation, arguments = operation_of(name, batch, tokens, width, DEVICE, dtype)
    leaves = [a if a is None else a.detach().requires_grad_() for a in arguments]
    with torch.no_grad():
        wide = results(operation(*(a if a is None else a.float() for a in leaves), backend="torch"))
        ours = results(operation(*leaves, backend=backend))
        worst = max(float((a - b).norm() / b.norm()) for a, b in zip(ours, wide, strict=True))
    require(worst <= ALLOWED, f"it deviates by {worst:.1e}; the speed of wrong values means nothing")
    del wide, ours

    def forward() -> None:
        with torch.no_grad():
            operation(*leaves, backend=backend)

    def both() -> None:
        out = results(operation(*leaves, backend=backend))
        torch.autograd.grad([o.float().sum() for o in out], [a for a in leaves if a is not None])

    return milliseconds(both if gradients else forward, DEVICE, 1 if rehearsing() else 7)


def single(checks: Checks) -> None:
    """Each operation, forward and with gradients, beside plain torch."""

    def row(name: str, batch: int, width: int) -> dict[str, Any]:
        found = {}
        for gradients in (False, True):
            for backend in ("triton", "torch"):
                words = f"{'with gradients' if gradients else 'forward'} {backend}, ms"
                found[words] = timed(name, batch, width, gradients=gradients, backend=backend)
                torch.cuda.empty_cache()
        return {"batch": batch, "width": width, **found}

    batch = 1 if rehearsing() else 64
    for width in (16,) if rehearsing() else (192, 768, 384):
        for name in ("gated_mlstm", "gated_scan", "conv_mix_gates", "add_norm"):
            checks.run(f"{name}, width {width}", partial(row, name, batch, width))


@contextmanager
def setting(module: str, name: str, value: Any) -> Iterator[None]:
    """A number or a table of a kernel's module replaced in the block."""
    with mock.patch(f"hear_axlstm.kernels.{module}.{name}", value):
        yield


HUGE = 1 << 40
LIMITS = [  # operation, module, name of a limit; what 0 and a huge one choose
    ("gated_scan", "scan.cuda_forward", "FULL", "wide", "narrow"),
    ("add_norm", "norm.cuda", "FEW", "many rows", "few rows"),
    ("conv_mix_gates", "conv.cuda", "FEW", "large", "small"),
    ("conv_mix_gates", "conv.cuda", "MANY", "all channels a program", "few channels a program"),
]
TILES = {  # width of a variant -> x, y, warps, stages and widest piece for its heads; the first is the one in use
    192: ["64 64 4 2 64", "64 32 4 2 64", "128 64 8 2 64", "64 64 4 2 128", "64 64 4 3 64", "128 32 8 2 64"],
    768: ["64 32 8 2 128", "64 32 8 2 64", "64 64 8 1 128", "64 16 8 2 128", "64 32 4 2 128", "32 32 4 2 128"],
    384: ["64 32 4 2 64", "64 64 8 2 64", "128 32 8 2 64", "64 32 8 2 64", "64 32 4 2 128"],
}


def limits_row(operation: str, module: str, name: str, words: tuple[str, str], batch: int, width: int) -> dict[str, Any]:
    """Both choices of a limit, and which of them the limit in use makes."""
    found = {}
    for word, value in zip(words, (0, HUGE), strict=True):
        with setting(module, name, value):
            found[word] = timed(operation, batch, width)
    first, second = found.values()
    faster = words[0] if first < second else words[1]
    return {"batch": batch, "width": width, f"{name} = 0, ms": first, f"{name} huge, ms": second, "faster": faster,
            "as it is, ms": timed(operation, batch, width)}  # fmt: skip


def tile_row(tile: str, width: int, batch: int, *, gradients: bool) -> dict[str, Any]:
    """The mLSTM with another tiling. One that does not compile is a finding, no failure."""
    from triton.errors import TritonError

    from hear_axlstm.kernels.mlstm.cuda_tiles import Tiling

    table = {768: Tiling(*map(int, tile.split()))}
    try:
        with setting("mlstm.cuda_tiles", "HALF", table), setting("mlstm.cuda_tiles", "SINGLE", table):
            found: Any = timed("gated_mlstm", batch, width, gradients=gradients)
    except (TritonError, RuntimeError) as error:  # resources that there are not; a pass of the compiler that fails
        if isinstance(error, torch.AcceleratorError):
            raise
        found = f"does not compile ({type(error).__name__})"
    return {"width": width, "batch": batch, "x, y, warps, stages, piece": tile, "ms": found}


def tiles(checks: Checks) -> None:
    """The limits between tiles, and other tilings of the mLSTM's heads."""
    for width in (16,) if rehearsing() else (192, 768):
        for operation, module, name, *words in LIMITS:
            for batch in (1,) if rehearsing() else (1, 4, 16, 64):
                label = f"{operation} {name}, width {width}, {batch} chunks"
                checks.run(label, partial(limits_row, operation, module, name, (words[0], words[1]), batch, width))
    chosen = {16: ["16 16 4 2 16"]} if rehearsing() else TILES
    for gradients in (False, True):
        for width, tilings in chosen.items():
            for tile in tilings:
                words = "with gradients" if gradients else "forward"
                label = f"gated_mlstm {words}, width {width}, tiles {tile}"
                checks.run(label, partial(tile_row, tile, width, 1 if rehearsing() else 64, gradients=gradients), 40)


PARTS: dict[str, Callable[[Checks], None]] = {
    "encoders": encoders,
    "training": training,
    "norm": norm,
    "operations": single,
    "tiles": tiles,
}


def main() -> None:
    """Measure one part."""
    if rehearsing():
        from benchmarks.gpu.graphs import graphs, without_cuda

        graphs.CAPTURED, graphs.Graph.of = ("cpu",), without_cuda  # type: ignore[assignment, method-assign]
    checks = Checks()
    PARTS[sys.argv[1]](checks)
    checks.end()


if __name__ == "__main__":
    main()
