"""Measure what a model's embeddings are centred on for similarity, and put it into the header of a weights file.

    python scripts/centre.py WEIGHTS SOUND-FOLDERS...

WEIGHTS is a file, or a variant that is bundled. It is rewritten in place with its tensors as they are, and
weights_manifest.json is brought up to date where it is bundled. SOUND-FOLDERS hold what the weights were trained on, or
what is like it, in the same proportions.
"""

import json
from pathlib import Path

import click
from safetensors.torch import load_file

from hear_axlstm import Embedder, embed, load_model
from hear_axlstm.audio import Wave
from hear_axlstm.centring import Centring
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.storage import sha256_of, write_text
from hear_axlstm.weights.find import PACKAGE, find_weights, manifest_path
from hear_axlstm.weights.load import read_header
from hear_axlstm.weights.save import write_weights

SOUNDS = 500  # or fewer; more measured the same
SUFFIXES = {".flac", ".wav", ".ogg", ".opus", ".mp3"}


def some(folders: tuple[Path, ...]) -> list[Path]:
    """At most SOUNDS files below the folders, taken evenly."""
    files = sorted(path for folder in folders for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return files[:: -(-len(files) // SOUNDS)]


def measured(model: Embedder, name: str, sounds: list[Path] | list[Wave]) -> Centring:
    """The centring of a model on files, or on clips at 16 kHz."""
    found = embed(sounds, model, sample_rate=SAMPLE_RATE, progress=True)
    if found.failures:
        raise click.ClickException(f"{len(found.failures)} sounds failed: {next(iter(found.failures.values()))}")
    return Centring.measured(found.matrix, f"the training sound of {name} ({len(sounds):,} clips)")


def describe(variant: str, entry: dict) -> None:
    """Bring the facts of a bundled file in a variant's row of the manifest up to date."""
    path = PACKAGE / entry["sources"]["bundled"]["file"]
    facts = {"sha256": sha256_of(path), "fingerprint": read_header(path)["sha256"], "bytes": path.stat().st_size}
    entry["sources"]["bundled"] |= facts
    click.echo(f"{variant}: {path}: {facts['bytes']:,} bytes")


@click.command()
@click.argument("weights")
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(weights: str, folders: tuple[Path, ...]) -> None:
    path = find_weights(weights)
    model, header = load_model(path), read_header(path)
    facts = measured(model, path.stem, some(folders)).facts(model)
    write_weights(header["config"], load_file(path), path, header["provenance"], layout=header["layout"], centring=facts)
    manifest = json.loads(manifest_path().read_text(encoding="utf-8"))
    for variant, entry in manifest["variants"].items():
        bundled = entry["sources"]["bundled"]
        if bundled and (PACKAGE / bundled["file"]).samefile(path):
            describe(variant, entry)
            write_text(manifest_path(), json.dumps(manifest, indent=2) + "\n")


if __name__ == "__main__":
    main()
