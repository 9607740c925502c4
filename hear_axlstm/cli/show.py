"""The ``show`` command: one sound in, a picture or a page of its moments out."""

from __future__ import annotations

from pathlib import Path

import click

from hear_axlstm.cli.common import FAILED, REFUSED, device_option, main, model_option, quiet_option, reported, tell
from hear_axlstm.progress import several


@main.command("show")
@click.argument("sound", metavar="FILE")
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="PICTURE.png|PAGE.html",
    help="Write a picture, .png, .svg or .pdf, or a page that plays the sound, .html.",
)
@model_option
@device_option
@quiet_option
def show_command(sound: str, out: Path, model: str, device: str, quiet: bool) -> None:
    """Draw one sound: waveform, log-mel, and which moments are alike.

    FILE is a sound, or the address of one. Every moment is compared with every other, by their timestamp embeddings: blocks
    on the diagonal are stretches that stay alike, and stripes beside it are what comes again. In a page, a click plays from
    a moment and shows which are most like it. Of sounds of more than 40 s, neighbouring moments are averaged.
    """
    from hear_axlstm.explore.moments import drawable, moments
    from hear_axlstm.hear import load_model

    with reported(REFUSED):
        target = drawable(out)
        embedder = load_model(model, device=device)
    with reported(FAILED):
        shown = moments(sound, embedder)
        shown.draw(target)
    if not quiet:
        tell(f"{several(len(shown), 'moment')} of {shown.name}, every {1000 * shown.step:.0f} ms: {out}")
