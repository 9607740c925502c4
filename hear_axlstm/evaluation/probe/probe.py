"""Frozen features of every task through the classifiers, and the report."""

from __future__ import annotations

import json
import math
import os
import platform
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from hear_axlstm.config import Layout, check_choice
from hear_axlstm.embedder import Embedder
from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import AudioError, ConfigError, WeightsError
from hear_axlstm.evaluation.probe.classifiers import Classifier, accuracies, require_scikit_learn
from hear_axlstm.evaluation.probe.features import Features, log_mel_statistics, random_encoder, scene_embeddings
from hear_axlstm.evaluation.probe.tasks import PARTS, TASKS, Task, chosen_tasks
from hear_axlstm.storage import sha256_of
from hear_axlstm.synthesis.held_out import Part
from hear_axlstm.synthesis.music import SOUNDFONT, SOUNDFONT_FOLDERS, find_soundfont
from hear_axlstm.synthesis.programs import find_program, program_version
from hear_axlstm.version import __version__
from hear_axlstm.weights.save import fingerprint

Kind = Literal["weights", "random", "log-mel"]
Source = tuple[Kind, Layout | None, int | None]  # of features: kind, layout, seed of the random weights
Models = dict[int | None, Embedder]  # by the seed of their random weights, None for the weights in question
Report = Literal["text", "md", "json"]

PROBE_SOUNDFONT = "FluidR3_GM.sf2"  # other recordings than those that the training corpus plays
CLIPS_PER_CLASS = 16
BATCH = 16  # clips encoded in one call

# The columns of a report, and what of its scores goes into them.
COLUMNS: dict[str, tuple[Kind, Layout | None]] = {
    "weights, released": ("weights", "released"),
    "weights, time": ("weights", "time"),
    "random, released": ("random", "released"),
    "random, time": ("random", "time"),
    "log-mel": ("log-mel", None),
}
TITLES: dict[Classifier, str] = {"logistic": "Logistic regression", "knn": "5 nearest neighbours"}


@dataclass(frozen=True)
class Score:
    """One number. layout: None for log-mel. random_seed: of the random weights, None for others. accuracy: 0 to 1."""

    task: str
    features: Kind
    layout: Layout | None
    random_seed: int | None
    classifier: Classifier
    accuracy: float


@dataclass
class ProbeResult:
    """What ``probe`` found, and all that is needed to find it again.

    clips_per_class: of the train clips; there are as many test clips. soundfont: name and sha256 of the one that was
    played, None when none was. versions: of this package and what the numbers depend on. not_run: task -> reason.
    """

    architecture: dict[str, Any]
    weights_sha256: str
    seed: int
    clips_per_class: int
    random_seeds: tuple[int, ...]
    soundfont: dict[str, str] | None
    versions: dict[str, str]
    scores: list[Score] = field(default_factory=list)
    not_run: dict[str, str] = field(default_factory=dict)

    @property
    def tasks(self) -> list[str]:
        """The tasks that were run."""
        return list(dict.fromkeys(score.task for score in self.scores))

    @property
    def columns(self) -> list[str]:
        """Those of COLUMNS that there are scores for: without random seeds none of random weights."""
        there = {(score.features, score.layout) for score in self.scores}
        return [column for column in COLUMNS if COLUMNS[column] in there]

    def accuracy(self, column: str, classifier: Classifier, task: str | None = None) -> float:
        """Accuracy, 0 to 1, of a column of COLUMNS in one task; the mean over the tasks that were run when left out.

        Of several random weights it is the mean. NaN when nothing was run.
        """
        found = [
            score.accuracy
            for score in self.scores
            if (score.features, score.layout) == COLUMNS[column]
            and score.classifier == classifier
            and task in (None, score.task)
        ]
        return float(np.mean(found)) if found else math.nan

    def standard_error(self) -> float:
        """Of a mean over the tasks, 0 to 1, at most: what other test clips would change."""
        variances = [0.25 / (self.clips_per_class * len(TASKS[task].classes)) for task in self.tasks]
        return math.sqrt(sum(variances)) / len(variances) if variances else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Everything, JSON-able. "means" are over "tasks", which are those that were run."""
        return {
            "weights_sha256": self.weights_sha256,
            "architecture": self.architecture,
            "seed": self.seed,
            "clips_per_class": self.clips_per_class,
            "random_seeds": list(self.random_seeds),
            "soundfont": self.soundfont,
            "versions": self.versions,
            "tasks": {
                name: {"classes": TASKS[name].classes, "chance": TASKS[name].chance, "held_out": TASKS[name].held_out}
                for name in self.tasks
            },
            "not_run": self.not_run,
            "means": {
                classifier: {column: self.accuracy(column, classifier) for column in self.columns}
                for classifier in get_args(Classifier)
            },
            "scores": [asdict(score) for score in self.scores],
        }

    def table(self, classifier: Classifier) -> list[list[str]]:
        """A header, a row a task, and their mean, in percent."""
        rows = [["task", "chance", *self.columns]]
        for name in self.tasks:
            numbers = [TASKS[name].chance, *(self.accuracy(column, classifier, name) for column in self.columns)]
            rows.append([name, *(f"{100 * number:.1f}" for number in numbers)])
        if self.scores:
            chance = float(np.mean([TASKS[name].chance for name in self.tasks]))
            means = [chance, *(self.accuracy(column, classifier) for column in self.columns)]
            rows.append([f"mean of {len(self.tasks)}", *(f"{100 * mean:.1f}" for mean in means)])
        return rows

    def to_report(self, format: Report = "text") -> str:
        """A table a classifier, with what they are about, to read in a terminal or as Markdown; or all of it as JSON."""
        check_choice("format", format, Report)
        if format == "json":
            return json.dumps(self.to_dict(), indent=2) + "\n"
        lines = [
            f"Weights {self.weights_sha256[:12]}, seed {self.seed}. Accuracy in %; {self.clips_per_class} clips of each "
            "class to learn from, as many to be tested on."
        ]
        if self.scores:
            lines.append(f"One standard error of a mean is at most {100 * self.standard_error():.1f} points.")
        for name, reason in self.not_run.items():
            lines += ["", f"Not run: {name}: {reason}"]
        for classifier, title in TITLES.items():
            rows = self.table(classifier)
            lines += ["", f"### {title}" if format == "md" else title, ""]
            lines += _markdown(rows) if format == "md" else _aligned(rows)
        return "\n".join(lines) + "\n"


def _markdown(rows: list[list[str]]) -> list[str]:
    ruler = ["---"] + ["---:"] * (len(rows[0]) - 1)
    return [f"| {' | '.join(row)} |" for row in (rows[0], ruler, *rows[1:])]


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def probe(
    encoder: Encoder,
    tasks: Sequence[str] | None = None,
    *,
    seed: int = 0,
    clips_per_class: int = CLIPS_PER_CLASS,
    random_seeds: Sequence[int] = (0,),
    soundfont: Path | None = None,
    progress: bool = False,
) -> ProbeResult:
    """How well frozen embeddings, in both layouts, solve the tasks, beside random weights and log-mel statistics.

    encoder: on the device to use. tasks: names of TASKS, all when left out. seed: of the clips. clips_per_class: to learn
    from; as many again are tested. random_seeds: of encoders of the same configuration with initial values.
    soundfont: FluidR3_GM.sf2 where systems keep it when left out. progress: a bar and results as they come, on stderr.

    A task whose program is not installed or fails is recorded in ``not_run`` and does not stop the others. Raises
    ConfigError on an unknown task, a bad number, a file that is no SoundFont, and without scikit-learn; WeightsError when
    embeddings are not finite.
    """
    chosen = chosen_tasks(tasks)
    for name, value, least in (("seed", seed, 0), ("clips_per_class", clips_per_class, 2)):
        if value < least:
            raise ConfigError(f"{name} is {value}; expected {least} or more")
    scikit_learn = require_scikit_learn()
    soundfont = find_soundfont(soundfont) if soundfont is not None else held_out_soundfont()
    missing = {task.name: reason for task in chosen if (reason := why_not(task, soundfont)) is not None}
    runnable = [task for task in chosen if task.name not in missing]
    programs = {task.needs for task in runnable if task.needs is not None}
    played = soundfont if "fluidsynth" in programs else None
    result = ProbeResult(
        architecture=encoder.config.to_dict(),
        weights_sha256=fingerprint(encoder),
        seed=seed,
        clips_per_class=clips_per_class,
        random_seeds=tuple(random_seeds),
        soundfont=None if played is None else {"name": played.name, "sha256": sha256_of(played)},
        versions={
            "hear-axlstm": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "scikit-learn": scikit_learn,
            **{program: program_version(program).removeprefix(f"{program} ") for program in sorted(programs)},
        },
        not_run=missing,
    )
    device = encoder.cls_token.device
    models: Models = {None: Embedder(encoder)}
    models |= {number: Embedder(random_encoder(encoder.config, number).to(device)) for number in random_seeds}
    clips = sum(_count(task, clips_per_class) for task in runnable) * len(PARTS)
    with tqdm(total=clips * (1 + len(models)), unit="clip", disable=not progress) as bar:
        for task in runnable:
            bar.set_description(task.name)
            try:
                scores = _run(task, models, seed, clips_per_class, soundfont, bar)
            except AudioError as error:
                result.not_run[task.name] = str(error)
                continue
            result.scores += scores
            if progress:
                found = (f"{column} {100 * result.accuracy(column, 'logistic', task.name):.1f}" for column in result.columns)
                bar.write(f"{task.name}: {'; '.join(found)}", file=sys.stderr)
    return result


def held_out_soundfont() -> Path | None:
    """FluidR3_GM.sf2 where systems keep SoundFonts, None when it is not there."""
    return next((path for folder in SOUNDFONT_FOLDERS if (path := folder / PROBE_SOUNDFONT).is_file()), None)


def is_held_out(soundfont: Path) -> bool:
    """Whether a SoundFont is another one than the training corpus plays: by name and, where that is installed, content."""
    if soundfont.name == SOUNDFONT:
        return False
    try:
        return sha256_of(soundfont) != sha256_of(find_soundfont(None))
    except ConfigError:
        return True


def why_not(task: Task, soundfont: Path | None) -> str | None:
    """What a task lacks, None when it can be run."""
    if task.needs is None:
        return None
    try:
        find_program(task.needs)
    except ConfigError:
        return f"{task.needs} is not installed"
    if task.needs == "fluidsynth" and soundfont is None:
        return (
            f"{PROBE_SOUNDFONT} is not installed (Debian: apt install fluid-soundfont-gm), and no other SoundFont was named"
        )
    return None


def _count(task: Task, clips_per_class: int) -> int:
    """Clips of a part."""
    return len(task.classes) * clips_per_class


def _run(task: Task, models: Models, seed: int, clips_per_class: int, soundfont: Path | None, bar: Any) -> list[Score]:
    """All scores of a task. Raises AudioError when its program fails."""
    count = _count(task, clips_per_class)
    labels = np.arange(count) % len(task.classes)
    train, test = (_features(_clips(task, seed, part, count, soundfont, bar), models, bar) for part in PARTS)
    return [
        Score(task.name, *source, classifier, accuracy)
        for source, found in train.items()
        for classifier, accuracy in accuracies(found, labels, test[source], labels).items()
    ]


def _clips(task: Task, seed: int, part: Part, count: int, soundfont: Path | None, bar: Any) -> Tensor:
    """Shape: -> (count, T). Threads, because most of the time goes into programs that run beside this one."""
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="clips") as pool:
        clips = []
        for clip in pool.map(lambda index: task.clip(seed, part, index, soundfont), range(count)):
            clips.append(torch.from_numpy(clip))
            bar.update()
    return torch.stack(clips)


def _features(clips: Tensor, models: Models, bar: Any) -> dict[Source, Features]:
    """All features of the clips, a row a clip. Raises WeightsError when embeddings are not finite."""
    found: dict[Source, Features] = {("log-mel", None, None): log_mel_statistics(clips)}
    for number, model in models.items():
        batches = []
        for audio in clips.split(BATCH):
            batches.append(scene_embeddings(audio, model))
            if not all(np.isfinite(batch).all() for batch in batches[-1].values()):
                raise WeightsError(
                    "the encoder gives NaN or infinity; expected finite embeddings: probe an earlier checkpoint"
                )
            bar.update(len(audio))
        for layout in get_args(Layout):
            found["random" if number is not None else "weights", layout, number] = np.concatenate(
                [batch[layout] for batch in batches]
            )
    return found
