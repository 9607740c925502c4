"""The file of scores that hear-eval-kit leaves -> an Outcome."""

from __future__ import annotations

import json
from pathlib import Path

from hear_axlstm.errors import EvaluationError
from hear_axlstm.evaluation.kit.grid import settings_of
from hear_axlstm.evaluation.results import Outcome
from hear_axlstm.evaluation.tasks.taskfolder import TaskFolder

SCORES = "test.predicted-scores.json"
NO_SCORE = "time_in_min"


def read_outcome(folder: Path, task: TaskFolder) -> Outcome:
    """Of a folder in which the kit has finished ``task``. Raises EvaluationError when it left no scores there."""
    path = folder / SCORES
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        splits = {split.test: found[split.test] for split in task.data_splits}
        return Outcome(
            splits={
                name: {key: float(value) for key, value in split.items() if key != NO_SCORE}
                for name, split in splits.items()
            },
            settings=settings_of(found["hparams"]).to_dict(),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EvaluationError(f"hear-eval-kit ended well, but left no scores in {path.name} ({error!r})") from error
