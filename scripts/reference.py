"""Write what docs/reference takes from the package: the help of every command, and how every docstring begins.

    python scripts/reference.py

commands.md has the help texts below its first paragraph. api.md has a list above each block that autodoc expands, of the
names in the block. The rest of both pages is written by hand and stays as it is.
"""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name

import click

from hear_axlstm.cli import main

REFERENCE = Path(__file__).parents[1] / "docs/reference"
COMMANDS, API = REFERENCE / "commands.md", REFERENCE / "api.md"
WIDTH = 100  # of help, in characters, whatever the terminal has
BLOCK = re.compile(r"\n\n(?:- `hear_axlstm\.[^\n]*\n)*\n*(```\{eval-rst\}\n.*?^```$)", re.MULTILINE | re.DOTALL)


def help_of(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[str]:
    """A section with the --help text for a command, or for each command of a group."""
    context = click.Context(command, parent, name, terminal_width=WIDTH, **command.context_settings)
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            yield from help_of(command.commands[child], child, context)
    else:
        yield f"\n## {context.command_path.partition(' ')[2]}\n\n```text\n{command.get_help(context)}\n```\n"
        for other, child in getattr(command, "others", {}).items():
            yield from help_of(child, f"{name} {other}", parent)


def listed(block: re.Match[str]) -> str:
    """A block for autodoc below the list of its names, each with the first paragraph of its docstring, mostly a line."""
    names = re.findall(r"^\.\. auto\w+:: ([\w.]+)", block[1], re.MULTILINE)
    lines = [f"- `{name}`: {_first_paragraph(resolve_name(name))}" for name in names]
    return "\n".join(["\n", *lines, "", block[1]])


def _first_paragraph(thing: object) -> str:
    return " ".join(str(inspect.getdoc(thing)).partition("\n\n")[0].split())


def pages() -> dict[Path, str]:
    """Both pages as they should be."""
    introduction = COMMANDS.read_text(encoding="utf-8").partition("\n## ")[0]
    return {
        COMMANDS: introduction + "".join(help_of(main, "hear-axlstm")),
        API: BLOCK.sub(listed, API.read_text(encoding="utf-8")),
    }


if __name__ == "__main__":
    for page, text in pages().items():
        page.write_text(text, encoding="utf-8")
