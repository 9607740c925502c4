"""Results -> the summary that every format shows, a section a protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hear_axlstm.evaluation.protocols import PROTOCOLS
from hear_axlstm.evaluation.published import PublishedTable, papers_table, published_with
from hear_axlstm.evaluation.report.classes import TaskClasses, find_classes
from hear_axlstm.evaluation.report.details import Details, find_details
from hear_axlstm.evaluation.report.pairs import Pair, find_pairs
from hear_axlstm.evaluation.report.rankings import Ranking, find_rankings, with_aggregates
from hear_axlstm.evaluation.report.rows import SHORT_SHA256, Column, Row, by_row, find_columns, our_rows, published_rows
from hear_axlstm.evaluation.results import Failure, ModelRecord, Results, Score
from hear_axlstm.evaluation.tasks.catalogue import KNOWN_TASKS, in_order
from hear_axlstm.evaluation.tasks.taskfolder import SYNTHESISED
from hear_axlstm.version import __version__

WITH_NOTHING = "They compare with nothing that was published, nor with scores of the real tasks."


@dataclass(frozen=True, kw_only=True)
class Differing:
    """A task of ours that differs from HEAR's. rows: labels of the models that were evaluated on it."""

    title: str
    differences: tuple[str, ...]
    rows: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A score that failed or is missing. kind: as in Gap."""

    row: str
    title: str
    kind: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Section:
    """Everything with one protocol. title: its name, with its sha256 where another one has this name.

    source: where the protocol is from. table: the scores that were published with it. papers: whether s(m) is on the papers'
    scale here. warnings: reasons why rows must not be compared.
    """

    protocol: str
    sha256: str | None
    title: str
    source: str
    table: PublishedTable | None
    papers: bool
    columns: tuple[Column, ...]
    ours: tuple[Row, ...]
    published: tuple[Row, ...]
    rankings: tuple[Ranking, ...]
    pairs: tuple[Pair, ...]
    details: tuple[Details, ...]
    differences: tuple[Differing, ...]
    classes: tuple[TaskClasses, ...]
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]

    @property
    def hear_columns(self) -> tuple[Column, ...]:
        """The tasks that HEAR has."""
        return tuple(column for column in self.columns if column.is_hears)

    @property
    def other_columns(self) -> tuple[Column, ...]:
        """The tasks that HEAR does not have, such as a user's own."""
        return tuple(column for column in self.columns if not column.is_hears)

    @property
    def rows(self) -> tuple[Row, ...]:
        """Those on HEAR's tasks: ours without s(m), then all by it, and in the end ours that are comparable with nothing.

        Without s(m) anywhere, ours come first.
        """
        ours = [row for row in self.ours if row.has_any(self.hear_columns)]
        apart = [row for row in ours if row.apart]
        missing = [row for row in ours if row.aggregate is None and row not in apart]
        ranked = [row for row in (*ours, *self.published) if row.aggregate is not None]
        others = [row for row in self.published if row.aggregate is None]
        return (*missing, *sorted(ranked, key=lambda row: -row.aggregate.mean if row.aggregate else 0.0), *others, *apart)

    @property
    def other_rows(self) -> tuple[Row, ...]:
        """Ours on the tasks that HEAR does not have."""
        return tuple(row for row in self.ours if row.has_any(self.other_columns))


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Everything that a report shows, whatever its format.

    version: this package's. banner: what must be said before all else, empty where nothing must. without_results: models
    that were begun and have neither a score nor a failure.
    """

    version: str
    banner: str
    models: tuple[str, ...]
    without_results: tuple[str, ...]
    sections: tuple[Section, ...]


ProtocolKey = tuple[str, str | None]  # name, sha256


def summarise(results: Results) -> Summary:
    """The summary of all results. Raises ConfigError without scipy."""
    scores: dict[ProtocolKey, list[Score]] = {}
    for score in results.scores:
        scores.setdefault((score.protocol, score.protocol_sha256), []).append(score)
    failures: dict[ProtocolKey, list[Failure]] = {}
    for failure in results.failures:
        failures.setdefault(_protocol_of(failure, scores), []).append(failure)
    order = list(PROTOCOLS)
    keys = sorted(
        scores.keys() | failures.keys(),
        key=lambda key: (order.index(key[0]) if key[0] in order else len(order), key[0], not _is_known(key), key[1] or ""),
    )
    sections = tuple(_section(key, scores.get(key, []), failures.get(key, []), results.models, keys) for key in keys)
    there = {score.model for score in results.scores} | {failure.model for failure in results.failures}
    return Summary(
        version=__version__,
        banner=imitation_banner(results.scores),
        models=tuple(results.models),
        without_results=tuple(name for name in results.models if name not in there),
        sections=sections,
    )


def imitation_banner(scores: Iterable[Score]) -> str:
    """What must be said where scores of synthesised imitations stand; empty where there are none."""
    imitated = {score.task: SYNTHESISED in score.differences for score in scores}
    if not any(imitated.values()):
        return ""
    if all(imitated.values()):
        return f"These scores are of synthesised imitations of HEAR's tasks. {WITH_NOTHING}"
    titles = [KNOWN_TASKS[task].title for task in sorted(imitated, key=in_order) if imitated[task]]
    return f"Some of these scores are of synthesised imitations of HEAR's tasks: {', '.join(titles)}. {WITH_NOTHING}"


def _protocol_of(failure: Failure, scores: Iterable[ProtocolKey]) -> ProtocolKey:
    """A failure does not say of which of several protocols of one name it is: of the one that we know, if any."""
    keys = sorted((key for key in scores if key[0] == failure.protocol), key=lambda key: not _is_known(key))
    known = PROTOCOLS.get(failure.protocol)
    return keys[0] if keys else (failure.protocol, None if known is None else known.sha256)


def _is_known(key: ProtocolKey) -> bool:
    return key[0] in PROTOCOLS and PROTOCOLS[key[0]].sha256 == key[1]


def _section(
    key: ProtocolKey,
    scores: Sequence[Score],
    failures: Sequence[Failure],
    models: Mapping[str, ModelRecord],
    keys: Sequence[ProtocolKey],
) -> Section:
    name, sha256 = key
    tasks = {score.task for score in scores} | {failure.task for failure in failures}
    table = published_with(name, sha256 or "") if tasks & KNOWN_TASKS.keys() else None
    papers = table is papers_table()
    columns = find_columns(tasks, scores, papers=papers)
    grouped = by_row(scores)
    ours = our_rows(grouped, failures, models, columns)
    if papers:
        ours = with_aggregates(ours)
    published = [] if table is None else published_rows(table, columns)
    several = sum(other[0] == name for other in keys) > 1
    details = [
        find_details(row, models[row.model], found, columns)
        for row in ours
        if row.engine is not None and (found := grouped.get((row.model, row.engine, row.weights_sha256)))
    ]
    return Section(
        protocol=name,
        sha256=sha256,
        title=f"{name} ({(sha256 or '')[:SHORT_SHA256]})" if several or not _is_known(key) else name,
        source=PROTOCOLS[name].source if _is_known(key) else "a grid that this version of hear-axlstm does not know",
        table=table,
        papers=papers,
        columns=tuple(columns),
        ours=tuple(ours),
        published=tuple(published),
        rankings=tuple(find_rankings(ours, published, papers=papers)),
        pairs=tuple(find_pairs(ours, columns)),
        details=tuple(details),
        differences=tuple(_differences(columns, ours)),
        classes=tuple(find_classes(ours, grouped, columns)),
        problems=tuple(
            Problem(row=row.label, title=column.title, kind=row.gaps[column.task].kind, reason=row.gaps[column.task].reason)
            for row in ours
            for column in columns
            if column.task in row.gaps
        ),
        warnings=tuple(_warnings(key, several, columns, ours)),
    )


def _differences(columns: Iterable[Column], ours: Sequence[Row]) -> Iterable[Differing]:
    for column in filter(lambda column: column.is_hears, columns):
        found: dict[tuple[str, ...], list[str]] = {}
        for row in ours:
            cell = row.cells.get(column.task)
            if cell is not None and cell.differences:
                found.setdefault(cell.differences, []).append(row.label)
        for differences, rows in found.items():
            yield Differing(title=column.title, differences=differences, rows=tuple(rows))


def _warnings(key: ProtocolKey, several: bool, columns: Iterable[Column], ours: Sequence[Row]) -> Iterable[str]:
    name, _ = key
    if several:
        yield (
            f"There are scores of several protocols that are all called {name}. Each has its section; "
            "they must not be compared."
        )
    if name in PROTOCOLS and not _is_known(key):
        yield f"This is not the protocol {name} of this version of hear-axlstm: nothing that was published is comparable."
    for column in columns:
        versions: dict[str | None, list[str]] = {}
        for row in ours:
            if column.task in row.cells:
                versions.setdefault(row.cells[column.task].task_sha256, []).append(row.label)
        if len(versions) > 1:
            groups = "; ".join(f"{', '.join(rows)} ({(sha256 or '')[:SHORT_SHA256]})" for sha256, rows in versions.items())
            yield f"{column.title}: not the same clips and labels for all models, and so not comparable: {groups}."
