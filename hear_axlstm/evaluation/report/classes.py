"""Scores on a task that HEAR does not have -> which classes were taken for which, and how well each class is told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hear_axlstm.classification.scores import ClassScore, per_class
from hear_axlstm.evaluation.report.rows import Column, Row, RowKey
from hear_axlstm.evaluation.results import Score
from hear_axlstm.evaluation.statistics import Estimate, estimate


@dataclass(frozen=True, kw_only=True)
class ClassPrecision:
    """The average precision of one class of a multilabel task, 0 to 1. clips: those of the test clips that have it."""

    name: str
    precision: Estimate
    clips: int


@dataclass(frozen=True, kw_only=True)
class TaskClasses:
    """One row's results on one task, class by class.

    matrix: test clips by true and guessed class, summed over seeds; empty for a multilabel task, which has precisions.
    scores: of that matrix, but with each test clip counted once. clips: how many test clips there are. splits, seeds: how
    many test splits and seeds were summed up.
    """

    row: str
    task: str
    title: str
    classes: tuple[str, ...]
    matrix: tuple[tuple[int, ...], ...]
    scores: tuple[ClassScore, ...]
    precisions: tuple[ClassPrecision, ...]
    clips: int
    splits: int
    seeds: int


def find_classes(
    ours: Iterable[Row], scores: Mapping[RowKey, Mapping[str, Sequence[Score]]], columns: Sequence[Column]
) -> Iterable[TaskClasses]:
    """The results class by class of all rows on the tasks that HEAR does not have, where they were noted."""
    for row in ours:
        if row.engine is None:
            continue
        found = scores.get((row.model, row.engine, row.weights_sha256), {})
        for column in columns:
            if not column.is_hears and column.task in row.cells:
                noted = [score for score in found[column.task] if score.confusions or score.precisions]
                if noted:
                    yield _classes(row, column, noted)


def _classes(row: Row, column: Column, scores: Sequence[Score]) -> TaskClasses:
    first = scores[0]
    noted: Mapping[str, Mapping[str, object]] = first.confusions or first.precisions
    classes = tuple(next(iter(noted.values())))
    matrix = _summed(scores, classes) if first.confusions else np.zeros((0, 0), dtype=np.int64)
    precisions = tuple(_precision(scores, name) for name in classes) if first.precisions else ()
    clips = int(matrix.sum()) // len(scores)
    return TaskClasses(
        row=row.label,
        task=column.task,
        title=column.title,
        classes=classes,
        matrix=tuple(map(tuple, matrix.tolist())),
        scores=tuple(
            ClassScore(one.name, one.precision, one.recall, one.f1, one.clips // len(scores))
            for one in (per_class(matrix, classes) if len(matrix) else ())
        ),
        precisions=precisions,
        clips=clips,
        splits=len(noted),
        seeds=len(scores),
    )


def _summed(scores: Sequence[Score], classes: Sequence[str]) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    place = {name: index for index, name in enumerate(classes)}
    matrix = np.zeros((len(classes), len(classes)), dtype=np.int64)
    for score in scores:
        for confusion in score.confusions.values():
            for true, guesses in confusion.items():
                for guess, clips in guesses.items():
                    matrix[place[true], place[guess]] += clips
    return matrix


def _precision(scores: Sequence[Score], name: str) -> ClassPrecision:
    """The mean over the test splits that have the class, over seeds."""
    by_seed = []
    for score in scores:
        found = [split[name] for split in score.precisions.values()]
        values = [float(one["average_precision"]) for one in found if one["clips"]]
        by_seed.append(sum(values) / len(values) if values else 0.0)
    clips = sum(int(split[name]["clips"]) for split in scores[0].precisions.values())
    return ClassPrecision(name=name, precision=estimate(by_seed), clips=clips)
