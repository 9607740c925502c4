"""Scores as parts of an HTML page: a shaded confusion matrix or the most frequent confusions, and a table of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from hear_axlstm.classification.scores import ClassScore, Confusion, Matrix, confusions

SHADE = "0, 90, 160"  # red, green and blue of a full cell
MOST_CLASSES = 60  # of a confusion matrix that is shown; of more, the confusions are listed
MOST_CONFUSIONS = 30  # in that list
BAR = 120  # px, the length of a bar of 1


def confusion_part(matrix: Matrix, classes: Sequence[str], whole: str) -> str:
    """The confusion matrix as a table or, of many classes, its most frequent confusions. whole: where the matrix is then."""
    if len(classes) <= MOST_CLASSES:
        return confusion_table(matrix, classes)
    shown, words = most_confused(matrix, classes, whole)
    if not shown:
        return f"<p>{escape(words)}</p>"
    rows = "".join(
        f'<tr><th scope="row">{escape(one.true)}</th><td>{escape(one.guess)}</td>'
        f"<td>{one.count:,} of {one.clips:,}</td></tr>"
        for one in shown
    )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("class", "was taken for", "clips"))
    return (
        f'<table class="words"><caption>{escape(words)}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    )


def most_confused(matrix: Matrix, classes: Sequence[str], whole: str) -> tuple[list[Confusion], str]:
    """The most frequent confusions of many classes, and a sentence that says so. whole: where the whole matrix is."""
    found = confusions(matrix, classes)
    if not found:
        return [], f"None of the {len(classes)} classes was taken for another."
    shown = found[:MOST_CONFUSIONS]
    which = f"The {len(shown)} most frequent of {len(found)} confusions" if len(shown) < len(found) else "All confusions"
    return shown, f"{which} are shown; the matrix of {len(classes)} classes is in {whole}."


def confusion_table(matrix: Matrix, classes: Sequence[str]) -> str:
    """A table of the confusion matrix, true classes down, guessed ones across, shaded by the share of the row."""
    head = "".join(f'<th scope="col"><span>{escape(name)}</span></th>' for name in classes)
    rows = []
    for name, counts in zip(classes, matrix.tolist(), strict=True):
        whole = sum(counts) or 1
        cells = "".join(_cell(count, count / whole) for count in counts)
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    caption = "Clips by true class (rows) and guessed class (columns)"
    return (
        f'<table class="confusion"><caption>{caption}</caption>'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def _cell(count: int, share: float) -> str:
    ink = "#fff" if share > 0.5 else "inherit"
    return f'<td style="background: rgba({SHADE}, {share:.2f}); color: {ink}" title="{share:.0%}">{count or ""}</td>'


def per_class_table(scores: Sequence[ClassScore]) -> str:
    """A table with a row for each class: precision, recall, F1, also as a bar, and its number of clips."""
    rows = "".join(
        f'<tr><th scope="row">{escape(one.name)}</th><td>{one.precision:.3f}</td><td>{one.recall:.3f}</td>'
        f"<td>{one.f1:.3f}</td><td>{_bar(one.f1)}</td><td>{one.clips:,}</td></tr>"
        for one in scores
    )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("class", "precision", "recall", "F1", "", "clips"))
    return f'<table class="classes"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _bar(share: float) -> str:
    whole, part = (
        f'<rect width="{width:.1f}" height="12" fill="{fill}"/>'
        for width, fill in ((BAR, "#eee"), (BAR * share, f"rgb({SHADE})"))
    )
    return f'<svg width="{BAR}" height="12" style="width: {BAR}px" aria-hidden="true">{whole}{part}</svg>'
