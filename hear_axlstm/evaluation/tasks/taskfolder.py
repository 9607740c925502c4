"""A task folder of hear-eval-kit, or the folder of its embeddings, which repeats what describes the task."""

from __future__ import annotations

import csv
import hashlib
import random
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

from hear_axlstm.errors import TaskError
from hear_axlstm.evaluation.tasks.catalogue import KNOWN_TASKS, EmbeddingType, KnownTask, PredictionType, SplitMode, in_order
from hear_axlstm.storage import read_json

METADATA, VOCABULARY = "task_metadata.json", "labelvocabulary.csv"
SYNTHESISED = "its sound is synthesised"  # among the differences of a task that imitates HEAR's
LONGEST = 1e6  # seconds, of what can be meant as the duration of a clip
SPLIT_NAME = re.compile(r"[\w-][\w.-]*")

Labels = list[Any]  # one clip's: names in a scene task, {"label", "start" ms, "end" ms} in an event task


@dataclass(frozen=True)
class DataSplit:
    """The splits that one classifier is trained on, chosen by and tested on."""

    train: tuple[str, ...]
    valid: str
    test: str


@dataclass(frozen=True, eq=False)
class TaskFolder:
    """A task as its folder describes it; see ``read_task``.

    labels: the vocabulary, in the order of the indices. splits: in the order that the kit embeds them in.
    metrics: the first is the task's score. sample_duration: seconds of every clip, None where they differ.
    """

    path: Path
    metadata: Mapping[str, Any]
    labels: tuple[str, ...]
    embedding_type: EmbeddingType
    prediction_type: PredictionType
    split_mode: SplitMode
    splits: tuple[str, ...]
    metrics: tuple[str, ...]
    sample_duration: float | None
    _clips: dict[str, Mapping[str, Labels]] = field(default_factory=dict, init=False, repr=False)

    @property
    def name(self) -> str:
        """The name of the folder, for instance "esc50-v2.0.0-full"."""
        return self.path.name

    @property
    def known(self) -> KnownTask | None:
        """The HEAR task of this name, None where there is none."""
        return KNOWN_TASKS.get(self.name)

    def clips(self, split: str) -> Mapping[str, Labels]:
        """File name -> labels, in the order of the split's file, which is read once.

        Raises TaskError when the file cannot be read.
        """
        if split not in self._clips:
            path = self.path / f"{split}.json"
            found = read_json(path, TaskError, "mend or replace it")
            if not isinstance(found, dict) or not all(isinstance(labels, list) for labels in found.values()):
                raise TaskError(f"{path}: expected an object of file names with a list of labels each")
            self._clips[split] = found
        return self._clips[split]

    @cached_property
    def stored_order(self) -> Mapping[str, Sequence[str]]:
        """The clips of each split in the order of its embeddings: the kit shuffles split after split, from seed 0 on.

        Raises TaskError when the file of a split cannot be read.
        """
        rng = random.Random(0)  # noqa: S311 - the kit's own draws
        order = {split: list(self.clips(split)) for split in self.splits}
        for clips in order.values():
            rng.shuffle(clips)
        return order

    def audio(self, split: str, sample_rate: int) -> Path:
        """The folder of a split's sounds at a rate in Hz."""
        return self.path / str(sample_rate) / split

    @property
    def data_splits(self) -> list[DataSplit]:
        """One data split for fixed splits; for k folds k: each is tested once, validated by the next, trained on the rest.

        >>> folds = TaskFolder(Path(), {}, (), "scene", "multiclass", "presplit_kfold", ("b", "a", "c"), (), None)
        >>> folds.data_splits[2]
        DataSplit(train=('b',), valid='a', test='c')
        """
        if self.split_mode == "trainvaltest":
            return [DataSplit(("train",), "valid", "test")]
        folds = sorted(self.splits)
        pairs = [(fold, folds[(index + 1) % len(folds)]) for index, fold in enumerate(folds)]
        return [DataSplit(tuple(fold for fold in folds if fold not in pair), valid=pair[1], test=pair[0]) for pair in pairs]

    @cached_property
    def sha256(self) -> str:
        """The hash of everything that describes the task: metadata, vocabulary, the clips of each split and their labels."""
        digest = hashlib.sha256()
        for name in (METADATA, VOCABULARY, *(f"{split}.json" for split in sorted(self.splits))):
            try:
                digest.update(hashlib.sha256((self.path / name).read_bytes()).digest())
            except OSError as error:
                raise TaskError(f"{self.path / name} cannot be read ({error.strerror}); mend or replace it") from error
        return digest.hexdigest()

    def sounds_sha256(self, sample_rate: int) -> str:
        """The hash of the names, sizes and times of all clips at a rate as they are now: another one where any has changed.

        Empty where there are no sounds at this rate.
        """
        if not (self.path / str(sample_rate)).is_dir():
            return ""
        digest = hashlib.sha256()
        for split in self.splits:
            for name in self.clips(split):
                facts = "missing"
                with suppress(OSError, ValueError):
                    status = (self.audio(split, sample_rate) / name).stat()
                    facts = f"{status.st_size} {status.st_mtime_ns}"
                digest.update(f"{split}/{name} {facts}\n".encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    def differences(self) -> list[str]:
        """How this differs from the HEAR task of its name, in words; empty when nothing tells them apart.

        Counts are of the clips that the splits name. Raises TaskError.
        """
        known = self.known
        if known is None:
            return [f"{self.name} is no HEAR task"]
        counts = {split: len(self.clips(split)) for split in self.splits}
        found = [SYNTHESISED] if self.metadata.get("synthetic") else []

        def compare(what: str, here: object, there: object) -> None:
            if there is not None and here != there:
                found.append(f"{what}: {_words(here)}, in HEAR {_words(there)}")

        compare("clips", sum(counts.values()), known.clips)
        compare("splits", sorted(self.splits), sorted(known.split_names))
        compare("clips of the splits", counts, None if known.splits is None else dict(known.splits))
        compare("labels", len(self.labels), known.labels)
        compare("seconds of a clip", self.sample_duration, known.seconds)
        compare("score", self.metrics[0], known.metrics[0])
        compare("kind", f"{self.prediction_type} {self.embedding_type}", f"{known.prediction_type} {known.embedding_type}")
        return found


def _words(value: object) -> str:
    """A value of a task as a reader takes it in.

    >>> _words({"train": 24, "valid": 8}), _words(["fold00", "fold01"]), _words(6_977)
    ('24 in train and 8 in valid', 'fold00 and fold01', '6977')
    """
    if isinstance(value, dict):
        value = [f"{count} in {split}" for split, count in value.items()]
    if isinstance(value, list):
        *first, last = value
        return f"{', '.join(first)} and {last}" if first else last
    return str(value)


def read_task(path: Path) -> TaskFolder:
    """The task of a folder. Raises TaskError, which names the file and what is wrong with it."""
    if not path.is_dir():
        raise TaskError(f"{path}: no such folder; expected a HEAR task with {METADATA}")
    file = path / METADATA
    metadata = read_json(file, TaskError, "mend or replace it")
    if not isinstance(metadata, dict):
        raise TaskError(f"{file}: expected an object")

    def field(name: str, choices: Any = None) -> Any:
        if name not in metadata:
            raise TaskError(f"{file}: {name} is missing")
        if choices is not None and metadata[name] not in get_args(choices):
            raise TaskError(f"{file}: {name} is {metadata[name]!r}; expected one of {', '.join(get_args(choices))}")
        return metadata[name]

    def names(name: str, at_least: int) -> tuple[str, ...]:
        value = field(name)
        if not isinstance(value, list) or not all(isinstance(item, str) and SPLIT_NAME.fullmatch(item) for item in value):
            raise TaskError(f"{file}: {name} is {value!r}; expected a list of names")
        if len(value) < at_least or len(set(value)) < len(value):
            raise TaskError(f"{file}: {name} is {value!r}; expected {at_least} different names at least")
        return tuple(value)

    split_mode = field("split_mode", SplitMode)
    splits = names("splits", 3)
    if split_mode == "trainvaltest" and set(splits) != {"train", "valid", "test"}:
        raise TaskError(f"{file}: splits are {splits}; expected train, valid and test, since split_mode is trainvaltest")
    duration = field("sample_duration")
    if duration is not None and (type(duration) not in (int, float) or not 0 < duration < LONGEST):
        raise TaskError(f"{file}: sample_duration is {duration!r}; expected seconds, or null where clips differ")
    return TaskFolder(
        path=path,
        metadata=metadata,
        labels=_read_vocabulary(path / VOCABULARY),
        embedding_type=field("embedding_type", EmbeddingType),
        prediction_type=field("prediction_type", PredictionType),
        split_mode=split_mode,
        splits=splits,
        metrics=names("evaluation", 1),
        sample_duration=duration,
    )


def find_tasks(folder: Path) -> list[Path]:
    """The task folders in ``folder``, or ``folder`` itself if it is one, HEAR's tasks in the catalogue's order first.

    Raises TaskError when there are none.
    """
    found = [folder] if (folder / METADATA).is_file() else [path.parent for path in folder.glob(f"*/{METADATA}")]
    if not found:
        there = "no task there" if folder.is_dir() else "no such folder"
        raise TaskError(
            f"{folder}: {there}; expected a task, or a folder of tasks, that `hear-axlstm tasks prepare`, `tasks make` or "
            f"`tasks generate` wrote, each with {METADATA}"
        )
    return sorted(found, key=lambda path: in_order(path.name))


def _read_vocabulary(path: Path) -> tuple[str, ...]:
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = sorted((int(row["idx"]), row["label"]) for row in csv.DictReader(file))
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise TaskError(f"{path} cannot be read ({error!r}); expected rows of idx,label") from error
    if [index for index, _ in rows] != list(range(len(rows))) or not rows:
        raise TaskError(f"{path}: the indices are not 0, 1, ... each once")
    if unnamed := [index for index, label in rows if label is None]:
        raise TaskError(f"{path}: index {unnamed[0]} has no label; expected rows of idx,label")
    return tuple(label for _, label in rows)
