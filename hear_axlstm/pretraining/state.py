"""A run on disk: its recipe, its checkpoint, its loss curve and its weights. Each file is whole at any moment."""

from __future__ import annotations

import csv
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from hear_axlstm.errors import OutputError
from hear_axlstm.pretraining.trainer import Trainer
from hear_axlstm.progress import several
from hear_axlstm.storage import changed_options, claim_folder, read_json, replacing, strict_json, sweep, write_text
from hear_axlstm.weights.checkpoint import read_checkpoint, write_checkpoint

RECIPE, CHECKPOINT, CURVE, PLOT = "recipe.json", "checkpoint.safetensors", "curve.csv", "curve.png"
GUESSES, WEIGHTS, LOGS = "guesses.png", "model.safetensors", "tensorboard"
INIT, STEPS, LENGTHS = "init", "steps", "lengths"  # in recipe.json
OURS = (CHECKPOINT, CURVE, PLOT, GUESSES, WEIGHTS, f"{LOGS}/events.out.tfevents.*")
WORDS = changed_options(
    "shards", "synthetic", "subset", "batch", "seed", STEPS
)  # of the recipe; others are its fields alone
COLUMNS = ["step", "loss", "lr", "clips_per_second"]
METADATA_KEY = "hear_axlstm_pretraining"
FORMAT = 3  # of the checkpoint: sealed with a fingerprint


@dataclass(frozen=True)
class RunFolder:
    """The files of a run: recipe.json, checkpoint.safetensors, curve.csv, two pictures, model.safetensors, tensorboard/."""

    path: Path

    def recorded(self) -> dict[str, Any]:
        """What recipe.json says of the run in this folder; nothing where there is no such file, or it is damaged."""
        try:
            found = read_json(self.path / RECIPE, OutputError, "")
        except OutputError:
            return {}
        return found if isinstance(found, dict) and isinstance(found.get(STEPS), int | None) else {}

    @property
    def has_checkpoint(self) -> bool:
        """True when the run in this folder has something to go on from."""
        return (self.path / CHECKPOINT).is_file()

    def open(self, recipe: Mapping[str, Any], *, overwrite: bool = False) -> None:
        """Claim the folder for a run of this recipe, new or to be continued, whose ``steps`` alone may differ.

        Raises OutputError when it holds a run of another recipe, or cannot be written.
        """
        found = {} if overwrite else self.recorded()
        if found and _fingerprint(found.get(INIT)) != _fingerprint(recipe.get(INIT)):
            raise OutputError(
                f"{self.path} holds a run that began with {_described(found.get(INIT))}, not with "
                f"{_described(recipe.get(INIT))}; go on with those, choose another folder, or start over in "
                "this one (--overwrite)"
            )
        same = {name: found[name] for name in (INIT, STEPS) if name in found and name in recipe}
        advice = f"a run keeps all settings but --{STEPS}: choose another folder"
        claim_folder(self.path / RECIPE, {**recipe, **same}, OURS, words=WORDS, overwrite=overwrite, advice=advice)
        sweep(self.path)

    def discard(self) -> None:
        """Remove what a run without a checkpoint has written, and the folder where nothing else is in it."""
        for path in (self.path / RECIPE, self.path / CURVE, *(self.path / LOGS).glob("events.out.tfevents.*")):
            path.unlink(missing_ok=True)
        for folder in (self.path / LOGS, self.path):
            with suppress(OSError):  # not there, or not empty
                folder.rmdir()

    def lengthen(self, step: int, steps: int | None, total: int, before: int) -> list[dict[str, int]]:
        """Record that the run, which has made ``step`` updates, is to make ``total``; all lengths that it had, in order.

        steps: of the recipe. before: how many updates it was to make, where recipe.json does not say. Of lengths without an
        update between them only the last is kept.

        Raises OutputError when the run has made more updates than that already.
        """
        found = self.recorded()
        lengths: list[dict[str, int]] = found.get(LENGTHS) or [{"after": 0, "updates": before}]
        if step > total:
            raise OutputError(
                f"{self.path} holds a run of {several(step, 'update')}, more than {total}; give --steps {step} or more"
            )
        if lengths[-1]["updates"] != total:
            lengths = [length for length in lengths if length["after"] < step] + [{"after": step, "updates": total}]
        if found.get(LENGTHS) != lengths or found.get(STEPS) != steps:
            write_text(self.path / RECIPE, strict_json({**found, STEPS: steps, LENGTHS: lengths}))
        return lengths

    def save(self, step: int, trainer: Trainer) -> None:
        """Write all that a run needs to go on after ``step`` updates. Raises OSError, and then the file before is whole."""
        parts = {part: module.state_dict() for part, module in trainer.modules.items()}
        facts = {"format": FORMAT, "step": step, "blocks": trainer.blocks}
        write_checkpoint(self.path / CHECKPOINT, METADATA_KEY, facts, parts, trainer.optimizer, trainer.scaler)

    def load(self, trainer: Trainer) -> int:
        """Restore what ``save`` wrote, and return the number of updates by then, 0 in a new run.

        Raises OutputError when the checkpoint is damaged, or an earlier version of the package wrote it.
        """

        def restored(facts: dict[str, Any], parts: dict[str, dict[str, Tensor]]) -> int:
            for part in {*parts, *trainer.modules}:
                trainer.modules[part].load_state_dict(parts[part])
            trainer.train_blocks(facts.get("blocks", trainer.blocks))
            return int(facts["step"])

        if not self.has_checkpoint:
            return 0
        path = self.path / CHECKPOINT
        return read_checkpoint(path, METADATA_KEY, FORMAT, trainer.optimizer, trainer.scaler, restored)


def _fingerprint(init: Any) -> str | None:
    return init["sha256"] if isinstance(init, Mapping) and "sha256" in init else None


def _described(init: Any) -> str:
    fingerprint = _fingerprint(init)
    return (
        f"the weights {init['name']} (whose fingerprint begins with {fingerprint:.12})" if fingerprint else "random weights"
    )


class Curve:
    """The loss curve in curve.csv, a line an update. Lines that a killed run wrote after its last checkpoint are cut off.

    Raises OutputError when the file is damaged, OSError when it cannot be written.
    """

    def __init__(self, folder: RunFolder, step: int) -> None:
        path = folder.path / CURVE
        try:
            kept = [row for row in read_curve(path) if int(row["step"]) <= step] if path.is_file() else []
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            raise OutputError(f"{path} is damaged ({error!r}); delete it, and repeat: the run goes on without it") from error
        with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(kept)
        self._file = open(path, "a", newline="", encoding="utf-8", buffering=1)  # noqa: SIM115 - open as long as the run
        self._writer = csv.DictWriter(self._file, COLUMNS, lineterminator="\n")

    def add(self, row: Mapping[str, Any]) -> None:
        """Append the row of one update, whose keys are COLUMNS."""
        self._writer.writerow(row)

    def close(self) -> None:
        """Close the file; no rows may be added after."""
        self._file.close()


def read_curve(path: Path) -> list[dict[str, str]]:
    """The rows of a curve.csv, as strings by column; an unfinished last line is left out."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return list(csv.DictReader(line for line in lines if line.endswith("\n")))


class Board:
    """Scalars and pictures for TensorBoard, in the folder tensorboard/, written at once; without tensorboardX, nothing is.

    tensorboardX writes in a thread, which a full disk ends without a word: whoever gives it more then waits for ever.

    Raises OSError when the file cannot be written.
    """

    def __init__(self, folder: RunFolder, step: int) -> None:
        self._writer: Any = None
        try:
            from tensorboardX.event_file_writer import EventsWriter
            from tensorboardX.proto.event_pb2 import Event, SessionLog
            from tensorboardX.proto.summary_pb2 import Summary
        except ImportError:
            return
        self._event, self._summary = Event, Summary
        (folder.path / LOGS).mkdir(exist_ok=True)
        suffix = f".{step}"  # or a run that goes on within the second would write over what there is
        self._writer = EventsWriter(str(folder.path / LOGS / "events"), filename_suffix=suffix)
        # What a killed run wrote after its last checkpoint is not shown.
        self._writer.write_event(
            Event(wall_time=time.time(), step=step + 1, session_log=SessionLog(status=SessionLog.START))
        )

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values of one update, by name."""
        if self._writer is not None:
            self._write(step, [self._summary.Value(tag=name, simple_value=value) for name, value in values.items()])

    def add_picture(self, step: int, name: str, content: bytes) -> None:
        """Write a picture, a whole PNG, as it is after an update."""
        if self._writer is not None:
            width, height = struct.unpack(">II", content[16:24])  # of its header
            shown = self._summary.Image(width=width, height=height, colorspace=3, encoded_image_string=content)
            self._write(step, [self._summary.Value(tag=name, image=shown)])

    def _write(self, step: int, values: list[Any]) -> None:
        self._writer.write_event(self._event(wall_time=time.time(), step=step, summary=self._summary(value=values)))

    def flush(self) -> None:
        """Have what was added on the disk."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Close the file; nothing may be added after."""
        if self._writer is not None:
            self._writer.close()
