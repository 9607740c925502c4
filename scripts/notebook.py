"""Run examples/sounds.ipynb, keep its outputs in it, and make docs/notebook.md and its pictures of them.

    python scripts/notebook.py

What the notebook writes goes to a folder that is removed. The page has the cells and their outputs as they are in the
notebook; a test compares both.
"""

import base64
import hashlib
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOK, PAGE = ROOT / "examples/sounds.ipynb", ROOT / "docs/notebook.md"
NOTE = """
This page is the notebook `examples/sounds.ipynb` with what it printed. Open it in Jupyter to run it.
"""


def code_of(notebook: Any) -> str:
    """A hash of all cells: outputs that were kept with another are of another notebook."""
    return hashlib.sha256("\n\n".join(cell.source for cell in notebook.cells).encode()).hexdigest()


def run(notebook: Any) -> None:
    """Execute all cells, and keep what a reader wants of their outputs: no progress bars, no times."""
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=None, resources={"metadata": {"path": folder}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.metadata["hear_axlstm"] = {"code": code_of(notebook)}


def page(notebook: Any) -> tuple[str, dict[str, bytes]]:
    """The page, and its pictures by their paths from the page on. A cell's tag is what its picture is called."""
    parts, pictures = [], {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```{{code}} python\n{cell.source}\n```")
        for output in cell.outputs:
            data = output.get("data", {"text/plain": output.get("text", "")})
            if "image/png" in data:
                (tag,) = cell.metadata["tags"]
                pictures[f"pictures/{tag}.png"] = base64.b64decode(data["image/png"])
                parts.append(f"![{tag}](pictures/{tag}.png)")
            else:
                lines = [line.rstrip() for line in data["text/plain"].rstrip().splitlines()]
                parts.append("\n".join(["```text", *lines, "```"]))
    title, *rest = parts
    heading, _, text = title.partition("\n")
    return "\n\n".join([f"{heading}\n{NOTE}{text}", *rest]) + "\n", pictures


if __name__ == "__main__":
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    run(notebook)
    nbformat.write(notebook, NOTEBOOK)
    text, pictures = page(notebook)
    PAGE.write_text(text)
    for name, picture in pictures.items():
        target = PAGE.parent / name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(picture)
