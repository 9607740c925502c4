"""Scores of a row -> where they come from, and what else they hold: other metrics, folds, settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hear_axlstm.evaluation.report.numbers import shown
from hear_axlstm.evaluation.report.rows import Column, Row
from hear_axlstm.evaluation.results import ModelRecord, Score
from hear_axlstm.evaluation.statistics import BySeed, Estimate, estimate

TEST, SCORE = "test_", "test_score"


@dataclass(frozen=True, kw_only=True)
class TaskDetails:
    """The details of one row on one task, in the units that are shown.

    task_sha256: several where seeds have different tasks. seeds: the score of each. folds: the score by test split, over
    seeds. metrics: all metrics on the test clips, over seeds. validation: the score of the best check, over seeds and folds.
    settings: name -> value -> how many seeds chose it, where seeds chose differently.
    """

    task: str
    title: str
    task_sha256: tuple[str, ...]
    metric: str
    seeds: BySeed
    folds: Mapping[str, Estimate]
    metrics: Mapping[str, Estimate]
    validation: Estimate | None
    settings: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, kw_only=True)
class Details:
    """The provenance of one row, and its details task by task.

    versions: package -> all versions that were used. first, last: when scores were finished. seconds: for training all its
    classifiers, measured one by one.
    """

    label: str
    module: str
    weights_sha256: str | None
    parameters: int | None
    options: Mapping[str, Any]
    seeds: tuple[int, ...]
    devices: tuple[str, ...]
    versions: Mapping[str, tuple[str, ...]]
    first: str
    last: str
    seconds: float
    tasks: tuple[TaskDetails, ...]


def find_details(row: Row, record: ModelRecord, scores: Mapping[str, Sequence[Score]], columns: Iterable[Column]) -> Details:
    """The details of a row. scores: the row's, by task; not empty."""
    every = [score for found in scores.values() for score in found]
    packages = sorted({package for score in every for package in score.versions})
    return Details(
        label=row.label,
        module=record.module,
        weights_sha256=row.weights_sha256,
        parameters=record.parameters,
        options=record.options,
        seeds=tuple(sorted({score.seed for score in every})),
        devices=_distinct(score.device for score in every),
        versions={
            package: _distinct(score.versions[package] for score in every if package in score.versions)
            for package in packages
        },
        first=min((score.finished for score in every), default=""),
        last=max((score.finished for score in every), default=""),
        seconds=sum(score.seconds for score in every),
        tasks=tuple(_task(column, scores[column.task]) for column in columns if column.task in scores),
    )


def _task(column: Column, scores: Sequence[Score]) -> TaskDetails:
    metric = scores[0].metric
    folds = _names(score.splits for score in scores)
    measured = _names(split for score in scores for split in score.splits.values())
    metrics = {
        name.removeprefix(TEST): _over_seeds(scores, name, name.removeprefix(TEST))
        for name in measured
        if name.startswith(TEST) and name != SCORE
    }
    return TaskDetails(
        task=column.task,
        title=column.title,
        task_sha256=_distinct(score.task_sha256 for score in scores),
        metric=metric,
        seeds={score.seed: shown(metric, score.score) for score in scores},
        folds={
            fold: estimate(
                [shown(metric, score.splits[fold][SCORE]) for score in scores if SCORE in score.splits.get(fold, {})]
            )
            for fold in folds
            if any(SCORE in score.splits.get(fold, {}) for score in scores)
        },
        metrics={name: found for name, found in metrics.items() if found is not None},
        validation=_over_seeds(scores, "validation_score", metric),
        settings=_settings(scores),
    )


def _over_seeds(scores: Iterable[Score], name: str, metric: str) -> Estimate | None:
    """The estimate over seeds of one number's mean over the test splits, None where no split has it."""
    values = []
    for score in scores:
        found = [shown(metric, split[name]) for split in score.splits.values() if name in split]
        if found:
            values.append(sum(found) / len(found))
    return estimate(values) if values else None


def _settings(scores: Sequence[Score]) -> dict[str, dict[str, int]]:
    names = _names(score.settings for score in scores)
    chosen = {name: Counter(str(score.settings.get(name)) for score in scores) for name in names}
    return {name: dict(sorted(counts.items())) for name, counts in chosen.items() if len(counts) > 1}


def _names(mappings: Iterable[Mapping[str, Any]]) -> list[str]:
    """The keys of all, in the order of their first appearance."""
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))


def _distinct(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(values)))
