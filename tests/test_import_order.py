"""The package reads from top to bottom: a module imports only what stands above it."""

import ast
from pathlib import Path

import hear_axlstm

PACKAGE = Path(hear_axlstm.__file__).parent
ORDER = [
    "version", "errors", "storage", "parallel", "config", "ops", "kernels", "frontend", "patches", "blocks", "encoder",
    "embedder", "weights", "hear", "audio", "files", "synthesis", "pretraining", "evaluation", "cli",
]  # fmt: skip


def stage(module):
    """The place of "hear_axlstm.blocks.mlstm" in ORDER."""
    return ORDER.index(module.split(".")[1])


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path} has a relative import"
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hear_axlstm."):
            yield node.module


def test_every_import_points_up_the_page():
    for path in PACKAGE.rglob("*.py"):
        if path.parent == PACKAGE and path.name in {"__init__.py", "__main__.py"}:
            continue
        module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        if module == "hear_axlstm.kernels.graphs":
            continue  # until the encoder is handed to it
        for target in imports(path):
            assert stage(target) <= stage(module), f"{module} imports {target}, which comes later in the pipeline"
