"""Results -> a report: a page for browsers, Markdown, LaTeX, CSV or JSON.

rows.py       scores -> rows: a model with an engine, on every task; published models beside it
rankings.py   rows -> one number a model: s(m), or the mean over the tasks there are
pairs.py      two rows -> differences over seeds
details.py    scores -> where a row comes from, its other metrics, folds and settings
summary.py    all of it, by protocol: what every format shows
numbers.py    numbers -> text
tables.py     summary -> Markdown and LaTeX
data.py       summary -> CSV and JSON
plots.py      summary -> places on a plot
page.py       summary -> HTML, by page.html.jinja and its parts, style.css and script.js
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, get_args

from hear_axlstm.errors import ConfigError

if TYPE_CHECKING:
    from hear_axlstm.evaluation.report.summary import Summary
    from hear_axlstm.evaluation.results import Results

ReportFormat = Literal["html", "md", "csv", "json", "latex"]


def write_report(results: Results, format: ReportFormat) -> str:
    """The text of a report; the same for the same results.

    Raises ConfigError on an unknown format, and without scipy or, for "html", without jinja2.
    """
    from hear_axlstm.evaluation.report.data import to_csv, to_json
    from hear_axlstm.evaluation.report.page import to_html
    from hear_axlstm.evaluation.report.summary import summarise
    from hear_axlstm.evaluation.report.tables import to_latex, to_markdown

    if format not in get_args(ReportFormat):
        raise ConfigError(f"format is {format!r}; expected one of {', '.join(get_args(ReportFormat))}")
    writers: dict[ReportFormat, Callable[[Summary], str]] = {
        "html": to_html,
        "md": to_markdown,
        "csv": to_csv,
        "json": to_json,
        "latex": to_latex,
    }
    return writers[format](summarise(results))
