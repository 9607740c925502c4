"""Summary -> tables to read as text (Markdown) and to put into a paper (LaTeX)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

from hear_axlstm.classification.pages import MOST_CLASSES, most_confused
from hear_axlstm.evaluation.report.numbers import (
    MINUS,
    PLUS_MINUS,
    metric_title,
    millions,
    p_value,
    ranges,
    with_interval,
)
from hear_axlstm.evaluation.report.rankings import AGGREGATE
from hear_axlstm.evaluation.report.rows import Row
from hear_axlstm.evaluation.report.summary import Section, Summary
from hear_axlstm.evaluation.report.wording import (
    DIFFERS,
    NOTHING,
    WHOLE_MATRIX,
    aggregate_words,
    cell_words,
    classes_words,
    how_to_read,
    pair_words,
    problem_words,
    problems_together,
    ranking_words,
    sentence,
    whose_words,
)

LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # at the start of a row it would be an argument of the row above's end
    "]": "{]}",
    "*": "{*}",
    DIFFERS: r"$^\dagger$",
    NOTHING: "--",
    PLUS_MINUS: r"$\pm$",
    MINUS: "$-$",
    "\N{INFINITY}": r"$\infty$",
    "\N{PRIME}": r"$'$",
}
INTERVAL = re.compile(r" (\$\\pm\$) ([\d.]+)")
MARKDOWN = re.compile(r"([\\`*_{}\[\]#|~])")


def to_markdown(summary: Summary) -> str:
    """A section a protocol: scores, means, differences, what failed, where it comes from."""
    lines = ["# HEAR evaluation", ""]
    if summary.banner:
        lines += [f"> **Imitations:** {_md(summary.banner)}", ""]
    for section in summary.sections:
        lines += _markdown_section(section)
    if summary.without_results:
        lines += [f"Begun, but without results: {_md(', '.join(summary.without_results))}.", ""]
    lines += ["## How to read this", "", *(f"- {_md(words)}" for words in how_to_read(summary)), ""]
    lines += [f"Written by hear-axlstm {summary.version}."]
    return "\n".join(lines) + "\n"


def _markdown_section(section: Section) -> Iterable[str]:
    yield from (f"## Protocol {_md(section.title)}", "", _md(sentence(section.source)), "")
    for warning in section.warnings:
        yield from (f"> **Note:** {_md(warning)}", "")
    if section.hear_columns:
        header = ["Model", "Parameters (M)", *(column.title for column in section.hear_columns)]
        rows = [_score_cells(section, row) for row in section.rows]
        strong = [row.ours and not row.apart for row in section.rows]
        yield from _markdown_table([*header, AGGREGATE] if section.papers else header, rows, strong=strong)
    if section.table is not None:
        source = f"{section.table.source} ({section.table.date}); {section.table.note}"
        yield from (f"{whose_words(section)} The others: {_md(source)}", "")
    if section.other_columns:
        yield from _markdown_others(section)
    for ranking in section.rankings:
        if ranking.title == AGGREGATE:
            continue  # a column of the table above
        yield from (f"### {_md(ranking.title)}", "", _md(ranking_words(ranking, section)), "")
        entries = [[entry.label, with_interval(entry.estimate)] for entry in ranking.entries]
        yield from _markdown_table(["Model", "Mean"], entries, strong=[entry.ours for entry in ranking.entries])
    for pair in section.pairs:
        yield from (f"### {_md(pair.left)} less {_md(pair.right)}", "", _md(pair_words(pair, section)), "")
        differences = [
            [
                task.title,
                with_interval(task.difference.estimate, percent=task.percent, signed=True),
                p_value(task.difference.p),
                p_value(task.adjusted),
            ]
            for task in pair.tasks
        ]
        if pair.overall is not None:
            overall = with_interval(pair.overall.estimate, signed=True)
            differences.append([pair.overall_title, overall, p_value(pair.overall.p), NOTHING])
        yield from _markdown_table(["Task", "Difference", "p", "p, adjusted"], differences)
    if section.problems:
        yield from ("### Failed and missing", "")
        problems = [[problem.row, titles, problem_words(problem)] for problem, titles in problems_together(section.problems)]
        yield from _markdown_table(["Model", "Tasks", "What"], problems, numbers=False)
    if section.differences:
        yield from ("### Not as in HEAR", "")
        for found in section.differences:
            words = f"{DIFFERS} {found.title} ({', '.join(found.rows)}): {'; '.join(found.differences)}"
            yield f"- {_md(words)}"
        yield ""
    yield from ("### Provenance", "")
    for details in section.details:
        facts = [
            f"module {details.module}",
            f"weights sha256 {details.weights_sha256}" if details.weights_sha256 else "the module's own weights",
            *(f"{name} {value}" for name, value in details.options.items()),
            f"seeds {ranges(list(details.seeds))}",
            f"classifiers on {', '.join(details.devices)}",
            *(f"{package} {', '.join(found)}" for package, found in details.versions.items()),
            f"finished {details.first} to {details.last}",
        ]
        yield f"- {_md(details.label)}: {_md('; '.join(facts))}"
    yield from (f"- protocol {_md(section.protocol)}: sha256 {section.sha256}", "")


def _markdown_others(section: Section) -> Iterable[str]:
    """The tasks that HEAR does not have: a table of their scores, and of the classes of each."""
    yield from ("### Tasks that are not HEAR's", "")
    columns = section.other_columns
    header = ["Model", *(f"{column.title}: {metric_title(column.metric)}" for column in columns)]
    rows = [[row.label, *(cell_words(row, column) for column in columns)] for row in section.other_rows]
    yield from _markdown_table(header, rows, strong=[True] * len(rows))
    for found in section.classes:
        yield from (f"#### {_md(found.title)}, {_md(found.row)}", "", _md(classes_words(found)), "")
        if found.precisions:
            averages = [[one.name, f"{one.precision.mean:.3f}", f"{one.clips:,}"] for one in found.precisions]
            yield from _markdown_table(["Class", "Average precision", "Clips"], averages)
            continue
        scores = [
            [one.name, f"{one.precision:.3f}", f"{one.recall:.3f}", f"{one.f1:.3f}", f"{one.clips:,}"]
            for one in found.scores
        ]
        yield from _markdown_table(["Class", "Precision", "Recall", "F1", "Clips"], scores)
        if len(found.classes) <= MOST_CLASSES:
            counts = [[name, *map(str, row)] for name, row in zip(found.classes, found.matrix, strict=True)]
            yield from _markdown_table(["True class, and what it was taken for", *found.classes], counts)
            continue
        most, words = most_confused(np.array(found.matrix), found.classes, WHOLE_MATRIX)
        confused = [[one.true, one.guess, f"{one.count:,} of {one.clips:,}"] for one in most]
        yield from (_md(words), "")
        if confused:
            yield from _markdown_table(["Class", "Was taken for", "Clips"], confused, numbers=False)


def _score_cells(section: Section, row: Row) -> list[str]:
    cells = [row.label, millions(row.parameters), *(cell_words(row, column) for column in section.hear_columns)]
    return [*cells, aggregate_words(row)] if section.papers else cells


def _markdown_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, strong: Sequence[bool] = (), numbers: bool = True
) -> Iterable[str]:
    """numbers: whether all columns but the first hold numbers, which go to the right."""
    yield f"| {' | '.join(map(_md, header))} |"
    yield f"| {' | '.join(['---'] + ['---:' if numbers else '---'] * (len(header) - 1))} |"
    for index, row in enumerate(rows):
        first, *others = map(_md, row)
        first = f"**{first}**" if strong and strong[index] else first
        yield f"| {' | '.join([first, *others])} |"
    yield ""


def _md(text: str) -> str:
    """The text in one line, escaped: no markup, no HTML, no further cell."""
    return MARKDOWN.sub(r"\\\1", " ".join(text.split())).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def to_latex(summary: Summary) -> str:
    """A table a protocol, of ours and the published models, to \\input; it needs the package booktabs and nothing else."""
    return "\n".join(line for section in summary.sections for line in _latex_section(section, summary)) + "\n"


def _latex_section(section: Section, summary: Summary) -> Iterable[str]:
    columns = section.columns if section.table is None else section.hear_columns
    ours = [row for row in section.ours if row.has_any(columns)]
    titles = [column.short for column in columns] + (["$s(m)$"] if section.papers else [])
    yield f"% hear-axlstm {summary.version}, protocol {_tex(section.title)}, sha256 {section.sha256}"
    yield r"% needs \usepackage{booktabs}"
    yield r"\begin{table*}[t]"
    yield r"\centering\scriptsize\setlength{\tabcolsep}{2pt}"
    yield rf"\caption{{{_caption(section, summary.banner)}}}"
    yield rf"\begin{{tabular}}{{lr{'c' * len(titles)}}}"
    yield r"\toprule"
    yield " & ".join(["Model", r"\#M", *(title if title.startswith("$") else _tex(title) for title in titles)]) + r" \\"
    for rows in (section.published, ours):
        if rows:
            yield r"\midrule"
        for row in rows:
            cells = [_tex(row.label), millions(row.parameters) or "--"]
            words = [cell_words(row, column) for column in columns]
            if section.papers:
                words.append(NOTHING if row.aggregate is None else aggregate_words(row))
            cells += [INTERVAL.sub(r"{\\tiny\1\2}", _tex(text)) for text in words]
            yield " & ".join(cells) + r" \\"
    yield r"\bottomrule"
    yield r"\end{tabular}"
    yield r"\end{table*}"


def _caption(section: Section, banner: str) -> str:
    words = [
        *([banner] if banner else []),
        f"Protocol {section.title}: mean over seeds and half width of the 95 % interval, in percent unless the metric has "
        "another unit.",
    ]
    if section.table is not None:
        words.append(f"Published scores: {section.table.source}.")
    words += [
        f"{row.label}: no s(m), {aggregate_words(row)}."
        for row in section.ours
        if section.papers and not row.aggregate and row.has_any(section.hear_columns)
    ]
    words += [
        f"{problem.row}, {titles}: {problem_words(problem)}." for problem, titles in problems_together(section.problems)
    ]
    if section.differences:
        titles = ", ".join(dict.fromkeys(found.title for found in section.differences))
        words.append(f"{DIFFERS} not as in HEAR: {titles}.")
    return _tex(" ".join([*words, *section.warnings]))


def _tex(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in " ".join(text.split()))
