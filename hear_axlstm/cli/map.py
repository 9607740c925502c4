"""The ``map`` command: a folder of embeddings in, one HTML page with a map of its sounds out."""

from __future__ import annotations

from pathlib import Path

import click

from hear_axlstm.cli.common import REFUSED, main, quiet_option, reported, tell
from hear_axlstm.progress import several


@main.command("map")
@click.argument("embeddings", metavar="EMBEDDINGS", type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path), metavar="FILE.html", help="The map goes into this file."
)
@click.option(
    "--color",
    metavar="COLUMN",
    show_default=False,
    help="Colour by this column: folder, the default, seconds, or one that the parquet parts or the table have.",
)
@click.option(
    "--table",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Take the column from this CSV or parquet file. Its column name or path says which sound a row is of.",
)
@quiet_option
def map_command(embeddings: Path, out: Path, color: str | None, table: Path | None, quiet: bool) -> None:
    """Draw a map of embeddings, on which sounds that are alike lie together.

    EMBEDDINGS is a folder that `hear-axlstm embed` wrote. The map is one HTML file that needs no network: click on a sound
    to hear it, where its file is on this machine, and to see which are most similar to it. Of more than 20,000 sounds, an
    even sample is shown. A table without --color gives its column label, or its only other one.
    """
    from hear_axlstm.explore.map import draw_map

    with reported(REFUSED):
        drawn = draw_map(embeddings, out, color=color, table=table)
    if not quiet:
        tell(*drawn.notes, f"a map of {several(len(drawn), 'sound')}, coloured by {drawn.colouring.column}: {out}")
