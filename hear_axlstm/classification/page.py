"""A result of ``classify`` -> one HTML page that needs nothing else: no script, no network."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import hear_axlstm.classification.plots as plots
from hear_axlstm.classification.outcome import Classified
from hear_axlstm.classification.pages import confusion_part, per_class_table
from hear_axlstm.explore.page import templates
from hear_axlstm.progress import several
from hear_axlstm.version import __version__

HERE = Path(__file__).parent
MISTAKES = 30  # that are listed
PACKAGES = ("torch", "numpy", "scikit-learn")


def to_page(result: Classified, command: str) -> str:
    """The page as HTML in one text. command: the line that made it, empty where there was none. Needs jinja2."""
    environment = templates(HERE, "the page of a result", "classify")
    from markupsafe import Markup

    page = environment.get_template(
        "page.html.jinja"
    ).render(
        result=result,
        several=several,
        command=command,
        plots=plots,
        looks=plots.looks(result.classes),
        dots=plots.dots(result),
        curve=plots.curve(result.curve, result.chance),
        confusion=Markup(confusion_part(result.confusion, result.classes, "scores.json")),  # noqa: S704 - it escapes the names
        per_class=Markup(per_class_table(result.per_class)),  # noqa: S704
        mistakes=result.mistakes[:MISTAKES],
        version=__version__,
        versions=", ".join(f"{package} {version(package)}" for package in PACKAGES),
    )
    return "\n".join(line for line in page.splitlines() if line.strip()) + "\n"
