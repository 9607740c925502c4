"""The ``search`` and ``duplicates`` commands: a folder of embeddings in; what is like a sound, twice, or odd, out."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import click

from hear_axlstm.cli.common import (
    FAILED,
    REFUSED,
    main,
    quiet_option,
    reported,
    show,
    tell,
    tell_failures,
    tell_short,
    tell_unread,
    unwarned,
)
from hear_axlstm.errors import ConfigError
from hear_axlstm.progress import printable, several

embeddings_argument = click.argument("embeddings", metavar="OUT", type=click.Path(path_type=Path))


@main.command("search")
@embeddings_argument
@click.argument("queries", metavar="QUERIES...", nargs=-1, required=True, type=click.Path())
@click.option("-k", "k", type=click.IntRange(min=1), default=10, help="Print this many sounds for each query.")
@click.option("--exact", is_flag=True, help="Compare with every sound, also where there are more than 100,000.")
@click.option(
    "--model",
    default="",
    show_default=False,
    metavar="FILE|FOLDER|REPO|VARIANT",
    help="Take the weights from here; needed where those that OUT was made with do not come with this package.",
)
@quiet_option
def search_command(embeddings: Path, queries: tuple[str, ...], k: int, exact: bool, model: str, quiet: bool) -> None:
    """Find what is like QUERIES among the sounds embedded in OUT.

    QUERIES are files, folders, lists and addresses, as in `embed`. OUT is a folder that `embed` wrote, or an index that
    hear_axlstm.Index saved. Printed are rank, cosine, name and path; where stdout is no terminal, the query comes first, and
    tabs part the columns. The index of a folder is kept beside it, as OUT.index. A query that is in OUT finds itself first,
    but for equal ones.
    """
    from hear_axlstm.explore.search import open_index

    with reported(REFUSED):
        index = open_index(embeddings, progress=None if not quiet else False)
        with unwarned():
            asked = index.made.embed(list(queries), model, index.centring)
        if not len(asked) and not asked.left_out:
            raise ConfigError(f"no audio files below {', '.join(queries)}; expected files, or folders with some")
        found = index.query(asked, k, exact=exact)
    rows = zip(found.names, found.indices.tolist(), found.cosines.tolist(), asked.ok, strict=True)
    for query, places, cosines, ok in rows:
        if ok and sys.stdout.isatty():
            show(query)
        for rank, (place, cosine) in enumerate(zip(places, cosines, strict=True), 1):
            if place >= 0:
                _show_row([query], [f"{rank:3}", f"{cosine:.3f}", index.names[place], index.paths[place]])
    tell_failures(asked.failures)
    missed = tell_unread(asked.left_out)
    tell_short(asked.failures, " where OUT was made with --pad")
    sys.exit(FAILED if asked.failures or missed else 0)


@main.command("duplicates")
@embeddings_argument
@click.option(
    "--above", type=click.FloatRange(-1, 1, max_open=True), default=0.95, help="Print pairs whose cosine is above this."
)
@click.option("--odd", type=click.IntRange(min=0), default=10, help="Print this many sounds that are far from all others.")
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a CSV file; by default print to stdout.",
)
@quiet_option
def duplicates_command(embeddings: Path, above: float, odd: int, out: Path | None, quiet: bool) -> None:
    """Find what is twice among the sounds in OUT, or like no other.

    OUT is a folder that `embed` wrote, or an index that hear_axlstm.Index saved. Printed are pairs, the most similar first:
    "twice", the cosine and two names; then "odd", the cosine with the nearest other, the name, and that of the other.
    """
    from hear_axlstm.explore.search import open_index
    from hear_axlstm.explore.twice import duplicates

    with reported(REFUSED):
        progress = None if not quiet else False
        found = duplicates(open_index(embeddings, progress=progress), above, progress=progress)
        if out is not None:
            found.write_csv(out, odd)
    if out is None:
        for kind, cosine, one, other in found.rows(odd):
            _show_row([], [kind, f"{cosine:.3f}", found.names[one], found.names[other]])
    if not quiet:
        groups = found.groups()
        spare = sum(map(len, groups)) - len(groups)
        where = f": {out}" if out else ""
        tell(f"{several(len(found), 'pair')} above {above:g} among {several(len(found.names), 'sound')}{where}")
        if spare:
            tell(f"they make {several(len(groups), 'group')}; with one sound of each kept, {spare:,} would go")


def _show_row(before: Iterable[str], row: Iterable[str]) -> None:
    """Print a row on stdout: in columns for people, and between tabs, with what goes before it, for programs."""
    if sys.stdout.isatty():
        show("  ".join(row).rstrip())
    else:
        click.echo("\t".join(printable(field.strip()) for field in (*before, *row)))
