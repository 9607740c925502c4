"""Summary -> one HTML page that needs nothing else: styles, script and plots are inside, and no network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hear_axlstm.errors import ConfigError
from hear_axlstm.evaluation.report import numbers, wording
from hear_axlstm.evaluation.report.pairs import SIGNIFICANT
from hear_axlstm.evaluation.report.plots import SHAPES, Bars, Dots, Scatter, bars, dots, scatter
from hear_axlstm.evaluation.report.rankings import AGGREGATE, Ranking, why_no_aggregate
from hear_axlstm.evaluation.report.rows import Row
from hear_axlstm.evaluation.report.summary import Section, Summary

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Headline:
    """The one number of a row of ours at the head of the page. value: None where there is none."""

    row: Row
    section: Section
    title: str
    value: str | None
    remark: str


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
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
        from markupsafe import Markup
    except ImportError as error:
        raise ConfigError("a report in HTML needs jinja2: pip install 'hear-axlstm[evaluate]'") from error
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.update(numbers=numbers, wording=wording, AGGREGATE=AGGREGATE, SIGNIFICANT=SIGNIFICANT)
    page = environment.get_template("page.html.jinja").render(
        summary=summary,
        views=[_view(index, section) for index, section in enumerate(summary.sections)],
        headlines=[_headline(row, section) for section in summary.sections for row in section.ours],
        how_to_read=wording.how_to_read(summary),
        style=Markup((HERE / "style.css").read_text(encoding="utf-8")),  # noqa: S704 - our own file
        script=Markup((HERE / "script.js").read_text(encoding="utf-8")),  # noqa: S704
    )
    return "\n".join(line for line in page.splitlines() if line.strip()) + "\n"


def _view(index: int, section: Section) -> View:
    shapes = {row.label: SHAPES[place % len(SHAPES)] for place, row in enumerate(section.ours)}
    rankings = tuple((ranking, bars(ranking, shapes), scatter(ranking, shapes)) for ranking in section.rankings)
    return View(f"protocol-{index + 1}", section, shapes, rankings, dots(section, shapes))


def _headline(row: Row, section: Section) -> Headline:
    if row.aggregate is not None:
        remark = f"ten tasks, {wording.several(row.aggregate.n or 0, 'seed')}"
        return Headline(row, section, AGGREGATE, numbers.with_interval(row.aggregate), remark)
    remark = f"No s(m), {why_no_aggregate(row)}" if section.papers else ""
    for ranking in section.rankings:
        for entry in ranking.entries:
            if entry.label == row.label and ranking.title != AGGREGATE:
                return Headline(row, section, ranking.title, numbers.with_interval(entry.estimate), remark)
    return Headline(row, section, wording.several(len(row.cells), "task"), None, remark)
