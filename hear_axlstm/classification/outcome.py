"""What ``classify`` found: scores, guesses of every sound, and the classifier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hear_axlstm.classification.apply import SoundClassifier
from hear_axlstm.classification.regression import Floats
from hear_axlstm.classification.scores import Scores
from hear_axlstm.classification.validation import CurvePoint, Validation
from hear_axlstm.progress import first_of, printable, several

ROOM = 0.01  # an accuracy nearer to 1 than this can hardly rise


@dataclass(frozen=True)
class Mistake:
    """A sound whose class was not guessed. probability: of the guess, 0 to 1."""

    name: str
    label: str
    guess: str
    probability: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Classified(Scores):
    """The result of ``classify``. Every score is of sounds that the classifier which guessed them had not heard.

    accuracy, interval, chance, balanced_accuracy, confusion, per_class, confusions: how well classes are told apart.
    names, labels: of the N sounds that could be embedded, in the order given. validation: each one's probabilities, (N, C),
    and the fold that it was tested in. classifier: learnt from all N; its ``predict`` takes new sounds.

    places: (N, 2), on a map where sounds lie together that the classifier finds alike. copies: lists of names of sounds
    that are the same file. groups: of the N sounds; empty where nobody said. failures: name -> why a sound could not be
    embedded. left_out: files that have none of the suffixes of audio, or lie in no class's folder. source: what was
    classified. settings: what it was done with.
    """

    names: list[str]
    labels: list[str]
    validation: Validation
    classifier: SoundClassifier
    places: Floats
    copies: list[list[str]]
    left_out: list[Path]
    settings: Mapping[str, Any]
    groups: list[str] = field(default_factory=list)
    source: str = ""
    failures: Mapping[str, str] = field(default_factory=dict)

    @property
    def guesses(self) -> list[str]:
        """The class that each sound was taken for."""
        return [self.classes[guess] for guess in self.validation.guesses]

    @property
    def curve(self) -> list[CurvePoint]:
        """The accuracy by the number of clips of each class that were learnt from."""
        return self.validation.curve

    @property
    def mistakes(self) -> list[Mistake]:
        """The sounds whose class was not guessed, the surest guesses first: some may have a wrong label."""
        rows = zip(self.names, self.labels, self.guesses, self.validation.probabilities.max(1), strict=True)
        wrong = [Mistake(name, label, guess, float(best)) for name, label, guess, best in rows if label != guess]
        return sorted(wrong, key=lambda one: -one.probability)

    @property
    def torn(self) -> list[list[str]]:
        """The copies of one file that have different labels."""
        label = dict(zip(self.names, self.labels, strict=True))
        return [names for names in self.copies if len({label[name] for name in names}) > 1]

    def interval_words(self) -> str:
        """The interval of the accuracy, and of how many groups it is where sounds are in groups."""
        low, high = self.interval
        of = f" of {several(self.units, 'group')}" if any(self.groups) else ""
        return f"95 % interval{of}: {low:.1%} to {high:.1%}"

    def __repr__(self) -> str:
        failed = f", {len(self.failures)} failed" if self.failures else ""
        classes = printable(first_of(self.classes, 6))
        sounds = f"{several(len(self.names), 'sound')} of {several(len(self.classes), 'class')}"
        return (
            f"Classified: {sounds} ({classes}){failed}\n"
            f"  accuracy {self.accuracy:.1%} ({self.interval_words()}; chance {self.chance:.1%}), "
            f"balanced accuracy {self.balanced_accuracy:.1%}"
        )

    def confusion_words(self) -> str:
        """Which classes were confused most often, in a sentence; empty where none were."""
        if not self.confusions:
            return ""
        most = self.confusions[0]
        return (
            f"Most often confused: {most.true} was taken for {most.guess} ({most.count} of {several(most.clips, 'sound')})."
        )

    def curve_words(self) -> str:
        """Whether more sounds are likely to help, in a sentence: only a rise from below the accuracy's interval says so."""
        if len(self.curve) < 2:
            return "There are too few sounds for a curve."
        last, (low, high) = self.curve[-1], self.interval
        half = next((point for point in reversed(self.curve) if 2 * point.clips <= last.clips), self.curve[0])
        if last.accuracy > 1 - ROOM:
            return (
                f"With up to {several(last.clips, 'clip')} of each class the accuracy is {last.accuracy:.1%} and can hardly "
                "rise: more clips would only tell it more exactly."
            )
        grown = (
            f"From {several(half.clips, 'clip')} to {last.clips} of each class "
            f"the accuracy went from {half.accuracy:.1%} to {last.accuracy:.1%}"
        )
        if half.accuracy < low:
            return f"{grown}: more clips will probably help."
        return f"{grown}; its 95 % interval ({low:.1%} to {high:.1%}) leaves open whether more clips help."


def flattened(validation: Validation, embeddings: Floats) -> Floats:
    """Places on a map: the two directions in which the scores of the classes differ most. Shape: -> (N, 2).

    Of two classes there is one such direction; the other is that in which the embeddings differ most.
    """
    scores = np.log(np.maximum(validation.probabilities, 1e-6))
    places = _principal(scores - scores.mean(1, keepdims=True))
    if validation.probabilities.shape[1] == 2:
        places[:, 1] = _principal(embeddings)[:, 0]
    return places


def _principal(rows: Floats) -> Floats:
    """The first two principal components. Shape: (N, D) -> (N, 2)."""
    left, lengths, _ = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    return np.pad(left * lengths, ((0, 0), (0, 2)))[:, :2]
