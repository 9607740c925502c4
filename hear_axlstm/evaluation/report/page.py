"""Summary -> one HTML page that needs nothing else: styles, script and plots are inside, and no network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hear_axlstm.classification import pages
from hear_axlstm.evaluation.report import numbers, wording
from hear_axlstm.evaluation.report.pairs import SIGNIFICANT
from hear_axlstm.evaluation.report.plots import SHAPES, Bars, Dots, Scatter, bars, dots, scatter
from hear_axlstm.evaluation.report.rankings import AGGREGATE, Ranking, why_no_aggregate
from hear_axlstm.evaluation.report.rows import Column, Row
from hear_axlstm.evaluation.report.summary import Section, Summary
from hear_axlstm.explore.page import templates
from hear_axlstm.progress import several

MOST_OPEN = 4  # confusion matrices that the page shows; of more it shows each at a click
MOST_HEADLINES = 4  # of tasks that HEAR does not have; of more it is their mean
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Headline:
    """A number of a row of ours at the head of the page.

    value: None where there is none. imitated: whether an imitated task is in it.
    """

    row: Row
    section: Section
    title: str
    value: str | None
    remark: str
    imitated: bool


@dataclass(frozen=True)
class View:
    """A section with its plots. id: its element's. shapes: the mark of each of our rows, by label."""

    id: str
    section: Section
    shapes: dict[str, str]
    rankings: tuple[tuple[Ranking, Bars, Scatter | None], ...]
    dots: Dots


def to_html(summary: Summary) -> str:
    """The page as HTML in one text. Raises ConfigError without jinja2."""
    environment = templates(HERE, "a report in HTML", "evaluate")
    from markupsafe import Markup

    environment.globals.update(
        numbers=numbers,
        wording=wording,
        AGGREGATE=AGGREGATE,
        SIGNIFICANT=SIGNIFICANT,
        several=several,
        MOST_OPEN=MOST_OPEN,
    )
    environment.globals.update(
        confusion=lambda found: Markup(  # noqa: S704 - it escapes the names
            pages.confusion_part(np.array(found.matrix), found.classes, wording.WHOLE_MATRIX)
        ),
        of_classes=lambda found: Markup(pages.per_class_table(found.scores)),  # noqa: S704
    )
    page = environment.get_template("page.html.jinja").render(
        summary=summary,
        views=[_view(index, section) for index, section in enumerate(summary.sections)],
        headlines=[found for section in summary.sections for row in section.ours for found in _headlines(row, section)],
        how_to_read=wording.how_to_read(summary),
        style=Markup((HERE / "style.css").read_text(encoding="utf-8")),  # noqa: S704 - our own file
        script=Markup((HERE / "script.js").read_text(encoding="utf-8")),  # noqa: S704
    )
    return "\n".join(line for line in page.splitlines() if line.strip()) + "\n"


def _view(index: int, section: Section) -> View:
    shapes = {row.label: SHAPES[place % len(SHAPES)] for place, row in enumerate(section.ours)}
    rankings = tuple((ranking, bars(ranking, shapes), scatter(ranking, shapes)) for ranking in section.rankings)
    return View(f"protocol-{index + 1}", section, shapes, rankings, dots(section, shapes))


def _headlines(row: Row, section: Section) -> Iterable[Headline]:
    """The one number of a row on HEAR's tasks, and one for each other task, or their mean where there are many."""
    others = [column for column in section.other_columns if column.task in row.cells]
    if row.has_any(section.hear_columns) or len(others) > MOST_HEADLINES or not row.cells:
        yield _headline(row, section)
    if len(others) <= MOST_HEADLINES:
        yield from (_of_task(row, section, column, "") for column in others)


def _headline(row: Row, section: Section) -> Headline:
    if row.aggregate is not None:
        remark = f"ten tasks, {several(row.aggregate.n or 0, 'seed')}"
        return Headline(row, section, AGGREGATE, numbers.with_interval(row.aggregate), remark, imitated=False)
    remark = f"No s(m): {why_no_aggregate(row)}" if section.papers else ""
    for ranking in section.rankings:
        for entry in ranking.entries:
            if entry.label == row.label and ranking.title != AGGREGATE:
                imitated = any(row.cells[task].imitated for task in ranking.tasks)
                return Headline(row, section, ranking.title, numbers.with_interval(entry.estimate), remark, imitated)
    there = [column for column in section.hear_columns if column.task in row.cells]
    if len(there) == 1:
        return _of_task(row, section, there[0], remark)
    imitated = any(cell.imitated for cell in row.cells.values())
    return Headline(row, section, several(len(row.cells), "task"), None, remark, imitated)


def _of_task(row: Row, section: Section, column: Column, remark: str) -> Headline:
    cell = row.cells[column.task]
    value = numbers.with_interval(cell.estimate, percent=cell.percent)
    title = f"{column.title}: {numbers.metric_title(cell.metric)}{', percent' if cell.percent else ''}"
    return Headline(row, section, title, value, remark or several(len(cell.seeds), "seed"), cell.imitated)
