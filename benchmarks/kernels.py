"""Each operation of the blocks in Triton beside plain torch, forward and with gradients, on CUDA.

    python -m benchmarks.kernels [--batch 256] [--tokens 251]

Medians by events. Appends to benchmarks/results/kernels.json; a kernel whose values deviate is an error, and not timed.
"""

import statistics
from itertools import cycle

import click
import torch

from benchmarks.records import RESULTS, add_record, machine, table
from hear_axlstm.ops.conv import causal_conv_silu, conv_mix_gates
from hear_axlstm.ops.mlstm import gated_mlstm
from hear_axlstm.ops.norm import add_norm
from hear_axlstm.ops.scan import gated_scan

HEADS, STATES = 4, 24
ALLOWED = 5e-3  # relative deviation from float32, of float16
COPIES = 3  # of the operands, taken in turn


def operands(batch, tokens, width):
    """Name, function and operands of each operation, in the shapes of a variant with ``width``, E=3."""
    n = 3 * width

    def normal(*shape, scale=1.0, dtype=torch.float16):
        return (scale * torch.randn(*shape, device="cuda")).to(dtype).requires_grad_()

    def small(*shape, scale=1.0):
        return normal(*shape, scale=scale, dtype=torch.float32)

    x, z = normal(batch, tokens, 2 * n).chunk(2, dim=-1)
    gates, conv, mix = (
        small(2 * HEADS, n, scale=n**-0.5),
        (small(n, 1, 4, scale=0.5), small(n)),
        small(n // 4, 4, 4, scale=0.5),
    )
    decay = -torch.arange(1.0, STATES + 1, device="cuda").repeat(n, 1)
    yield "add_norm", lambda *a, **k: add_norm(*a, eps=1e-5, dtype=torch.float16, **k), (
        small(batch, tokens, width), normal(batch, tokens, width), small(width), None,
    )  # fmt: skip
    yield "causal_conv_silu", causal_conv_silu, (x, *conv)
    yield "conv_mix_gates", conv_mix_gates, (x, *conv, mix, gates, gates)
    yield "gated_mlstm", gated_mlstm, (
        normal(batch, tokens, n), normal(batch, tokens, n), z, small(batch, tokens, 2 * HEADS), mix, small(n), small(n),
    )  # fmt: skip
    yield "gated_scan", gated_scan, (
        normal(batch, tokens, n), normal(batch, tokens, n, scale=0.1), small(n), decay,
        normal(batch, tokens, STATES), normal(batch, tokens, STATES), small(n), z,
    )  # fmt: skip


def results(out):
    return out if isinstance(out, tuple) else (out,)


def milliseconds(action, repeats):
    for _ in range(3):
        action()
    times = []
    for _ in range(repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        action()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times)


def measure(name, operation, arguments, repeats):
    with torch.no_grad():
        wide = [a if a is None else a.float() for a in arguments]
        truth = results(operation(*wide, backend="torch"))
        ours = results(operation(*arguments, backend="triton"))
        deviation = max(float((a - b).norm() / b.norm()) for a, b in zip(ours, truth, strict=True))
    if deviation > ALLOWED:
        raise click.ClickException(
            f"{name} deviates from float32 by {deviation:.1e}; the speed of wrong values means nothing"
        )
    turn = cycle([[a if a is None else a.detach().clone().requires_grad_() for a in arguments] for _ in range(COPIES)])

    def forward(backend):
        with torch.no_grad():
            operation(*next(turn), backend=backend)

    def both(backend):
        given = next(turn)
        out = results(operation(*given, backend=backend))
        torch.autograd.grad([o.sum() for o in out], [a for a in given if a is not None])

    row = {"operation": name, "deviation": f"{deviation:.1e}"}
    for what, action in (("forward", forward), ("with gradients", both)):
        times = {backend: milliseconds(lambda b=backend, f=action: f(b), repeats) for backend in ("triton", "torch")}
        row |= {f"{what}, ms": f"{times['triton']:.3f}", f"torch {what}, ms": f"{times['torch']:.3f}"}
    return row


@click.command()
@click.option("--batch", default=256, show_default=True)
@click.option("--tokens", default=251, show_default=True)
@click.option("--width", "widths", type=int, multiple=True, default=[192, 384, 768], show_default=True)
@click.option("--repeats", default=20, show_default=True)
def main(batch, tokens, widths, repeats):
    """Time each operation in Triton beside plain torch, forward and with gradients, on CUDA."""
    if not torch.cuda.is_available():
        raise click.ClickException("no CUDA device: the Triton kernels cannot be timed here")
    rows = []
    for width in widths:
        for name, operation, arguments in operands(batch, tokens, width):
            rows.append({"width": width, "batch": batch, "tokens": tokens, **measure(name, operation, arguments, repeats)})
            click.echo(rows[-1])
    add_record(RESULTS / "kernels.json", {**machine(torch.device("cuda")), "kernels": rows})
    click.echo(table(list(rows[0]), [[str(cell) for cell in row.values()] for row in rows]))


if __name__ == "__main__":
    main()
