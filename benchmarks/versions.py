"""Whether this version computes what an earlier one did: embeddings, gradients and scores, recorded and compared.

    python -m benchmarks.versions record FILE      with the earlier version installed
    python -m benchmarks.versions compare [FILE]   with this one; the record of c334b76 otherwise

Values are compared on one machine, where equal code gives equal bits; on another one the order of sums may differ.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

import hear_axlstm

GOLDEN = Path(__file__).parents[1] / "tests" / "parity" / "golden"
RECORD = Path(__file__).parent / "results" / "c334b76.safetensors"
LENGTHS = [35_000, 5_000]
TASKS = "esc50,mridangam_stroke,libricount"
TOLERANCE = 1e-5  # of the largest value
HALF_TOLERANCE = 1e-2


def models(folder: Path) -> Iterator[tuple[str, Path | str]]:
    """The golden checkpoints, converted, and the default weights."""
    for checkpoint in sorted(GOLDEN.glob("*.pth")):
        with safe_open(checkpoint.with_suffix(".safetensors"), "pt") as file:
            facts = json.loads(file.metadata()["case"])
        is_axlstm = facts["family"] == "axlstm"
        options = {"flip": facts["flip"], "input_gate": facts["input_gate"]} if is_axlstm else {}
        hear_axlstm.convert_checkpoint(checkpoint, folder / f"{checkpoint.stem}.safetensors", **options)
        yield checkpoint.stem, folder / f"{checkpoint.stem}.safetensors"
    yield "default", ""


def encoded(folder: Path) -> dict[str, Tensor]:
    """Scenes, timestamps and the gradient of the patch embedding, by model and backend."""
    audio = torch.rand(len(LENGTHS), max(LENGTHS), generator=torch.Generator().manual_seed(0)) - 0.5
    found = {}
    for name, path in models(folder):
        for backend in ("torch", "auto"):
            model = hear_axlstm.load_model(path, backend=backend)
            with torch.no_grad():
                found[f"{name} {backend} scenes"] = model(audio, LENGTHS)
        model = hear_axlstm.load_model(path)
        with torch.no_grad():
            found[f"{name} timestamps"] = model.timestamps(audio, LENGTHS)[0]
        model(audio, LENGTHS).square().sum().backward()
        found[f"{name} gradient"] = next(p.grad for p in model.parameters() if p.ndim == 4)
        for precision in ("float16", "bfloat16"):
            with torch.no_grad():
                found[f"{name} {precision} scenes"] = hear_axlstm.load_model(path, precision=precision)(audio, LENGTHS)
    return found


def scores(folder: Path) -> dict[str, Tensor]:
    """The test scores of synthesised tasks, by seed."""

    def run(*arguments: Any) -> None:
        subprocess.run([sys.executable, "-m", "hear_axlstm", *map(str, arguments)], check=True)  # noqa: S603 - our own

    run("tasks", "generate", "-o", folder / "tasks", "--tasks", TASKS)
    run("evaluate", folder / "tasks", "--seeds", "2", "-o", folder / "results")
    found = [json.loads(path.read_text()) for path in (folder / "results").glob("*/scores/**/seed-*.json")]
    return {f"{score['task']} seed {score['seed']} score": torch.tensor([score["score"]]) for score in found}


@click.group()
def main() -> None:
    """Record or compare what the installed version computes."""
    torch.set_num_threads(1)


def computed() -> dict[str, Tensor]:
    with tempfile.TemporaryDirectory() as folder:
        return {**encoded(Path(folder)), **scores(Path(folder))}


@main.command("record")
@click.argument("file", type=click.Path(path_type=Path))
def record_command(file: Path) -> None:
    """Keep what the installed version computes in FILE."""
    save_file({name: tensor.contiguous() for name, tensor in computed().items()}, file)


@main.command("compare")
@click.argument("file", default=RECORD, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def compare_command(file: Path) -> None:
    """Print how far the installed version is from FILE; exit with 1 when it is too far."""
    before, now = load_file(file), computed()
    failed = before.keys() != now.keys()
    for name in sorted(before.keys() | now.keys()):
        if name not in before or name not in now:
            click.echo(f"{name}: only in {'the record' if name in before else 'this version'}")
            continue
        deviation = ((before[name] - now[name]).abs().max() / before[name].abs().max()).item()
        allowed = HALF_TOLERANCE if "float16" in name else TOLERANCE
        failed |= not deviation <= allowed
        click.echo(
            f"{name}: {'equal' if deviation == 0 else f'{deviation:.1e}'}{'' if deviation <= allowed else '  TOO FAR'}"
        )
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
