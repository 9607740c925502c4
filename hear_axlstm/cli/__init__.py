"""The ``hear-axlstm`` command: parse, check early, call one public function, return an honest exit code.

Exit codes: 0 all done; 1 something failed; 2 the command cannot be carried out as given.
"""

from hear_axlstm.cli import (
    classification,
    embedding,
    evaluation,
    explore,
    finetuning,
    map,
    pictures,
    pretraining,
    show,
    stream,
    tasks,
    weights,
)
from hear_axlstm.cli.common import main

__all__ = [
    "classification",
    "embedding",
    "evaluation",
    "explore",
    "finetuning",
    "main",
    "map",
    "pictures",
    "pretraining",
    "show",
    "stream",
    "tasks",
    "weights",
]
