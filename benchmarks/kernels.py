"""Each operation of the blocks in Triton beside plain torch, forward and with gradients, on CUDA.

    python -m benchmarks.kernels [--batch 256] [--tokens 251]

Medians by events. Appends to benchmarks/results/kernels.json; a kernel whose values deviate is an error, and not timed.
"""

from itertools import cycle

import click
import torch

from benchmarks.operands import milliseconds, operations, results
from benchmarks.records import RESULTS, add_record, machine, table

ALLOWED = 5e-3  # relative deviation from float32, of float16
COPIES = 3  # of the operands, taken in turn


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
        times = {
            backend: milliseconds(lambda b=backend, f=action: f(b), arguments[0].device, repeats)
            for backend in ("triton", "torch")
        }
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
        for name, operation, arguments in operations(batch, tokens, width, "cuda"):
            rows.append({"width": width, "batch": batch, "tokens": tokens, **measure(name, operation, arguments, repeats)})
            click.echo(rows[-1])
    add_record(RESULTS / "kernels.json", {**machine(torch.device("cuda")), "kernels": rows})
    click.echo(table(list(rows[0]), [[str(cell) for cell in row.values()] for row in rows]))


if __name__ == "__main__":
    main()
