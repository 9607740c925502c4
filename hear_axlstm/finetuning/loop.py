"""A whole run of fine-tuning: labelled sounds and a model -> weights and a classifier that fit each other."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hear_axlstm.audio import TOO_SHORT
from hear_axlstm.classification.classifier import CLASSIFIER, PAD_SHORT, read_classifier
from hear_axlstm.classification.labelled import Labelled, check_outside, read_labelled
from hear_axlstm.classification.units import check_apart, find_copies, find_units
from hear_axlstm.embedder import Embedder
from hear_axlstm.errors import ConfigError
from hear_axlstm.files.result import Failures
from hear_axlstm.finetuning.clips import read_clips
from hear_axlstm.finetuning.division import divide
from hear_axlstm.finetuning.log import Log
from hear_axlstm.finetuning.results import choice_of, scores_of, scores_on
from hear_axlstm.finetuning.settings import Settings, first_layer
from hear_axlstm.finetuning.state import Row, RunFolder, State
from hear_axlstm.finetuning.tuner import Guesses, Part, Tuner, rate_at
from hear_axlstm.hear import load_model
from hear_axlstm.progress import progress_bar, somebody_looks
from hear_axlstm.version import __version__
from hear_axlstm.weights.find import WEIGHTS_FILE
from hear_axlstm.weights.save import fingerprint, write_weights

CHUNK_SECONDS = 2.0
NOTE = "these clips chose {}: sounds that had no part in that score lower on the whole"


@dataclass(frozen=True)
class Finetuned:
    """A finished run. folder: ``load_model`` and ``hear-axlstm classify apply`` take it.

    scores: what scores.json says: "best_epoch", "validation", "test" if there is one, and so on. failures: name -> why a
    sound could not be read. was_finished: whether the run had been finished before. left_out: files in the folder of sounds,
    and of test sounds, that have none of the suffixes of audio.
    """

    folder: Path
    scores: dict[str, Any]
    was_finished: bool = False
    left_out: Sequence[Path] = ()

    @property
    def failures(self) -> Failures:
        """Why a sound could not be read, by its name; those of the test as well."""
        return Failures({**self.scores["failures"], **self.scores.get("test", {}).get("failures", {})})

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{part} accuracy {self.scores[part]['accuracy']:.3f}" for part in ("validation", "test") if part in self.scores
        )
        return f"<Finetuned {self.folder}: {shown}>"


def finetune(
    sounds: str | os.PathLike[str],
    out: str | os.PathLike[str],
    model: str | os.PathLike[str] | Embedder = "",
    *,
    frozen: bool = False,
    from_layer: int | None = None,
    test: str | os.PathLike[str] | None = None,
    device: str | torch.device = "auto",
    checkpoint_minutes: float = 5.0,
    overwrite: bool = False,
    progress: bool | None = None,
    **options: Any,
) -> Finetuned:
    """Train a classifier of labelled sounds, the encoder and a linear head together, or go on with the run in ``out``.

    A part of the clips is set apart, and the epoch with the best balanced accuracy on them is kept; epoch 0 is the head
    alone. A run that was killed goes on from its last checkpoint with the same call; on a CPU the result is the same bit for
    bit.

    sounds, test: a folder with a folder of sounds for each class, or a CSV file, as ``read_labelled`` takes them. The sounds
    of ``test`` are not learnt from, nor copies of such sounds, nor of one group with them: they say how good the result is.
    out: a folder that gets model.safetensors, classifier.safetensors, curve.csv and scores.json. model: weights as
    ``load_model`` takes them, or what it returned, which stays as it is. frozen: train the head alone. from_layer: the first
    layer that is trained: 0 is the patch embedding, then come the blocks; the last four blocks by default. device: as in
    ``load_model``; a model that is given stays where it is. checkpoint_minutes: time between two checkpoints within an
    epoch. overwrite: remove the run in ``out`` first. progress: a bar at a terminal or in a notebook, elsewhere lines; None
    leaves out the lines. options: the others of ``Settings``.

    Raises ConfigError on bad options and sounds, WeightsError on bad weights, OutputError on a folder that must not be
    continued, TrainingError on a loss that is not finite, OSError when a file cannot be written.
    """
    labelled = read_labelled(sounds)
    tested = None if test is None else read_labelled(test)
    if tested and (unknown := sorted(set(tested.classes) - set(labelled.classes))):
        raise ConfigError(f"{test} has the classes {', '.join(unknown)}, which {sounds} has not; expected the same classes")
    if tested:
        check_apart(labelled, tested)
    check_outside(out, sounds)
    loaded = model if isinstance(model, Embedder) else load_model(model, device=device)
    settings = Settings(from_layer=first_layer(from_layer, frozen, loaded.encoder.config.depth), **options)
    origin = {"fingerprint": fingerprint(loaded.encoder), "layout": loaded.layout}
    folder = RunFolder(Path(out))
    recorded = {**settings.to_dict(), **origin, "sounds": _described(labelled)}
    folder.check(recorded, overwrite=overwrite)
    was_finished = (scores := None if overwrite else folder.scores()) is not None
    if scores is None:
        named = "" if isinstance(model, Embedder) else os.fspath(model)
        run = _Run(folder, labelled, loaded, settings, {"model": named, **origin}, progress)
        folder.open(recorded, overwrite=overwrite)
        run.begin()
        run.train(checkpoint_minutes)
        scores = run.finish()
    if tested is not None and scores.get("test", {}).get("sounds") != (described := _described(tested)):
        result, classifier = load_model(folder.path, device=loaded.device), read_classifier(folder.path)
        scores["test"] = {
            "sounds": described,
            **scores_on(classifier, result, tested, progress=False if progress is False else None),
        }
        folder.finish(scores)
    left_out = [*labelled.left_out, *(tested.left_out if tested else [])]
    return Finetuned(folder.path, scores, was_finished, left_out)


def _described(labelled: Labelled) -> str:
    """What tells these sounds from others."""
    return f"{len(labelled.sounds)} sounds of {len(labelled.classes)} classes, state {labelled.fingerprint()[:16]}"


class _Run:
    """A run from its beginning, or from its last checkpoint, to its results. Until ``begin`` nothing is written.

    origin: the facts of the model that it began with.
    """

    def __init__(
        self,
        folder: RunFolder,
        labelled: Labelled,
        model: Embedder,
        settings: Settings,
        origin: dict[str, Any],
        progress: bool | None,
    ) -> None:
        self.folder, self.settings, self.origin, self.progress = folder, settings, origin, progress
        columns = model.encoder.config.grid[0]
        bars = False if progress is False else somebody_looks()
        self.clips = read_clips(labelled, columns, folder.place, pad_short=settings.pad_short, progress=bars)
        self.classes = labelled.classes
        if lost := sorted(set(self.classes) - set(self.clips.labels)):
            names = [sound.name for sound, label in zip(labelled.sounds, labelled.labels, strict=True) if label == lost[0]]
            why = next((self.clips.failures[name] for name in names if name in self.clips.failures), "")
            mend = "pad them (--pad)" if TOO_SHORT in why else "mend them"
            raise ConfigError(f"no sound of the class {lost[0]!r} can be read ({why}); {mend}, or leave the class out")
        copies = find_copies([sound.path for sound in labelled.sounds])
        units = find_units(len(labelled.sounds), labelled.groups, copies)[self.clips.given].tolist()
        self.training, self.apart = divide(self.clips.labels, units, settings.validation, settings.seed)
        self.tuner = Tuner(model, self.clips, self.classes, settings)
        with progress_bar(total=len(self.clips), unit=" clips", desc="embed", shown=bars) as bar:
            self.tuner.begin(self.training, self.apart, bar.update)
        self.state = State()

    def begin(self) -> None:
        """Go on from the last checkpoint, or write the first one."""
        self.state = self.folder.load(self.tuner) or self.state
        if not self.state.rows:
            self._take_row(float("nan"))

    def train(self, checkpoint_minutes: float) -> None:
        """Make epochs until there are enough of them, or ``patience`` of them have not been better."""
        settings, state = self.settings, self.state
        if settings.from_layer is None:
            return
        each = -(-len(self.training) // settings.batch)
        saved = time.monotonic()
        with Log(settings.epochs, len(self.training), state.step / each, shown=self.progress) as log:
            log.epoch(state.rows[-1])
            while (epoch := len(state.rows)) <= settings.epochs and epoch - state.best_row.epoch <= settings.patience:
                for parts in self._updates(epoch)[state.step - (epoch - 1) * each :]:
                    loss = self.tuner.update(parts, rate_at(state.step, settings.epochs * each))
                    state.step += 1
                    state.losses += loss * len(parts)
                    log.update(epoch, len(parts), loss)
                    if time.monotonic() - saved > 60 * checkpoint_minutes:
                        self.folder.save(state, self.tuner)
                        saved = time.monotonic()
                self._take_row(state.losses / len(self.training))
                saved = time.monotonic()
                log.epoch(state.rows[-1])

    def _updates(self, epoch: int) -> list[list[Part]]:
        """The clips of each update of an epoch, in an order drawn anew, and the chunks of each that it looks at."""
        generator = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + epoch)
        most = max(1, round(self.settings.seconds / CHUNK_SECONDS))
        parts: list[Part] = []
        for index in torch.randperm(len(self.training), generator=generator).tolist():
            chunks = self.clips.chunks[clip := self.training[index]]
            first = int(torch.randint(max(1, len(chunks) - most + 1), (), generator=generator))
            parts.append((clip, chunks[first : first + most]))
        return [parts[start : start + self.settings.batch] for start in range(0, len(parts), self.settings.batch)]

    def _take_row(self, loss: float) -> None:
        """Finish an epoch: guess the clips that were set apart, and write the curve and a checkpoint."""
        state, guesses = self.state, self.tuner.guess(self.apart)
        scores = self._validation(guesses)
        state.rows.append(Row(len(state.rows), loss, guesses.loss, scores["accuracy"], scores["balanced_accuracy"]))
        state.losses = 0.0
        if state.best_row is state.rows[-1]:
            state.best = {name: tensor.clone() for name, tensor in self.tuner.weights.items()}
        self.folder.write_curve(state.rows)
        self.folder.save(state, self.tuner)

    def _validation(self, guesses: Guesses) -> dict[str, Any]:
        guessed = [self.classes[index] for index in guesses.classes]
        return scores_of([self.clips.labels[clip] for clip in self.apart], guessed, self.classes)

    def finish(self) -> dict[str, Any]:
        """Write the weights and the classifier of the best epoch, and the scores."""
        tuner, rows, best = self.tuner, self.state.rows, self.state.best_row
        tuner.restore(self.state.best)
        validation = {"loss": best.validation_loss, **self._validation(tuner.guess(self.apart))}
        origin = {**self.origin, "settings": self.settings.to_dict(), "hear_axlstm": __version__}
        made = {"epoch": best.epoch, "validation_accuracy": best.accuracy, "classes": self.classes}
        facts = {
            "model": WEIGHTS_FILE,
            "fingerprint": fingerprint(tuner.encoder),
            "layout": tuner.model.layout,
            "made_by": "finetune",
            PAD_SHORT: self.settings.pad_short,
            "accuracy": best.accuracy,
        }
        classifier = tuner.head.folded(self.classes, facts)
        tensors = {"weight": torch.from_numpy(classifier.weight), "bias": torch.from_numpy(classifier.bias)}
        write_weights(
            tuner.encoder.config,
            tuner.encoder.state_dict(),
            self.folder.path / WEIGHTS_FILE,
            {"finetuned_from": origin, **made},
            layout=tuner.model.layout,
            head=({"labels": self.classes, "problem_type": ""}, tensors),  # for transformers, by way of hear_axlstm.pack
        )
        classifier.save(self.folder.path / CLASSIFIER)
        scores = {
            "classes": self.classes,
            "best_epoch": best.epoch,
            "epochs": len(rows) - 1,
            "training_clips": len(self.training),
            "validation": {**validation, "note": NOTE.format(choice_of(len(rows) - 1))},
            "head_alone": {"loss": rows[0].validation_loss, "accuracy": rows[0].accuracy},
            "validation_sounds": [self.clips.names[clip] for clip in self.apart],
            "failures": self.clips.failures,
        }
        self.folder.finish(scores)
        return scores
