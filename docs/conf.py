"""How the documentation is built: Sphinx, MyST Markdown and furo, from this checkout alone and without a network."""

import inspect
import re
from dataclasses import fields, is_dataclass

from hear_axlstm.version import __version__

project = "hear-axlstm"
author = copyright = "the hear-axlstm authors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
highlight_language = "none"
smartquotes = False  # quotes are strings more often than speech
default_role = "code"  # docstrings write `command` as Markdown does

html_theme = "furo"
html_title = f"hear-axlstm {version}"
html_copy_source = False

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_type_aliases = {"ArrayLike": "ArrayLike"}
maximum_signature_line_length = 90


def names_of(thing: object) -> set[str]:
    """What a docstring may explain by its name: parameters, and the fields of a dataclass."""
    found = {field.name for field in fields(thing)} if is_dataclass(thing) else set()
    try:
        return found | set(inspect.signature(thing).parameters)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return found


def list_parameters(app: object, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Sentences that begin with "parameter: " become a list, and what is indented is shown as it is written."""
    names = "|".join(map(re.escape, names_of(thing)))
    start = re.compile(rf"(?:^|(?<=\. ))((?:{names})(?:, (?:{names}))*): ")
    found: list[str] = []
    for paragraph in "\n".join(lines).strip().split("\n\n"):
        if paragraph.startswith(" "):
            found.append(f"::\n\n{paragraph}")
            continue
        if not names or paragraph.startswith(">>>"):
            found.append(paragraph)
            continue
        before, *parts = start.split(" ".join(paragraph.split("\n")))
        items = list(zip(parts[::2], parts[1::2], strict=True))
        rest = ""
        if items and " Raises " in items[-1][1]:
            text, _, rest = items[-1][1].partition(" Raises ")
            items[-1] = items[-1][0], text
        found += [before] if before else []
        found += ["\n".join(f"- ``{key}``: {text.strip()}" for key, text in items)] if items else []
        found += [f"Raises {rest}"] if rest else []
    lines[:] = "\n\n".join(found).split("\n")


def setup(app):
    app.connect("autodoc-process-docstring", list_parameters)
