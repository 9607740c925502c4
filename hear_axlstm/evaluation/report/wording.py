"""Summary -> words that all formats share: what a cell says, what a ranking is, how to read the numbers."""

from __future__ import annotations

from collections.abc import Iterable

from hear_axlstm.evaluation.protocols import LINEAR
from hear_axlstm.evaluation.report.classes import TaskClasses
from hear_axlstm.evaluation.report.numbers import PLUS_MINUS, with_interval
from hear_axlstm.evaluation.report.pairs import SIGNIFICANT, Pair
from hear_axlstm.evaluation.report.rankings import AGGREGATE, Ranking, why_no_aggregate
from hear_axlstm.evaluation.report.rows import Column, Row
from hear_axlstm.evaluation.report.summary import Problem, Section, Summary
from hear_axlstm.evaluation.statistics import papers_scale, smallest_t
from hear_axlstm.progress import several

DIFFERS = "\N{DAGGER}"
NOTHING = "\N{EN DASH}"
FEW_SEEDS = 5  # with fewer, a test finds hardly anything
WHOLE_MATRIX = "the report with --format json"
KINDS = {"failed": "failed", "missing": "missing", "mixed": "mixed", "seeds": "seeds missing"}


def whose_words(section: Section) -> str:
    """Which rows of a table with published ones are these results."""
    found = [row.apart for row in section.rows if row.ours]
    words = [] if all(found) else ["Rows in bold are these results."]
    if any(found):
        words.append(
            f"Rows marked with {DIFFERS} are these results on tasks that are not as in HEAR: no published row compares "
            "with them."
        )
    return " ".join(words)


def cell_words(row: Row, column: Column) -> str:
    """A score with its interval and marks, or why there is none."""
    cell = row.cells.get(column.task)
    if cell is None:
        gap = row.gaps.get(column.task)
        return NOTHING if gap is None or gap.kind == "missing" else gap.kind
    text = with_interval(cell.estimate, percent=cell.percent)
    return text + (DIFFERS if cell.differences and column.is_hears else "") + seeds_words(row, column)


def seeds_words(row: Row, column: Column) -> str:
    """How many seeds a score of ours has, where others of its row have more."""
    cell = row.cells.get(column.task)
    if cell is None or not row.ours or len(cell.seeds) == len(row.seeds):
        return ""
    return f" (n = {len(cell.seeds)})"


def aggregate_words(row: Row) -> str:
    """s(m) with its interval, or why there is none."""
    if row.aggregate is not None:
        return with_interval(row.aggregate) + aggregate_seeds_words(row)
    return why_no_aggregate(row) if row.ours else NOTHING


def aggregate_seeds_words(row: Row) -> str:
    """How many seeds s(m) of ours has, where single tasks have more."""
    if row.aggregate is None or not row.ours or row.aggregate.n == len(row.seeds):
        return ""
    return f" (n = {row.aggregate.n})"


def sentence(words: str) -> str:
    """Words as a sentence, with a capital and a full stop.

    >>> sentence("the papers: their fork")
    'The papers: their fork.'
    """
    return f"{words[:1].upper()}{words[1:]}."


def ranking_words(ranking: Ranking, section: Section) -> str:
    """The sentences below a ranking's title: which tasks it sums up, and what it must not be taken for."""
    titles = {column.task: column.title for column in section.columns}
    if ranking.title == AGGREGATE:
        return "s(m) is the papers' aggregate of the ten tasks. Higher is better."
    if ranking.differ:
        words = "Nothing published compares with this mean, since these tasks are not as in HEAR."
    elif section.table is None:
        words = "Nothing was published of these tasks with this protocol."
    else:
        words = "For published models it is the mean of their printed scores on the same tasks."
    if ranking.partial:
        words = f"Partial: this is not s(m), which needs all ten tasks as in HEAR. {words}"
    missing = [column.title for column in section.columns if column.task not in ranking.tasks]
    if section.papers and not ranking.differ and missing:
        words += f" These tasks are not in it: {', '.join(missing)}."
    else:
        words += f" These tasks are in it: {', '.join(titles[task] for task in ranking.tasks)}."
    if ranking.left_out:
        words += f" These models are left out, since they lack one of the tasks: {', '.join(ranking.left_out)}."
    return words


def pair_words(pair: Pair, section: Section) -> str:
    """How many tasks differ beyond chance, as far as the seeds that both models have allow a test."""
    seeds = {task.title: task.difference.estimate.n or 0 for task in pair.tasks}
    if max(seeds.values()) == 1:
        if section.protocol == LINEAR.name:
            return "Nothing in the linear engine is random, so differences have no test."
        return "One seed: differences have no test. Evaluate with --seeds 3 or more."
    tested = [(task.title, task.difference.estimate.mean, task.adjusted) for task in pair.tasks if task.adjusted is not None]
    untested = [task.title for task in pair.tasks if task.adjusted is None]
    words = []
    if tested:
        found = [mean for _, mean, adjusted in tested if adjusted < SIGNIFICANT]
        words.append(
            f"Of {several(len(tested), 'task')}, {pair.left} is higher on {sum(mean > 0 for mean in found)} "
            f"and lower on {sum(mean < 0 for mean in found)} (adjusted p < {SIGNIFICANT})."
        )
        fewest = min(seeds[title] for title, _, _ in tested)
        if fewest < FEW_SEEDS:
            words.append(
                f"With {fewest} seeds, a difference counts only from {smallest_t(fewest):.1f} times its standard error on; "
                f"with 10 seeds, from {smallest_t(10):.1f} times."
            )
    if single := [title for title in untested if seeds[title] == 1]:
        words.append(f"Both models have only one seed in common, and so no test, on: {', '.join(single)}.")
    if steady := [title for title in untested if seeds[title] > 1]:
        words.append(f"The difference has no spread over seeds, and so no test, on: {', '.join(steady)}.")
    return " ".join(words)


def classes_words(found: TaskClasses) -> str:
    """How the results by class came about."""
    folds = f" The classifier of its fold judged each, in {found.splits} folds." if found.splits > 1 else ""
    if found.precisions:
        over = f"the mean over {several(found.seeds, 'seed')}" + (f" and {found.splits} folds" if found.splits > 1 else "")
        return f"The table shows the average precision of each class: {over}."
    words = f"All {found.clips:,} test clips are counted.{folds}"
    if found.seeds > 1:
        words += (
            f" The matrix is the sum over {found.seeds} seeds, so that every clip counts {found.seeds} times in it; "
            "precision, recall and F1 are those of this sum."
        )
    return words


def problems_together(problems: Iterable[Problem]) -> list[tuple[Problem, str]]:
    """The problems, one for each model and reason, and the titles of all tasks that have it."""
    found: dict[tuple[str, str], tuple[Problem, list[str]]] = {}
    for problem in problems:
        found.setdefault((problem.row, problem_words(problem)), (problem, []))[1].append(problem.title)
    return [(problem, ", ".join(titles)) for problem, titles in found.values()]


def problem_words(problem: Problem) -> str:
    """The kind of a problem and its reason, in words."""
    return f"{KINDS[problem.kind]}: {problem.reason}" if problem.kind != "missing" else problem.reason


def how_to_read(summary: Summary) -> list[str]:
    """The explanation of the numbers, a paragraph an item."""
    scale = papers_scale()
    words = [
        f"Scores are percentages, unless a unit is named: the mean over seeds, {PLUS_MINUS} the half width of its 95 % "
        "t-interval. Of one seed there is no interval. Folds are averaged first.",
        "What varies from seed to seed is the classifier alone. The embeddings stay as they are, so that an interval says "
        "nothing about another pretraining run or other test clips.",
    ]
    if any(section.papers for section in summary.sections):
        words.append(
            "s(m) is on the scale of Table 2 of the AxLSTM paper. The paper normalises every task by its worst and best "
            "single run, which are not printed; but s(m) is affine in the ten scores, and the table's 20 rows determine it. "
            f"The constants fitted to them reproduce every printed s(m) within {scale.largest_error:.3f}, and that of a row "
            f"left out of the fit within {scale.largest_error_left_out:.2f}. s(m) is computed seed by seed, from the seeds "
            "that all ten tasks have. Missing tasks are never filled in: with fewer than ten there is no s(m) but the mean "
            "over the tasks there are."
        )
    if any(section.table is not None and not section.papers for section in summary.sections):
        words.append("HEAR's leaderboard was made with another protocol than the papers' table; the two must not be mixed.")
    if any(section.pairs for section in summary.sections):
        words.append(
            "Differences are between two models over the seeds that both have: their mean, its 95 % interval, and a "
            "two-sided paired t-test, whose p is adjusted after Holm for the number of tasks. Seeds are those of the "
            "classifier: a small p says that the two sets of embeddings differ, not that the two methods do."
        )
    if any(section.differences for section in summary.sections):
        words.append(f"{DIFFERS} marks scores of a task that is not as in HEAR; they are comparable with nothing published.")
    return words
