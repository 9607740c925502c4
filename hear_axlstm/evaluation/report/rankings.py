"""Rows -> one number a model: the papers' s(m), or the mean over the tasks that there are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from hear_axlstm.evaluation.report.rows import Cell, Row
from hear_axlstm.evaluation.statistics import BySeed, Estimate, estimate, mean_of, over_common_seeds, papers_scale
from hear_axlstm.evaluation.tasks.catalogue import KNOWN_TASKS, PAPER_TASKS
from hear_axlstm.progress import several

AGGREGATE = "s(m)"
TEN = tuple(task.folder for task in PAPER_TASKS.values())


@dataclass(frozen=True, kw_only=True)
class RankedModel:
    """A model in a ranking. label: its row's."""

    label: str
    model: str
    ours: bool
    estimate: Estimate
    parameters: int | None


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Models by one number, in percent, the best first.

    title: AGGREGATE, or the name of a mean. tasks: folders of the tasks. partial: whether tasks that s(m) needs are missing.
    differ: whether the tasks are not HEAR's, so that nothing published is comparable. left_out: models without one of them.
    """

    title: str
    tasks: tuple[str, ...]
    partial: bool
    differ: bool
    entries: tuple[RankedModel, ...]
    left_out: tuple[str, ...] = ()


def aggregate_by_seed(row: Row) -> dict[int, float]:
    """s(m) with each seed that all ten tasks have. Nothing when one is missing, or is not HEAR's task of this name."""
    cells = {task: cell for task, cell in _ten(row).items() if not cell.differences}
    if len(cells) < len(TEN):
        return {}
    return over_common_seeds({task: cell.seeds for task, cell in cells.items()}, papers_scale().score)


def _ten(row: Row) -> dict[str, Cell]:
    """The finite scores of a row on the papers' tasks."""
    return {task: row.cells[task] for task in TEN if task in row.cells and math.isfinite(row.cells[task].estimate.mean)}


def with_aggregates(rows: Iterable[Row]) -> list[Row]:
    """Our rows with s(m), where there is one."""
    found = []
    for row in rows:
        by_seed = aggregate_by_seed(row)
        found.append(replace(row, aggregate=estimate(list(by_seed.values()))) if by_seed else row)
    return found


def why_no_aggregate(row: Row) -> str:
    """The reason why a row of ours has no s(m)."""
    there = _ten(row)
    differing = sum(bool(cell.differences) for cell in there.values())
    if differing:
        return f"{differing} {'task is' if differing == 1 else 'tasks are'} not as in HEAR"
    if len(there) < len(TEN):
        return f"partial: {len(there)} of {len(TEN)} tasks"
    return "no seed that all tasks have"


def find_rankings(ours: Sequence[Row], published: Sequence[Row], *, papers: bool) -> list[Ranking]:
    """s(m) where a row of ours has it, and a mean for every other set of tasks that one of ours was evaluated on.

    papers: whether these rows may have s(m).
    """
    rankings = []
    if any(row.aggregate is not None for row in ours):
        entries = [_entry(row, row.aggregate) for row in (*ours, *published) if row.aggregate is not None]
        rankings.append(Ranking(title=AGGREGATE, tasks=TEN, partial=False, differ=False, entries=_sorted(entries)))
    there = {task for row in published for task in row.cells}
    sets = {_comparable(row, there if published else None) for row in ours if row.aggregate is None}
    for chosen in sorted(sets, key=lambda chosen: (-len(chosen), chosen)):
        if len(chosen) > 1:  # of one task its column tells as much
            rankings.append(_mean_ranking(chosen, ours, published, papers=papers))
    return rankings


def by_seed_over(row: Row, tasks: Iterable[str]) -> BySeed:
    """The mean over the tasks with each seed that all of them have."""
    return over_common_seeds({task: row.cells[task].seeds for task in tasks}, mean_of)


# A task and its sha256, or "" where it is HEAR's.
_Version = tuple[str, str]


def _comparable(row: Row, published: set[str] | None) -> tuple[_Version, ...]:
    """The largest set of a row's tasks that a mean over makes sense of, beside published ones where there are any."""
    cells = {task: cell for task, cell in row.cells.items() if cell.percent and math.isfinite(cell.estimate.mean)}
    if published is not None:
        genuine = tuple((task, "") for task, cell in cells.items() if task in published and not cell.differences)
        if genuine:
            return genuine
    named = [task for task in cells if task in KNOWN_TASKS]  # a user's own tasks are no part of a mean with them
    return tuple((task, cells[task].task_sha256 or "") for task in named or cells)


def _mean_ranking(chosen: tuple[_Version, ...], ours: Sequence[Row], published: Sequence[Row], *, papers: bool) -> Ranking:
    tasks = tuple(task for task, _ in chosen)
    differ = any(version for _, version in chosen)
    entries: list[RankedModel] = []
    left_out: list[str] = []
    for row in ours:
        if all(task in row.cells and _is(row.cells[task], version) for task, version in chosen):
            by_seed = by_seed_over(row, tasks)
            if by_seed:
                entries.append(_entry(row, estimate(list(by_seed.values()))))
                continue
        left_out.append(row.label)
    for row in () if differ else published:
        if all(task in row.cells for task in tasks):
            entries.append(_entry(row, Estimate(mean_of({task: row.cells[task].estimate.mean for task in tasks}))))
        else:
            left_out.append(row.label)
    return Ranking(
        title=f"Mean over {several(len(tasks), 'task')}",
        tasks=tasks,
        partial=papers,
        differ=differ,
        entries=_sorted(entries),
        left_out=tuple(left_out),
    )


def _is(cell: Cell, version: str) -> bool:
    return cell.task_sha256 == version if version else not cell.differences


def _entry(row: Row, found: Estimate) -> RankedModel:
    return RankedModel(label=row.label, model=row.model, ours=row.ours, estimate=found, parameters=row.parameters)


def _sorted(entries: Iterable[RankedModel]) -> tuple[RankedModel, ...]:
    return tuple(sorted(entries, key=lambda entry: -entry.estimate.mean))
