"""A classifier and its weights -> the classes of sounds that nobody has labelled."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hear_axlstm.centring import load_pandas
from hear_axlstm.classification.classifier import PAD_SHORT, Classifier, read_classifier
from hear_axlstm.embedder import Embedder
from hear_axlstm.errors import WeightsError
from hear_axlstm.files import embed
from hear_axlstm.files.folder import valid_text
from hear_axlstm.hear import load_model
from hear_axlstm.progress import several
from hear_axlstm.weights.find import WEIGHTS_FILE
from hear_axlstm.weights.save import fingerprint

COLUMNS = ("path", "label", "probability")


class Guess(NamedTuple):
    """The likeliest class of a sound, and how likely it is, 0 to 1. label: None where the sound could not be embedded."""

    name: str
    label: str | None
    probability: float


@dataclass(frozen=True, eq=False)
class Predictions:
    """The guesses of sounds, in the order that these were given in; iterates as ``Guess``.

    names: of N sounds. probabilities: (N, C), NaN where a sound could not be embedded. classes: C names.
    failures: name -> why a sound could not be embedded.
    """

    names: list[str]
    probabilities: NDArray[np.float64]
    classes: list[str]
    failures: dict[str, str]

    @property
    def labels(self) -> list[str | None]:
        """The likeliest class of each sound; None where it could not be embedded."""
        return [guess.label for guess in self]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Guess:
        row = self.probabilities[index]
        best = int(row.argmax())
        return Guess(self.names[index], None if np.isnan(row[best]) else self.classes[best], float(row[best]))

    def __iter__(self) -> Iterator[Guess]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        sounds, classes = several(len(self), "sound"), several(len(self.classes), "class")
        return f"<Predictions of {sounds}, {classes}, {len(self.failures)} failed>"

    def to_frame(self) -> Any:
        """A pandas data frame: name, label, probability, and a column for each class. Raises ConfigError without pandas."""
        pandas = load_pandas()
        frame = pandas.DataFrame(list(self))
        return frame.join(pandas.DataFrame(self.probabilities, columns=self.classes), rsuffix=" (class)")

    def to_csv(self, *, every_class: bool = False) -> str:
        """Lines ``path,label,probability`` of the sounds that could be embedded; perhaps with a column for each class."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*COLUMNS, *(self.classes if every_class else [])])
        for guess, row in zip(self, self.probabilities, strict=True):
            if guess.label is not None:
                more = [f"{share:.4f}" for share in row] if every_class else []
                writer.writerow([guess.name, guess.label, f"{guess.probability:.4f}", *more])
        return valid_text(text.getvalue())


@dataclass(frozen=True, eq=False)
class SoundClassifier:
    """A classifier with the model whose embeddings it was made for."""

    classifier: Classifier
    model: Embedder

    @property
    def classes(self) -> list[str]:
        """The names of the classes, sorted."""
        return self.classifier.classes

    @property
    def facts(self) -> dict[str, Any]:
        """What the classifier's file says of it: the name of its weights, its accuracy, its clips by class."""
        return self.classifier.facts

    def __repr__(self) -> str:
        return f"<SoundClassifier of {len(self.classes)} classes, for {self.facts.get('model') or 'a model in memory'}>"

    def predict(self, sounds: Any, *, pad_short: bool | None = None, progress: bool | None = None) -> Predictions:
        """The classes of sounds, aligned with them, and how likely these are.

        sounds: what ``embed`` takes: files and folders, or arrays. One that cannot be embedded is in ``failures``, without a
        class. pad_short: whether sounds too short to embed are padded with zeros; left out: as those were that it learnt
        from. progress: as in ``embed``.
        """
        pad_short = bool(self.facts.get(PAD_SHORT)) if pad_short is None else pad_short
        embedded = embed(sounds, self.model, pad_short=pad_short, progress=progress)
        found = np.full((len(embedded), len(self.classes)), np.nan)
        if embedded.ok.any():
            found[embedded.ok] = self.classifier.probabilities(embedded.matrix[embedded.ok])
        return Predictions(embedded.names, found, self.classes, embedded.failures)


def load_classifier(
    path: str | os.PathLike[str], model: str | os.PathLike[str] | Embedder = "", *, device: str = "auto"
) -> SoundClassifier:
    """The classifier that ``classify`` or ``finetune`` wrote, with its weights.

    path: its folder, or classifier.safetensors. model: weights as ``load_model`` takes them, or what it returned; left out:
    model.safetensors beside the classifier where there is one, else what the classifier was made with. device: as in
    ``load_model``.

    Raises WeightsError when classifier or weights are missing or damaged, or the weights are not those that it was made for.
    """
    classifier = read_classifier(path)
    if not isinstance(model, Embedder):
        model = _loaded(Path(path), model, classifier, device)
    found, made_for = fingerprint(model.encoder), str(classifier.facts.get("fingerprint"))
    if (found, model.layout) != (made_for, classifier.facts.get("layout")):
        given = f"the weights given have the fingerprint {found:.12} and the layout {model.layout}"
        made = f"{made_for:.12} and {classifier.facts.get('layout')}, as {classifier.facts.get('model') or 'its model'} had"
        advice = "pass the weights that it was made for (--model), or make it again"
        raise WeightsError(f"{path} was made for other weights: {given}; it needs {made}: {advice}")
    return SoundClassifier(classifier, model)


def _loaded(path: Path, model: str | os.PathLike[str], classifier: Classifier, device: str) -> Embedder:
    """The model that is given, lies beside the classifier, or is named in it."""
    beside = (path if path.is_dir() else path.parent) / WEIGHTS_FILE
    name = os.fspath(model) or (str(beside) if beside.is_file() else classifier.facts.get("model"))
    if not name or not isinstance(name, str):
        raise WeightsError(f"{path} does not say where its weights are; pass them (--model)")
    try:
        return load_model(name, layout=classifier.facts.get("layout"), device=device)
    except WeightsError as error:
        if model:
            raise
        raise WeightsError(f"the weights that {path} was made for cannot be had: {error}; or pass them (--model)") from error
