"""Judge weights by how well a linear classifier of their frozen scene embeddings does on tasks of sound set apart.

    python scripts/validate.py APART MODEL... [--layout L] [--layer N | --every-layer] [--clips N] [--json FILE]

APART holds the tables of the tasks, NAME.csv, which `hear-axlstm classify` reads, too, and perhaps task folders that
`hear-axlstm tasks generate --kind probe` wrote. MODEL is what `load_model` takes, or "random:MODEL". Beside each stand
random weights of the same encoder and the log-mel. The scores are balanced accuracies in percent. They are kept in
APART/scores, so that a second run computes only what is new.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import click
import numpy as np
import torch
from linear import judged
from threadpoolctl import threadpool_limits

from hear_axlstm import Embedder, load_model
from hear_axlstm.audio import read_audio
from hear_axlstm.classification.labelled import read_labelled
from hear_axlstm.classification.regression import Floats, Indices, Split
from hear_axlstm.classification.units import find_copies, find_units
from hear_axlstm.classification.validation import find_splits
from hear_axlstm.cli.common import layout_option, model_name
from hear_axlstm.config import SAMPLE_RATE, Layout
from hear_axlstm.encoder import layer_numbers
from hear_axlstm.evaluation.probe.baselines import LOG_MEL, RANDOM, LogMel, is_baseline, load_baseline, random_encoder
from hear_axlstm.evaluation.tasks.taskfolder import METADATA, read_task
from hear_axlstm.storage import write_text
from hear_axlstm.weights.save import fingerprint

FOLDS = 5  # of a task; there are fewer where the rarest class has fewer groups
LEAST_UNITS = 3  # groups of a class
BATCH = 32  # clips
PRECISION = "bfloat16"  # scores as float32 does, in half the time on a processor that multiplies it
VERSION = 1  # of the scores that are kept: whoever changes how they are made, here or in linear.py, changes it


@dataclass(frozen=True, eq=False)
class Task:
    """Labelled sounds. units: what must not be divided between learning and testing. splits: to test, one by one."""

    name: str
    paths: list[Path]
    labels: Indices
    units: Indices
    splits: list[Split]

    @cached_property
    def waves(self) -> list[torch.Tensor]:
        """The sounds, (T,) each, at 16 kHz."""
        return [torch.from_numpy(read_audio(path, pad=True)) for path in self.paths]

    def facts(self) -> list[object]:
        """What tells the task from others, wherever its folder lies."""
        sizes, tested = [path.stat().st_size for path in self.paths], [test.tolist() for _, test in self.splits]
        return [sizes, self.labels.tolist(), self.units.tolist(), tested]


def read_tasks(folder: Path, clips: int) -> Iterator[Task]:
    """The tasks of a folder, one by one, of at most so many clips."""
    tables, folders = sorted(folder.glob("*.csv")), sorted(path.parent for path in folder.glob(f"*/{METADATA}"))
    if not tables + folders:
        raise click.UsageError(f"{folder} has no tasks; expected tables, NAME.csv, such as scripts/open_sound.py writes")
    yield from (read_table(path, clips) for path in tables)
    yield from (read_folder(path, clips) for path in folders)


def read_table(path: Path, clips: int) -> Task:
    """The task of a table, without the classes that have fewer than LEAST_UNITS groups, which are named."""
    table = read_labelled(path)
    labels = np.unique(table.labels, return_inverse=True)[1]
    units = find_units(len(labels), table.groups, find_copies([sound.path for sound in table.sounds]))
    few = [label for label in np.unique(labels) if len(np.unique(units[labels == label])) < LEAST_UNITS]
    if few:
        names = ", ".join(np.unique(table.labels)[few])
        click.echo(f"{path.name}: left out, of fewer than {LEAST_UNITS} groups: {names}", err=True)
    chosen = _chosen(labels, np.flatnonzero(~np.isin(labels, few)), clips)
    labels, units = np.unique(labels[chosen], return_inverse=True)[1], units[chosen]
    paths = [Path(table.sounds[place].path) for place in chosen]
    splits = find_splits(labels, units, FOLDS, seed=0) if labels.any() else []
    if not splits:
        raise click.UsageError(f"{path.name}: {len(labels)} clips are left, too few to test on; expected more, and --clips")
    return Task(path.stem, paths, labels, units, splits)


def read_folder(path: Path, clips: int) -> Task:
    """The task of a folder in HEAR's layout: tested on its test clips alone, which differ from all others."""
    task = read_task(path)
    sounds = [
        (task.audio(part, SAMPLE_RATE) / clip, label, part == "test")
        for part in task.splits
        for clip, [label] in task.clips(part).items()
    ]
    paths, names, in_test = zip(*sounds, strict=True)
    labels, test = np.unique(names, return_inverse=True)[1], np.array(in_test)
    chosen = _chosen(labels + test * (labels.max() + 1), np.arange(len(labels)), clips)
    split = np.flatnonzero(~test[chosen]), np.flatnonzero(test[chosen])
    return Task(path.name, [paths[place] for place in chosen], labels[chosen], np.arange(len(chosen)), [split])


def _chosen(labels: Indices, places: Indices, clips: int) -> Indices:
    """At most so many of the places, drawn the same each time, of each label as many as of any other that has enough."""
    drawn = np.random.default_rng(0).permutation(places)
    rank = np.array([(labels[drawn[:index]] == labels[place]).sum() for index, place in enumerate(drawn)])
    return np.sort(drawn[np.argsort(rank, kind="stable")[:clips]])


@torch.inference_mode()
def embedded(waves: list[torch.Tensor], model: Embedder, layers: list[int] | None) -> Floats:
    """The scene embeddings of sounds. Shape: -> (layers, N, D)."""
    order = sorted(range(len(waves)), key=lambda place: len(waves[place]))
    found = []
    for start in range(0, len(order), BATCH):
        batch = [waves[place] for place in order[start : start + BATCH]]
        audio = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True)
        one = model(audio, [len(wave) for wave in batch], layers)
        found.append(one[None] if layers is None else one)
    return torch.cat(found, 1)[:, np.argsort(order)].double().numpy()


def find_subjects(models: tuple[str, ...], layout: Layout | None) -> tuple[dict[str, Embedder], dict[str, str]]:
    """The models, random weights of each encoder, and the log-mel, by name; and the name of the random weights of each."""
    names = [model_name(model) for model in models]
    subjects, random_of = dict[str, Embedder](), dict[str, str]()
    for model, name in zip(models, names, strict=True):
        load = load_baseline if is_baseline(model) else load_model
        subjects[name if names.count(name) == 1 else model] = load(model, layout=layout, precision=PRECISION)
    for name, model in list(subjects.items()):
        random = Embedder(random_encoder(model.encoder.config), layout=model.layout, precision=PRECISION)
        same = (other for other, there in subjects.items() if identity(there) == identity(random))
        random_of[name] = next(same, f"{RANDOM}:{name}")
        subjects.setdefault(random_of[name], random)
    return subjects | {LOG_MEL: LogMel()}, random_of


def identity(model: Embedder) -> list[object]:
    """What a model's scene embeddings depend on."""
    return [fingerprint(model.encoder), model.layout]


def kept_scores(folder: Path, task: Task, model: Embedder, layers: list[int]) -> list[float]:
    """The score of each layer; the log-mel, which has none, has one score."""
    text = json.dumps([VERSION, PRECISION, task.facts(), identity(model)])
    path = folder / "scores" / f"{task.name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    scores = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    asked = None if isinstance(model, LogMel) else layers
    missing = [layer for layer in asked or [0] if str(layer) not in scores]
    if missing:
        with threadpool_limits(1, "blas"):  # threads that wait for each other cost more than such small matrices
            found = embedded(task.waves, model, missing if asked else None)
            scores |= {
                str(layer): judged(one, task.labels, task.units, task.splits)
                for layer, one in zip(missing, found, strict=True)
            }
        path.parent.mkdir(exist_ok=True)
        write_text(path, json.dumps(scores))
    return [scores[str(layer)] for layer in asked or [0]]


@click.command()
@click.argument("folder", metavar="APART", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@layout_option
@click.option("--layer", type=int, default=-1, help="Judge this output of the encoder; by default the last one.")
@click.option("--every-layer", is_flag=True, help="Judge all outputs, from that of the patch embedding on.")
@click.option("--clips", type=click.IntRange(min=1), default=300, show_default=True, help="Clips of a task, at most.")
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write the scores to this file, too.")
def main(
    folder: Path,
    models: tuple[str, ...],
    layout: Layout | None,
    layer: int,
    every_layer: bool,
    clips: int,
    file: Path | None,
) -> None:
    subjects, random_of = find_subjects(models, layout)
    click.echo(" " * 26 + "".join(f"  {name}" for name in subjects))
    scores = dict[str, dict[str, list[float]]]()
    for task in read_tasks(folder, clips):
        scores[task.name] = {}
        for name, model in subjects.items():
            layers = [] if name == LOG_MEL else layer_numbers("all" if every_layer else layer, model.encoder.config.depth)
            scores[task.name][name] = kept_scores(folder, task, model, layers)
        if not every_layer:
            show(task.name, subjects, [of_layers[0] for of_layers in scores[task.name].values()])
    means = {name: np.mean([of_task[name] for of_task in scores.values()], axis=0).tolist() for name in subjects}
    for number in range(max(map(len, means.values()))):
        row = [mean[number if len(mean) > number else -1] for mean in means.values()]
        show(f"mean of layer {number}" if every_layer else f"mean of {len(scores)}", subjects, row)
    for name, random in random_of.items():
        best = max(means[name])
        over_random, over_log_mel = (100 * (best - max(means[other])) for other in (random, LOG_MEL))
        click.echo(f"{name} leads {random} by {over_random:.1f} and {LOG_MEL} by {over_log_mel:.1f}")
    if file:
        write_text(file, json.dumps({"tasks": scores, "mean": means}, indent=2) + "\n")


def show(title: str, names: Iterable[str], row: list[float]) -> None:
    """Print a row of the table: scores in percent, below the names."""
    click.echo(f"{title:26}" + "".join(f"  {100 * score:{len(name)}.1f}" for name, score in zip(names, row, strict=True)))


if __name__ == "__main__":
    main()
