"""Scores of one protocol -> rows: a model with an engine on every task, and the published models beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hear_axlstm.evaluation import Engine
from hear_axlstm.evaluation.published import PublishedTable
from hear_axlstm.evaluation.report.numbers import is_percent, ranges, shown
from hear_axlstm.evaluation.results import Failure, ModelRecord, Score
from hear_axlstm.evaluation.statistics import BySeed, Estimate, estimate
from hear_axlstm.evaluation.tasks.catalogue import KNOWN_TASKS, PAPER_TASKS, in_order
from hear_axlstm.evaluation.tasks.taskfolder import SYNTHESISED

SHORT_SHA256 = 8

# The papers' abbreviations, for tables on paper.
SHORT_TITLES = {
    "beijing_opera": "BO",
    "mridangam_stroke": "Mri-S",
    "mridangam_tonic": "Mri-T",
    "nsynth_pitch_5h": "NS-5h",
    "crema_d": "CD",
    "libricount": "LC",
    "speech_commands_5h": "SC-5h",
    "vox_lingua_top10": "VL",
    "esc50": "E50",
    "fsd50k": "F50K",
}


@dataclass(frozen=True, kw_only=True)
class Column:
    """A task as a column of tables. metric: its score."""

    task: str
    title: str
    short: str
    metric: str

    @property
    def is_hears(self) -> bool:
        """Whether HEAR has a task of this name."""
        return self.task in KNOWN_TASKS


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The score of a model on a task, in the unit that is shown.

    seeds: the scores that ``estimate`` sums up; empty for published ones. metric: the column's, unless the task differs.
    differences: from the HEAR task of this name. task_sha256: None for published ones.
    """

    estimate: Estimate
    metric: str
    seeds: BySeed = field(default_factory=dict)
    differences: tuple[str, ...] = ()
    task_sha256: str | None = None

    @property
    def percent(self) -> bool:
        """Whether the score is shown in percent."""
        return is_percent(self.metric)

    @property
    def imitated(self) -> bool:
        """Whether the task is a synthesised imitation of HEAR's."""
        return SYNTHESISED in self.differences


@dataclass(frozen=True, kw_only=True)
class Gap:
    """The lack of a model on a task. kind: "failed", "missing", "mixed" (no score at all) or "seeds" (some lack)."""

    kind: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model with one engine, on all tasks.

    engine: None for published ones. cells, gaps: by task; a task may have both. label: unique among rows. note: the
    published table's. aggregate: s(m).
    """

    label: str
    model: str
    engine: Engine | None
    weights_sha256: str | None
    parameters: int | None
    cells: Mapping[str, Cell]
    gaps: Mapping[str, Gap] = field(default_factory=dict)
    aggregate: Estimate | None = None
    note: str | None = None

    @property
    def ours(self) -> bool:
        """Whether the row is from these results, and not a published one."""
        return self.engine is not None

    @property
    def comparable(self) -> bool:
        """Whether a score of the row, one at least, is of a task of HEAR's as HEAR has it."""
        return any(task in KNOWN_TASKS and not cell.differences for task, cell in self.cells.items())

    @property
    def apart(self) -> bool:
        """Whether the row has scores of ours that compare with nothing published."""
        return self.ours and bool(self.cells) and not self.comparable

    def has_any(self, columns: Iterable[Column]) -> bool:
        """Whether the row has a score or a failure in one of the columns."""
        return any(column.task in self.cells or column.task in self.gaps for column in columns)

    @property
    def seeds(self) -> list[int]:
        """The seeds that any task has, in order."""
        return sorted({seed for cell in self.cells.values() for seed in cell.seeds})


RowKey = tuple[str, Engine, str | None]  # model, engine, sha256 of the weights


def by_row(scores: Iterable[Score]) -> dict[RowKey, dict[str, list[Score]]]:
    """Scores by row and task, seeds in order."""
    found: dict[RowKey, dict[str, list[Score]]] = {}
    for score in sorted(scores, key=lambda score: (score.model, score.engine, score.weights_sha256 or "", score.seed)):
        row = found.setdefault((score.model, score.engine, score.weights_sha256), {})
        row.setdefault(score.task, []).append(score)
    return found


def find_columns(tasks: Iterable[str], scores: Iterable[Score], *, papers: bool) -> list[Column]:
    """The columns for these tasks in the catalogue's order; the papers' ten are always there with ``papers``."""
    wanted = set(tasks) | ({task.folder for task in PAPER_TASKS.values()} if papers else set())
    metrics = {score.task: score.metric for score in scores}
    columns = []
    for name in sorted(wanted, key=in_order):
        known = KNOWN_TASKS.get(name)
        metric = known.metrics[0] if known is not None else metrics.get(name, "")
        title = name if known is None else known.title
        short = SHORT_TITLES.get(known.key or "", title) if known is not None else title
        columns.append(Column(task=name, title=title, short=short, metric=metric))
    return columns


def our_rows(
    scores: Mapping[RowKey, Mapping[str, list[Score]]],
    failures: Iterable[Failure],
    models: Mapping[str, ModelRecord],
    columns: Iterable[Column],
) -> list[Row]:
    """A row for every model that has scores or failures, by name."""
    reasons: dict[RowKey, dict[str, str]] = {}
    for failure in failures:
        keys = [key for key in scores if key[:2] == (failure.model, failure.engine)]
        for key in keys or [(failure.model, failure.engine, models[failure.model].weights_sha256)]:
            reasons.setdefault(key, {})[failure.task] = failure.reason
    keys = sorted(scores.keys() | reasons.keys(), key=lambda key: (key[0], key[1], key[2] or ""))
    rows = []
    for key in keys:
        model, engine, weights = key
        several = sum(other[:2] == key[:2] for other in keys) > 1
        cells, gaps = _cells_and_gaps(scores.get(key, {}), reasons.get(key, {}), columns)
        of_weights = f", weights {(weights or 'of the module')[:SHORT_SHA256]}" if several else ""
        rows.append(
            Row(
                label=f"{model} ({engine}{of_weights}{_imitation(cells)})",
                model=model,
                engine=engine,
                weights_sha256=weights,
                parameters=models[model].parameters,
                cells=cells,
                gaps=gaps,
            )
        )
    return rows


def _imitation(cells: Mapping[str, Cell]) -> str:
    """What a label says of scores on imitated tasks, empty where there are none."""
    imitated = [cell.imitated for cell in cells.values()]
    if not any(imitated):
        return ""
    return ", imitated tasks" if all(imitated) else ", some tasks imitated"


def _cells_and_gaps(
    scores: Mapping[str, list[Score]], reasons: Mapping[str, str], columns: Iterable[Column]
) -> tuple[dict[str, Cell], dict[str, Gap]]:
    cells: dict[str, Cell] = {}
    gaps: dict[str, Gap] = {}
    seeds = {score.seed for of_task in scores.values() for score in of_task}
    kinds = {task in KNOWN_TASKS for task in (*scores, *reasons)}  # of the tasks that are expected of this row
    for column in columns:
        if column.is_hears not in kinds:
            continue
        task = column.task
        found = scores.get(task, [])
        versions = {(score.task_sha256, score.metric) for score in found}
        if len(versions) > 1:
            gaps[task] = Gap(kind="mixed", reason="its seeds are of different tasks of this name: evaluate it again")
        elif found:
            cells[task] = _cell(found)
        if task in reasons:
            gaps[task] = Gap(kind="failed", reason=reasons[task])
        elif not found:
            gaps[task] = Gap(kind="missing", reason="not evaluated")
        elif missing := sorted(seeds - {score.seed for score in found}):
            gaps.setdefault(task, Gap(kind="seeds", reason=f"no score with seed {ranges(missing)}"))
    return cells, gaps


def _cell(scores: list[Score]) -> Cell:
    seeds = {score.seed: shown(score.metric, score.score) for score in scores}
    return Cell(
        estimate=estimate(list(seeds.values())),
        metric=scores[0].metric,
        seeds=seeds,
        differences=tuple(scores[0].differences),
        task_sha256=scores[0].task_sha256,
    )


def published_rows(table: PublishedTable, columns: Iterable[Column]) -> list[Row]:
    """The rows of a published table, in its order."""
    metrics = {column.task: column.metric for column in columns}
    return [
        Row(
            label=model.name,
            model=model.name,
            engine=None,
            weights_sha256=None,
            parameters=model.parameters,
            cells={
                task: Cell(estimate=model.scores[task], metric=metric)
                for task, metric in metrics.items()
                if task in model.scores
            },
            aggregate=model.aggregate,
            note=model.pretraining,
        )
        for model in table.models
    ]
