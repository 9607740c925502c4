"""Two rows of ours -> their differences over seeds, task by task and in one number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from hear_axlstm.evaluation.report.rankings import AGGREGATE, aggregate_by_seed, by_seed_over
from hear_axlstm.evaluation.report.rows import Column, Row
from hear_axlstm.evaluation.statistics import Difference, holm, paired_difference

SIGNIFICANT = 0.05


@dataclass(frozen=True, kw_only=True)
class TaskDifference:
    """The left model less the right one on a task, in the unit that is shown.

    adjusted: p after Holm, over the tasks of this pair.
    """

    task: str
    title: str
    percent: bool
    difference: Difference
    adjusted: float | None


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two of our models, compared over the seeds that both have. overall_title: AGGREGATE, or the name of a mean."""

    left: str
    right: str
    tasks: tuple[TaskDifference, ...]
    overall_title: str
    overall: Difference | None


def find_pairs(ours: Sequence[Row], columns: Iterable[Column]) -> list[Pair]:
    """The pairs of rows with a task in common. Tasks of one name that are not the same task are left out."""
    columns = list(columns)
    return [pair for left, right in combinations(ours, 2) if (pair := _pair(left, right, columns)).tasks]


def _pair(left: Row, right: Row, columns: Sequence[Column]) -> Pair:
    found: list[tuple[Column, bool, Difference]] = []
    for column in columns:
        mine, theirs = left.cells.get(column.task), right.cells.get(column.task)
        if mine is None or theirs is None or (mine.task_sha256, mine.metric) != (theirs.task_sha256, theirs.metric):
            continue
        difference = paired_difference(mine.seeds, theirs.seeds)
        if difference is not None:
            found.append((column, mine.percent, difference))
    adjusted = holm([difference.p for _, _, difference in found])
    common = [column for column, percent, _ in found if percent]
    named = [column for column in common if column.is_hears]  # a user's own tasks are no part of a mean with them
    title, overall = _overall(left, right, [column.task for column in named or common])
    return Pair(
        left=left.label,
        right=right.label,
        tasks=tuple(
            TaskDifference(task=column.task, title=column.title, percent=percent, difference=difference, adjusted=p)
            for (column, percent, difference), p in zip(found, adjusted, strict=True)
        ),
        overall_title=title,
        overall=overall,
    )


def _overall(left: Row, right: Row, common: Sequence[str]) -> tuple[str, Difference | None]:
    if left.aggregate is not None and right.aggregate is not None:
        return AGGREGATE, paired_difference(aggregate_by_seed(left), aggregate_by_seed(right))
    if len(common) > 1:
        means = (by_seed_over(row, common) for row in (left, right))
        return f"Mean over {len(common)} tasks", paired_difference(*means)
    return "", None
