"""The ``reconstruct`` command: a sound in, a picture of what an encoder guesses of its hidden patches out."""

from __future__ import annotations

from pathlib import Path

import click

from hear_axlstm.cli.common import FAILED, REFUSED, device_option, main, model_option, quiet_option, reported, tell


@main.command("reconstruct")
@click.argument("sound", metavar="FILE")
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE.png",
    help="The picture goes into this file, which ends in .png, .pdf or .svg.",
)
@model_option
@click.option("--mask-ratio", type=float, default=0.5, help="Hide this share of the patches, between 0 and 1.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Every seed hides other patches.")
@click.option("--start", type=float, default=0.0, help="Show the sound from this second on.")
@device_option
@quiet_option
def reconstruct_command(
    sound: str, out: Path, model: str, mask_ratio: float, seed: int, start: float, device: str, quiet: bool
) -> None:
    """Draw what an encoder guesses of patches that are hidden.

    FILE is a sound, or the address of one. The picture shows up to 10 seconds of it: its log-mel, what is left of that,
    what the encoder guesses of the rest, and how far this is off. The same seed hides the same patches. Weights that were
    fine-tuned, or never pretrained, guess badly; the command says so.
    """
    from hear_axlstm.explore.page import writable
    from hear_axlstm.pretraining.picture import kind_of
    from hear_axlstm.pretraining.reconstruction import reconstruction
    from hear_axlstm.weights.find import find_weights
    from hear_axlstm.weights.load import read_header

    with reported(REFUSED):
        kind_of(writable(out))
        read_header(find_weights(model))
    with reported(FAILED):
        guessed = reconstruction(sound, model, mask_ratio=mask_ratio, seed=seed, start=start, device=device)
        guessed.draw(out)
    if not quiet:
        tell(guessed.summary, *guessed.notes, f"the picture: {out}")
