"""Ask the teachers about every clip of OUT/shards, and write the shards again with what they said beside each clip.

    python scripts/teach.py OUT

OUT/shards/KIND/shard-NNNNNN.tar are shards of FLAC clips, as scripts/open_sound.py and `hear-axlstm shards` write them. It
makes OUT/teachers, the wheels with the weights; OUT/raw/TEACHER/KIND/shard-NNNNNN.npz, all that a teacher said; and
OUT/taught/KIND/shard-NNNNNN.tar, in which KEY.flac has KEY.TEACHER.npy beside it: float16, a row for every 40 ms.
OUT/taught/TEACHER.npz is the map from the one to the other: the strongest directions of a principal component analysis, each
brought to mean 0 and variance 1.

What is newer than what it is made of is not made again; new shards change the maps, and with them all of OUT/taught.
"""

import io
import multiprocessing
import tarfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache, partial
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from teachers import TEACHERS, Teach

from hear_axlstm.parallel import processors
from hear_axlstm.pretraining.shard_clips import ShardClips
from hear_axlstm.progress import progress_bar
from hear_axlstm.storage import replacing

SAMPLED = 20_000  # moments that a map is fitted to
CLIPS = 32  # asked about at once

Arrays = dict[str, NDArray[np.floating]]


class Place:
    """Where everything lies in OUT. A shard is known by KIND/shard-NNNNNN."""

    def __init__(self, out: Path) -> None:
        self.wheels = out / "teachers"
        self.shards = {f"{path.parent.name}/{path.stem}": path for path in sorted((out / "shards").glob("*/*.tar"))}
        self._out = out

    def asked(self, teacher: str) -> list[str]:
        """The shards that a teacher is asked about."""
        return [shard for shard in self.shards if TEACHERS[teacher].knows(shard.partition("/")[0])]

    def raw(self, teacher: str, shard: str) -> Path:
        return self._out / "raw" / teacher / f"{shard}.npz"

    def map(self, teacher: str) -> Path:
        return self._out / "taught" / f"{teacher}.npz"

    def taught(self, shard: str) -> Path:
        return self._out / "taught" / f"{shard}.tar"


def is_newer(target: Path, sources: Iterable[Path]) -> bool:
    """Whether a file is there, and was made after all that it is made of."""
    return target.is_file() and all(source.stat().st_mtime_ns <= target.stat().st_mtime_ns for source in sources)


def save(target: Path, arrays: Arrays) -> None:
    with replacing(target) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


@cache
def load(teacher: str, wheels: Path) -> Teach:
    return TEACHERS[teacher].load(wheels)


def ask(place: Place, shard: str) -> None:
    """Write what every teacher says of a shard: ``rows``, float16, clip after clip, and the ``counts`` of a clip's rows."""
    path = place.shards[shard]
    missing = [t for t in TEACHERS if shard in place.asked(t) and not is_newer(place.raw(t, shard), [path])]
    if not missing:
        return
    clips = ShardClips([path])
    said: dict[str, list[NDArray[np.float32]]] = {teacher: [] for teacher in missing}
    for first in range(0, len(clips), CLIPS):
        waves = [clips.wave(number) for number in range(first, min(first + CLIPS, len(clips)))]
        for teacher in missing:
            said[teacher] += load(teacher, place.wheels)(waves)
    for teacher, targets in said.items():
        rows = np.concatenate(targets).astype(np.float16)
        save(place.raw(teacher, shard), {"rows": rows, "counts": np.array([len(own) for own in targets])})


def fit(place: Place, teacher: str) -> None:
    """Write the map from what a teacher says to whitened numbers: (rows - ``mean``) @ ``directions``."""
    paths = [place.raw(teacher, shard) for shard in place.asked(teacher)]
    if not paths or is_newer(place.map(teacher), paths):
        return
    sizes = [int(np.load(path)["counts"].sum()) for path in paths]
    chosen = np.sort(np.random.default_rng(0).permutation(sum(sizes))[:SAMPLED])
    starts = np.cumsum([0, *sizes])
    parts = np.split(chosen, np.searchsorted(chosen, starts[1:-1]))
    sample = np.concatenate(
        [np.load(path)["rows"][part - start] for path, part, start in zip(paths, parts, starts[:-1], strict=True)]
    ).astype(np.float64)
    mean = sample.mean(0)
    _, deviations, directions = np.linalg.svd((sample - mean) / np.sqrt(len(sample)), full_matrices=False)
    size = TEACHERS[teacher].size
    deviations, directions = deviations[:size], directions[:size]
    directions *= np.sign(directions[np.arange(len(directions)), np.abs(directions).argmax(1)])[:, None]
    whitened = (directions / np.maximum(deviations, 1e-6 * deviations[0])[:, None]).T
    save(place.map(teacher), {"mean": mean.astype(np.float32), "directions": whitened.astype(np.float32)})


def write(place: Place, shard: str) -> None:
    """Write the clips of a shard with the targets beside them."""
    path, target = place.shards[shard], place.taught(shard)
    teachers = [teacher for teacher in TEACHERS if shard in place.asked(teacher)]
    if is_newer(target, [path, *map(place.map, teachers), *(place.raw(teacher, shard) for teacher in teachers)]):
        return
    targets = {teacher: _mapped(place, teacher, shard) for teacher in teachers}
    clips = ShardClips([path])
    with replacing(target) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number, clip in enumerate(clips.members):
            with open(path, "rb") as file:
                file.seek(clip.offset)
                _add(tar, clip.name, file.read(clip.size))
            for teacher, own in targets.items():
                content = io.BytesIO()
                np.save(content, own[number])
                _add(tar, f"{clip.name.partition('.')[0]}.{teacher}.npy", content.getvalue())


def _mapped(place: Place, teacher: str, shard: str) -> list[NDArray[np.float16]]:
    """The targets of each clip, float16; 0 where a late teacher has none yet."""
    raw, whitening = np.load(place.raw(teacher, shard)), np.load(place.map(teacher))
    rows = (raw["rows"].astype(np.float32) - whitening["mean"]) @ whitening["directions"]
    late = TEACHERS[teacher].late
    return [
        np.concatenate([np.zeros_like(own[:late]), own[: max(0, len(own) - late)]])
        for own in np.split(rows.astype(np.float16), np.cumsum(raw["counts"])[:-1])
    ]


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def each(step: Callable[[str], None], items: Sequence[str], workers: int, what: str) -> None:
    """Run a step over all items by processes of one thread each."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=torch.set_num_threads, initargs=(1,))
    click.echo(f"{what}:", err=True)
    with pool, progress_bar(total=len(items), unit=what.split()[-1], shown=True) as bar:
        try:
            for done in as_completed([pool.submit(step, item) for item in items]):
                done.result()
                bar.update()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@click.command(help=__doc__)
@click.argument("out", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--workers", type=click.IntRange(min=1), help="Processes; by default one for each processor.")
def main(out: Path, workers: int | None) -> None:
    place = Place(out)
    if not place.shards:
        raise click.ClickException(
            f"no shards in {out / 'shards'}/KIND; expected some: run scripts/open_sound.py {out} first"
        )
    workers = workers or processors()
    for teacher in TEACHERS:
        load(teacher, place.wheels)  # so that its wheel is fetched once
    each(partial(ask, place), list(place.shards), workers, "asking about each shard")
    each(partial(fit, place), list(TEACHERS), workers, "fitting each map")
    each(partial(write, place), list(place.shards), workers, "writing each shard")


if __name__ == "__main__":
    main()
