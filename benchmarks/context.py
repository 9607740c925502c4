"""What ``context="long"`` does to scores: the state goes on over the borders of chunks, while positions begin anew.

    python -m benchmarks.context open/apart

A probe learns from scene embeddings of clips and guesses the class of others: of recordings that no training heard, of 5 s
at most, and of two of ``hear-axlstm probe``'s tasks, whose clips are 6 s long here. Only clips of more than one chunk, 2 s,
can differ. "order" asks in which order three sounds come, and "contour" how a pitch moves: with chunks that know nothing of
each other, an average over them can hardly tell. Each clip is standardised by its own statistics, so that "chunk" gives the
offline embeddings, which is checked. The cosine is that of both contexts' embeddings, not centred.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import click
import numpy as np
import torch

from benchmarks.records import RESULTS, add_record, machine, rows_table
from benchmarks.set_apart import Clips, read_clips
from benchmarks.stream_statistics import MODELS, cosine, frames, statistics
from hear_axlstm import get_scene_embeddings, load_model
from hear_axlstm.audio import Wave
from hear_axlstm.classification.regression import Floats
from hear_axlstm.config import CHUNK_FRAMES, HOP, SAMPLE_RATE
from hear_axlstm.embedder import Embedder
from hear_axlstm.evaluation.probe.tasks import TASKS
from hear_axlstm.stream import Streams
from hear_axlstm.stream.streams import Context
from hear_axlstm.synthesis.held_out import Part

LONGER = CHUNK_FRAMES * HOP * 5 // 4  # samples that a clip has at least: a second chunk that counts
LEAST = 50  # clips of a task
SYNTHETIC = ("order", "contour")
CHUNKS = 3  # of their clips
AT_ONCE = 16  # clips
CHECKED = 8  # clips of a task whose embeddings in the context of chunks are held against the offline ones
TOLERANCE = 1e-4


def made(name: str, a_class: int) -> Clips:
    """Clips of a synthetic task of the probe, longer than its own; half of them to learn from, and half to test on."""
    task = replace(TASKS[name], chunks=CHUNKS)
    parts: tuple[Part, Part] = ("train", "test")
    count = a_class * len(task.classes)
    waves = [task.clip(0, part, index) for part in parts for index in range(count)]
    labels = np.tile(np.arange(count) % len(task.classes), 2)
    return Clips(name, waves, labels, [(np.arange(count), np.arange(count, 2 * count))])


def read(apart: Path, clips: int) -> Iterator[Clips]:
    """The tasks of recordings that have enough clips which are long enough."""
    for table in sorted(apart.glob("*.csv")):
        found = read_clips(table, clips, LONGER)
        if len(found.waves) >= LEAST and found.splits:
            yield found


@torch.no_grad()
def streamed(model: Embedder, waves: list[Wave], context: Context) -> Floats:
    """The scene embedding of each clip, as a stream gives it that knows the clip's statistics. Shape: -> (N, E)."""
    streams = Streams(model, AT_ONCE, statistics=(0.0, 1.0), context=context)
    found: list[torch.Tensor] = []
    for start in range(0, len(waves), AT_ONCE):
        batch = waves[start : start + AT_ONCE]
        places = [streams.start(statistics([frames(wave)])) for wave in batch]
        streams.push(dict(zip(places, batch, strict=True)))
        for place in places:
            streams.flush(place)
            found.append(streams.scene(place))
            streams.end(place)
    return torch.stack(found).double().numpy()


@torch.no_grad()
def check(model: Embedder, waves: list[Wave], chunk: Floats) -> float:
    """The greatest difference from offline embeddings. Raises ValueError where it is more than rounding."""
    offline = [get_scene_embeddings(torch.from_numpy(wave)[None], model)[0].numpy() for wave in waves]
    difference = float(np.abs(np.stack(offline) - chunk[: len(waves)]).max())
    if difference > TOLERANCE:
        raise ValueError(f"embeddings of a stream differ from the offline ones by {difference:.1e}; expected {TOLERANCE}")
    return difference


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("apart", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--clips", type=click.IntRange(min=10), default=120, help="Clips of a task of recordings, at most.")
@click.option("--a-class", type=click.IntRange(min=2), default=12, help="Clips a class of a synthetic task, in each part.")
def main(apart: Path, clips: int, a_class: int) -> None:
    """Score the scene embeddings of both contexts on tasks whose clips are longer than a chunk."""
    tasks = [*read(apart, clips), *(made(name, a_class) for name in SYNTHETIC)]
    rows: list[dict[str, Any]] = []
    for name in MODELS:
        model = load_model(name, precision="float32")
        for task in tasks:
            found = {context: streamed(model, task.waves, context) for context in get_args(Context)}
            difference = check(model, task.waves[:CHECKED], found["chunk"])
            scores = {context: round(task.score(each, each), 1) for context, each in found.items()}
            about = {"task": task.name, "classes": len(np.unique(task.labels)), "clips": len(task.waves)}
            seconds = round(float(np.median([len(wave) for wave in task.waves])) / SAMPLE_RATE, 1)
            alike = round(float(cosine(found["chunk"], found["long"]).mean()), 4)
            how = {"cosine": alike, "from offline": f"{difference:.0e}"}
            rows.append({"model": name, **about, "s": seconds, **scores, **how})
            click.echo(rows_table(rows[-1:]))
    add_record(RESULTS / "context.json", {**machine(torch.device("cpu")), "context": rows})


if __name__ == "__main__":
    main()
