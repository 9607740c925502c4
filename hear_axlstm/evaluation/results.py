"""The folder of results: the model that was evaluated, a file a score with all it depends on, and what failed.

RESULTS/MODEL/model.json                                            a ModelRecord
RESULTS/MODEL/embeddings/ENGINE/TASK/...                            as hear-eval-kit keeps them
RESULTS/MODEL/scores/PROTOCOL/ENGINE/TASK/seed-000.json             a Score
RESULTS/MODEL/failures/PROTOCOL/ENGINE/TASK.json                    a Failure, until the task succeeds
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self, TypeVar

from hear_axlstm.errors import OutputError
from hear_axlstm.evaluation import Engine
from hear_axlstm.evaluation.classes import ByClass, Confusion, Precisions, checked
from hear_axlstm.storage import read_json, strict_json, write_text

SCHEMA = 1
MODEL = "model.json"
KINDS = {"str": str, "Engine": str, "int": int, "list": list, "dict": dict}  # of a field's values, by its annotation


@dataclass(frozen=True)
class Outcome:
    """The result of evaluating one task with one seed, before model, protocol and machine are noted beside it.

    splits: by test split ("test", or "fold00", ...): "test_loss", "test_score" (the first metric), "test_METRIC" for each
    metric, "validation_score", "epoch" (of the best check, counted from 0). Scores are fractions, not percent.
    settings: the grid point that was chosen. classes: by test split, what ``by_class`` found; empty where that is not known.
    """

    splits: dict[str, dict[str, float]]
    settings: dict[str, Any]
    classes: dict[str, ByClass] = field(default_factory=dict, compare=False)

    def mean(self, name: str) -> float:
        """The mean of one of the numbers over the test splits."""
        return math.fsum(split[name] for split in self.splits.values()) / len(self.splits)


@dataclass(frozen=True, kw_only=True)
class Record:
    """A dataclass that is kept as a JSON object. Floats that are not finite become strings: "NaN", "Infinity"."""

    def to_dict(self) -> dict[str, Any]:
        """The object that is kept: the fields, and the schema that they follow."""
        return {"schema": SCHEMA, **asdict(self)}

    def write(self, path: Path) -> None:
        """Write the file, which appears whole or not at all. Raises OSError."""
        write_text(path, strict_json(self.to_dict()))

    @classmethod
    def read(cls, path: Path) -> Self:
        """The record in a file. Raises OutputError when the file is damaged or of another version."""
        found = read_json(path, OutputError, "delete it and repeat the evaluation")
        try:
            if found.pop("schema") != SCHEMA:
                raise OutputError(f"{path}: made by another version of hear-axlstm; repeat the evaluation elsewhere")
            for item in fields(cls):
                kind = KINDS.get(str(item.type).partition("[")[0])
                if kind is not None and item.name in found and not isinstance(found[item.name], kind):
                    raise TypeError(f"{item.name} is {found[item.name]!r}")
            return cls(**found)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise OutputError(f"{path} is damaged ({error!r}); delete it and repeat the evaluation") from error


Kept = TypeVar("Kept", bound=Record)


@dataclass(frozen=True, kw_only=True)
class ModelRecord(Record):
    """The model that was evaluated. Everything here must be equal for its results to be continued.

    module: the HEAR module. weights_sha256: the file's hash, None where a module brings its own weights.
    parameters: how many the encoder has, None where not known. options: the arguments of load_model besides the weights.
    """

    name: str
    module: str
    weights_sha256: str | None
    parameters: int | None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Score(Record):
    """The score of one model on one task with one seed, and what it depends on.

    score: mean over the test splits of the task's first metric, ``metric``; a fraction for all but d_prime.
    splits, settings: as in Outcome. task_sha256: the hash of the files that describe the task. sounds_sha256: that of the
    names, sizes and times of its clips, empty in scores of before it was noted. differences: how the task
    differs from the HEAR task of its name; empty for the real one. versions: by package, and Python's. device: where the
    classifier was trained. confusions, precisions: by test split, clips by true and guessed class, or of a multilabel task
    the average precision of each class; both empty where these were not noted.
    """

    model: str
    weights_sha256: str | None
    task: str
    task_sha256: str
    differences: list[str]
    protocol: str
    protocol_sha256: str
    engine: Engine
    seed: int
    metric: str
    score: float
    splits: dict[str, dict[str, float]]
    settings: dict[str, Any]
    versions: dict[str, str]
    device: str
    seconds: float
    finished: str
    sounds_sha256: str = ""
    confusions: dict[str, Confusion] = field(default_factory=dict)
    precisions: dict[str, Precisions] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "score", float(self.score))  # "NaN" as it is kept
        splits = {name: {key: float(value) for key, value in split.items()} for name, split in self.splits.items()}
        object.__setattr__(self, "splits", splits)
        object.__setattr__(self, "confusions", {name: checked(found) for name, found in self.confusions.items()})
        precisions = {
            split: {label: {key: float(value) for key, value in facts.items()} for label, facts in found.items()}
            for split, found in self.precisions.items()
        }
        object.__setattr__(self, "precisions", precisions)


@dataclass(frozen=True, kw_only=True)
class Failure(Record):
    """A task that could not be evaluated, and why."""

    model: str
    task: str
    protocol: str
    engine: Engine
    reason: str


@dataclass(frozen=True)
class Results:
    """The contents of one or several folders of results, in the order of the models' names.

    damaged: for each file that could not be read, its name and why.
    """

    models: dict[str, ModelRecord]
    scores: list[Score]
    failures: list[Failure]
    damaged: list[str] = field(default_factory=list)


def score_path(folder: Path, protocol: str, engine: Engine, task: str, seed: int) -> Path:
    """Where a model's folder keeps a score."""
    return folder / "scores" / protocol / engine / task / f"seed-{seed:03}.json"


def failure_path(folder: Path, protocol: str, engine: Engine, task: str) -> Path:
    """Where a model's folder keeps why a task failed."""
    return folder / "failures" / protocol / engine / f"{task}.json"


def read_results(folders: Iterable[Path]) -> Results:
    """The results of all models in these folders, without the files that are damaged.

    Raises OutputError when there are none, or when two folders have a model of the same name.
    """
    folders, origins = list(folders), dict[str, Path]()
    results = Results({}, [], [])
    for folder in folders:
        for header in sorted(folder.glob(f"*/{MODEL}")):
            for record in _readable(ModelRecord, [header], results.damaged):
                if record.name in origins:
                    raise OutputError(
                        f"{origins[record.name]} and {header.parent} are both called {record.name}; report one"
                    )
                origins[record.name] = header.parent
                results.models[record.name] = record
                scores, failures = (
                    sorted(header.parent.glob(p)) for p in ("scores/*/*/*/seed-*.json", "failures/*/*/*.json")
                )
                results.scores.extend(_readable(Score, scores, results.damaged))
                results.failures.extend(_readable(Failure, failures, results.damaged))
    if not results.models:
        there = [f"{folder}: {'no results there' if folder.is_dir() else 'no such folder'}" for folder in folders]
        why = results.damaged[0] if results.damaged else "; ".join(there)
        raise OutputError(f"{why}; expected folders that `hear-axlstm evaluate -o RESULTS` wrote")
    return results


def _readable(kind: type[Kept], paths: Iterable[Path], damaged: list[str]) -> Iterator[Kept]:
    for path in paths:
        try:
            yield kind.read(path)
        except OutputError as error:
            damaged.append(str(error))
