"""Put the weights of a pretraining run into the package, halved, and describe them in weights_manifest.json.

    python scripts/bundle.py VARIANT --course RUN RECIPE... --layout time --sound "..." --device "..." [--default]

RUN is a folder that `hear-axlstm pretrain` wrote by the recipe of that name; where it began with another run's weights, that
one's course is given before it. Similarity is centred on clips as the last recipe draws them from shards; they must be there
still.
"""

import itertools
import json
from pathlib import Path
from typing import Any

import click
from centre import SOUNDS, describe, measured

from hear_axlstm.audio import Wave
from hear_axlstm.config import Layout
from hear_axlstm.embedder import Embedder
from hear_axlstm.pretraining.batches import Plan
from hear_axlstm.pretraining.recipe import Recipe, read_recipe
from hear_axlstm.pretraining.shard_clips import ShardClips
from hear_axlstm.pretraining.state import CURVE, WEIGHTS, read_curve
from hear_axlstm.storage import write_text
from hear_axlstm.weights.find import PACKAGE, manifest_path
from hear_axlstm.weights.load import load_weights
from hear_axlstm.weights.save import save_weights

POINTS = 20  # of the loss curve, each the mean of the updates since the one before
LICENCE = "Apache-2.0"  # the package's own


def heard(recipe: Recipe) -> list[Wave]:
    """SOUNDS clips, as a recipe draws them from its shards. Raises ClickException when it has none."""
    if not recipe.shards:
        raise click.ClickException("the run was trained without shards; expected some, on which similarity is centred")
    shards = ShardClips(recipe.shards)
    plan = Plan(recipe, len(shards), shards.groups)
    return [shards.wave(plan.drawn(place)) for place in range(SOUNDS)]


def trained(recipe: str, made: dict[str, Any], curve: Path, before: dict[str, Any] | None) -> dict[str, Any]:
    """How a run was trained. made: what its weights say of that. before: the same of the run that it began with, if any."""
    losses = [float(row["loss"]) for row in read_curve(curve)]
    edges = [round(point * len(losses) / POINTS) for point in range(POINTS + 1)]
    return {
        "recipe": recipe,
        "init": before or made.get("init", {}).get("name"),
        "teachers": made["recipe"]["targets"],
        "steps": made["steps"],
        "batch": made["recipe"]["batch"],
        "loss_curve": [
            [last, round(sum(losses[first:last]) / (last - first), 4)] for first, last in itertools.pairwise(edges)
        ],
    }


@click.command()
@click.argument("variant")
@click.option("--course", "courses", nargs=2, multiple=True, required=True, help="A run's folder, and its recipe's name.")
@click.option("--layout", type=click.Choice(Layout.__args__), required=True, help="The better one, by `hear-axlstm probe`.")
@click.option("--sound", required=True, help="What it was trained on, in a phrase.")
@click.option("--device", required=True, help="What it was trained with.")
@click.option("--default", is_flag=True, help="What load_model() returns.")
def main(variant: str, courses: tuple[tuple[str, str], ...], layout: Layout, sound: str, device: str, default: bool) -> None:
    training: dict[str, Any] | None = None
    fingerprint: str | None = None
    for run, recipe in courses:
        encoder, header = load_weights(Path(run) / WEIGHTS)
        made = header["provenance"]
        if fingerprint not in (None, made.get("init", {}).get("sha256")):
            raise click.ClickException(f"{run} did not begin with the weights of the course before; expected those")
        training, fingerprint = trained(recipe, made, Path(run) / CURVE, training), header["sha256"]
    file = Path("bundled") / f"{variant}.safetensors"
    training = {**training, "device": device}
    provenance = {"sound": sound, "hear_axlstm": made["hear_axlstm"], **training}
    parameters = sum(p.numel() for p in encoder.parameters())
    model = Embedder(encoder, layout=layout)
    encoder.layout, encoder.centring = layout, measured(model, variant, heard(read_recipe(recipe))).facts(model)
    save_weights(encoder.half(), PACKAGE / file, provenance)

    manifest = json.loads(manifest_path().read_text(encoding="utf-8"))
    manifest["variants"][variant] = {
        "architecture": encoder.config.to_dict(),
        "parameters": parameters,
        "licence": LICENCE,
        "training_data": sound,
        "training": training,
        "sources": {
            "bundled": {"file": file.as_posix()},
            "hub": None,
            "drive": None,
        },
    }
    describe(variant, manifest["variants"][variant])
    if default:
        manifest["default"] = variant
    write_text(manifest_path(), json.dumps(manifest, indent=2) + "\n")
    click.echo(f"loss {training['loss_curve'][0][1]:.3f} -> {training['loss_curve'][-1][1]:.3f}")


if __name__ == "__main__":
    main()
