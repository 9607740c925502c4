"""A run on disk: its settings, its checkpoint, its curve and its results. Each file is whole at any moment."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from hear_axlstm.classification.classifier import CLASSIFIER
from hear_axlstm.errors import OutputError
from hear_axlstm.finetuning.tuner import Tuner
from hear_axlstm.storage import (
    Difference,
    changed,
    changed_options,
    check_folder,
    claim_folder,
    other_weights,
    read_json,
    strict_json,
    sweep,
    write_text,
)
from hear_axlstm.weights.checkpoint import read_checkpoint, write_checkpoint
from hear_axlstm.weights.find import WEIGHTS_FILE

SETTINGS, CHECKPOINT, CURVE, SCORES = "finetune.json", "checkpoint.safetensors", "curve.csv", "scores.json"
OURS = (CHECKPOINT, CURVE, SCORES, WEIGHTS_FILE, CLASSIFIER)
METADATA_KEY = "hear_axlstm_finetuning"
FORMAT = 1
NOW, BEST = "now", "best"  # parts of the checkpoint


def _changed_layer(was: int | None, now: int | None) -> str:
    before, after = ("frozen (--frozen)" if n is None else f"trained from layer {n} on (--from-layer)" for n in (was, now))
    return f"the encoder was {before} and is {after} now"


def _changed_sounds(was: str, now: str) -> str:
    before, after = (str(said).partition(", state ")[0] for said in (was, now))
    if before != after:
        return f"there were {before} and are {after} now"
    return f"of the {after} some were others, or had other labels: files have been changed, renamed or replaced since"


WORDS: dict[str, Difference] = {  # for settings that are others than those a run was begun with
    **changed_options("epochs", "patience", "lr", "batch", "seconds", "validation", "seed"),
    "from_layer": _changed_layer,
    "pad_short": changed("--pad"),
    "sounds": _changed_sounds,
    "fingerprint": other_weights,
    "layout": changed("the layout of the weights"),
}


@dataclass(frozen=True)
class Row:
    """A line of the curve. loss: the mean of an epoch's training losses, NaN for epoch 0, the head alone.

    validation_loss, accuracy, balanced_accuracy: of the clips that were set apart, after the epoch.
    """

    epoch: int
    loss: float
    validation_loss: float
    accuracy: float
    balanced_accuracy: float


@dataclass
class State:
    """How far a run is. step: updates made. losses: their sum in the epoch that is not finished.

    rows: of the finished epochs, from 0. best: all that training changes, after the best of them.
    """

    step: int = 0
    losses: float = 0.0
    rows: list[Row] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)

    @property
    def best_row(self) -> Row:
        """The row with the highest balanced accuracy; of several, that with the lowest validation loss."""
        return max(self.rows, key=lambda row: (row.balanced_accuracy, -row.validation_loss))


@dataclass(frozen=True)
class RunFolder:
    """The files of a run: finetune.json, checkpoint.safetensors, curve.csv, and in the end model.safetensors,
    classifier.safetensors and scores.json.
    """

    path: Path

    @property
    def place(self) -> Path:
        """The folder, or the first one above it that is there already."""
        return next(path for path in (self.path, *self.path.absolute().parents) if path.is_dir())

    def check(self, settings: Mapping[str, Any], *, overwrite: bool = False) -> None:
        """Raise OutputError where ``open`` would. Nothing is written."""
        if not os.access(self.place, os.W_OK):
            raise OutputError(f"{self.place} cannot be written; choose another folder")
        check_folder(self.path / SETTINGS, settings, OURS, words=WORDS, overwrite=overwrite)

    def open(self, settings: Mapping[str, Any], *, overwrite: bool = False) -> None:
        """Claim the folder for a run of these settings, new or to be continued.

        Raises OutputError when it holds a run of other settings, or cannot be written.
        """
        claim_folder(self.path / SETTINGS, settings, OURS, words=WORDS, overwrite=overwrite)
        sweep(self.path)

    def scores(self) -> dict[str, Any] | None:
        """The results of a finished run; None where it is not finished. Raises OutputError on a damaged file."""
        path = self.path / SCORES
        if not path.is_file():
            return None
        scores: dict[str, Any] = read_json(path, OutputError, "start again with --overwrite")
        return scores

    def save(self, state: State, tuner: Tuner) -> None:
        """Write all that a run needs to go on. Raises OSError, and then the file before is whole."""
        facts = {
            "format": FORMAT,
            "step": state.step,
            "losses": state.losses,
            "rows": [{**asdict(row), "loss": row.loss if row.epoch else None} for row in state.rows],
        }
        parts = {NOW: tuner.weights, BEST: state.best}
        write_checkpoint(self.path / CHECKPOINT, METADATA_KEY, facts, parts, tuner.optimizer, tuner.scaler)

    def load(self, tuner: Tuner) -> State | None:
        """Restore what ``save`` wrote; None in a new run. Raises OutputError when the checkpoint is damaged."""

        def restored(facts: dict[str, Any], parts: dict[str, dict[str, Tensor]]) -> State:
            rows = [Row(**{**row, "loss": float("nan") if row["loss"] is None else row["loss"]}) for row in facts["rows"]]
            tuner.restore(parts[NOW])
            return State(int(facts["step"]), float(facts["losses"]), rows, parts[BEST])

        path = self.path / CHECKPOINT
        if not path.is_file():
            return None
        return read_checkpoint(path, METADATA_KEY, FORMAT, tuner.optimizer, tuner.scaler, restored)

    def write_curve(self, rows: Sequence[Row]) -> None:
        """Write curve.csv, a line for each epoch. Raises OSError."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(Row.__dataclass_fields__), lineterminator="\n")
        writer.writeheader()
        writer.writerows({**asdict(row), "loss": row.loss if row.epoch else ""} for row in rows)
        write_text(self.path / CURVE, text.getvalue())

    def finish(self, scores: Mapping[str, Any]) -> None:
        """Write scores.json, which says that the run is finished, and remove the checkpoint. Raises OSError."""
        write_text(self.path / SCORES, strict_json(scores))
        (self.path / CHECKPOINT).unlink(missing_ok=True)
