"""Fetch recordings from Debian, set some apart as tasks to choose recipes by, and write the others as shards to train on.

    python scripts/open_sound.py OUT

It makes OUT/debs, the packages of open_sound.toml; OUT/sound/{speech,music,effects}, the recordings to train on;
OUT/shards/{speech,music,effects}, these as FLAC clips of 10 s; and OUT/apart, recordings that are in none of them: a table
for each task, as `hear-axlstm classify` reads it. What is there already is not made again. It needs apt-get, dpkg-deb and
6 GB of disk.
"""

import json
import os
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import click
from open_packages import KINDS, PACKAGES, Recording, fetch, recordings, unpack
from open_tasks import set_apart, write_tasks

from hear_axlstm.pretraining import write_shards
from hear_axlstm.storage import write_text

CLIP_SECONDS = 10.0
FILES_PER_SHARD = {"speech": 200, "music": 5, "effects": 50}


def sort(out: Path) -> None:
    """Unpack the packages, write the tasks, and lay out what is left to train on. OUT/sorted.json says that it is done."""
    unpacked = out / "unpacked"
    for name in PACKAGES:
        unpack(fetch(name, out / "debs"), unpacked / name)
    found = recordings(unpacked)
    tasks, apart = set_apart(found)
    for kind in KINDS:  # of an interrupted run, by which something else may have been set apart
        shutil.rmtree(out / "sound" / kind, ignore_errors=True)
    for sound in found:
        target = out / "sound" / str(sound.kind) / sound.package / sound.place.lstrip("/")
        if sound.kind and sound.path not in apart and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(sound.path, target)
    write_tasks(tasks, out / "apart")
    write_text(out / "sorted.json", json.dumps(summary(found, apart), indent=1) + "\n")


def summary(found: list[Recording], apart: set[Path]) -> list[dict[str, Any]]:
    """What there is of each package and kind: files and minutes to train on, files and minutes set apart."""
    groups = defaultdict(list)
    for sound in found:
        groups[sound.package, sound.kind].append(sound)
    rows = []
    for (package, kind), sounds in groups.items():
        held = [sound.seconds for sound in sounds if sound.path in apart or not kind]
        kept = [sound.seconds for sound in sounds if sound.path not in apart and kind]
        facts = {"files": len(kept), "minutes": sum(kept) / 60, "apart files": len(held), "apart minutes": sum(held) / 60}
        rows.append({"package": package, "kind": kind or "none", **facts})
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """Print the summary as a table."""
    click.echo(f"{'package':<30}{'kind':<10}{'files':>8}{'minutes':>9}{'apart':>8}{'minutes':>9}")
    for row in rows:
        kept, held = f"{row['files']:>8}{row['minutes']:>9.1f}", f"{row['apart files']:>8}{row['apart minutes']:>9.1f}"
        click.echo(f"{row['package']:<30}{row['kind']:<10}{kept}{held}")


@click.command()
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
def main(out: Path) -> None:
    if missing := [command for command in ("apt-get", "dpkg-deb") if not shutil.which(command)]:
        raise click.ClickException(f"there is no {' and no '.join(missing)} here; expected Debian, or a machine like it")
    if not (out / "sorted.json").exists():
        sort(out)
    shutil.rmtree(out / "unpacked", ignore_errors=True)
    for kind in KINDS:
        packed = write_shards(
            [out / "sound" / kind],
            out / "shards" / kind,
            clip_seconds=CLIP_SECONDS,
            files_per_shard=FILES_PER_SHARD[kind],
            progress=True,
        )
        for name, reason in packed.failures.items():
            click.echo(f"left out: {name}: {reason}", err=True)
        click.echo(f"{kind}: {packed.clips} clips, {packed.seconds / 60:.0f} minutes in {len(packed.shards)} shards")
    show(json.loads((out / "sorted.json").read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
