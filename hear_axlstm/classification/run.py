"""``classify``: labelled sounds -> a classifier, and how well it guesses sounds that it has not heard."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hear_axlstm.classification.apply import SoundClassifier
from hear_axlstm.classification.classifier import PAD_SHORT, Classifier
from hear_axlstm.classification.labelled import Labelled, check_outside, read_labelled
from hear_axlstm.classification.outcome import Classified, flattened
from hear_axlstm.classification.regression import Indices, require_packages
from hear_axlstm.classification.scores import Scores, confusion_matrix
from hear_axlstm.classification.units import find_copies, find_units
from hear_axlstm.classification.validation import cross_validate, learn_from_all
from hear_axlstm.classification.write import HEADER, OURS, write_results
from hear_axlstm.embedder import Embedder
from hear_axlstm.errors import ConfigError, OutputError
from hear_axlstm.files import Embedded, embed
from hear_axlstm.files.result import Failures
from hear_axlstm.files.sounds import FileSound, NoSound
from hear_axlstm.hear import load_model
from hear_axlstm.storage import changed, changed_options, claim_folder, other_weights, sweep
from hear_axlstm.version import __version__
from hear_axlstm.weights.find import read_manifest, variant_of
from hear_axlstm.weights.save import fingerprint

EMBEDDINGS, SUFFIX = "embeddings", ".embedding.npy"  # the folder in the output folder, and what its files end in
ADVICE = "choose another folder"
WORDS = {  # for settings that are others than those a folder was begun with
    **changed_options("folds", "seed"),
    "sounds": changed("the path of the sounds"),
    "weights_sha256": other_weights,
    "layout": changed("the layout of the weights"),
    "pad_short": changed("--pad"),
}
NAMED = 5  # classes or sounds in an error

Model = str | os.PathLike[str] | Embedder
Matrix = NDArray[np.float32]


def classify(
    sounds: str | os.PathLike[str],
    model: Model = "",
    *,
    out: str | os.PathLike[str] | None = None,
    folds: int = 5,
    seed: int = 0,
    pad_short: bool = False,
    device: str = "auto",
    overwrite: bool = False,
    progress: bool | None = None,
) -> Classified:
    """Learn to tell classes of sound apart, and measure how well that works on sounds that were not learnt from.

    Logistic regression learns from standardised scene embeddings. Cross-validation, in which every sound is guessed once by
    a classifier that has not heard it, gives the scores; the classifier that is returned learns from all sounds. Copies of
    one file, and sounds of one group, are never divided between learning and testing. Needs the extra [classify].

    sounds: a folder that has a folder of sounds for each class, two sounds or more; or a CSV file with the columns path and
    label, and perhaps group. model: weights as ``load_model`` takes them, or what it returned.
    out: a folder for embeddings/, classifier.safetensors, scores.json, predictions.csv and report.html. A second run embeds
    only sounds that are new or have changed; with other settings it is refused, unless ``overwrite``.
    folds: of the cross-validation, 2 or more; there are fewer where the rarest class has fewer sounds. seed: of how sounds
    are divided. pad_short: whether sounds too short to embed are padded with zeros, now and when the classifier is applied;
    else they fail. device: as in ``load_model``, for a model that is not loaded yet. progress: as in ``embed``.

    A sound that cannot be embedded is recorded in ``failures`` and does not stop the others. Raises ConfigError on labels or
    options that cannot be used, or without scikit-learn; OutputError where ``out`` must not be continued.
    """
    require_packages("classify", "classify", sklearn="scikit-learn", jinja2="jinja2")
    if folds < 2 or seed < 0:
        raise ConfigError(f"folds is {folds}, seed {seed}; expected 2 folds or more, and a seed of 0 or more")
    labelled = read_labelled(sounds)
    _check_counts(labelled.labels, labelled.classes)
    if out is not None:
        check_outside(out, sounds)
    embedder = model if isinstance(model, Embedder) else load_model(model, device=device)
    settings = {
        "sounds": os.path.abspath(sounds),
        "weights_sha256": fingerprint(embedder.encoder),
        "layout": embedder.layout,
        "folds": folds,
        "seed": seed,
        "pad_short": pad_short or None,  # as in folders of earlier versions, which padded none
    }
    if out is not None:
        claim_folder(Path(out) / HEADER, settings, OURS, words=WORDS, overwrite=overwrite, advice=ADVICE)
        sweep(Path(out))
    folder = None if out is None else Path(out) / EMBEDDINGS
    heard, matrix, failures = _embedded(
        labelled, embedder, folder, overwrite=overwrite, pad_short=pad_short, progress=progress
    )
    result = _learnt(heard, matrix, embedder, _named(model), settings, progress)
    result = replace(result, failures=failures, source=os.fspath(sounds))
    if out is not None:
        write_results(result, Path(out))
    return result


def _check_counts(labels: Sequence[str], classes: Sequence[str], failures: Mapping[str, str] = MappingProxyType({})) -> None:
    """Raise ConfigError unless each of the classes has two sounds or more."""
    counts = Counter(labels)
    if few := [f"{name} ({counts[name]})" for name in classes if counts[name] < 2]:
        failed = "".join(f"; failed: {why}" for why in list(failures.values())[:NAMED])
        expected = "two classes or more are needed, and two sounds of each, one to learn from and one to test on"
        able = " that can be embedded" if failures else ""
        raise ConfigError(f"{expected}; fewer have {_listed(few)}{able}{failed}")


def _check_units(labels: Indices, units: Indices, classes: Sequence[str]) -> None:
    """Raise ConfigError where all sounds of a class belong together."""
    alone = [name for label, name in enumerate(classes) if len(np.unique(units[labels == label])) < 2]
    if alone:
        raise ConfigError(
            f"all sounds of {_listed(alone)} are copies of one file or of one group, so that none can be tested on; "
            "expected sounds of two groups of each class or more"
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _embedded(
    labelled: Labelled, model: Embedder, folder: Path | None, *, overwrite: bool, **options: bool | None
) -> tuple[Labelled, Matrix, dict[str, str]]:
    """The sounds that could be embedded, their embeddings (N, D), and why others could not.

    folder: keeps embeddings. options: of ``embed``.
    """
    names = [_name_inside(sound.name) for sound in labelled.sounds]
    sounds = [replace(sound, name=name) for sound, name in zip(labelled.sounds, names, strict=True)]
    try:
        embedded, matrix = _with_matrix(sounds, model, folder, overwrite=False, **options)
    except OutputError:
        if not overwrite:
            raise
        embedded, matrix = _with_matrix(sounds, model, folder, overwrite=True, **options)
    there = [place for place, name in enumerate(names) if name in matrix]
    failures = Failures()
    for place in sorted(set(range(len(names))) - set(there)):
        sound = labelled.sounds[place]
        failures[sound.name] = embedded.failures.get(names[place]) or embedded.failures.get(str(sound.path), "it is missing")
    heard = labelled.only(there)
    _check_counts(heard.labels, labelled.classes, failures)
    return heard, np.stack([matrix[names[place]] for place in there]), failures


def _with_matrix(
    sounds: Sequence[FileSound | NoSound], model: Embedder, folder: Path | None, **options: Any
) -> tuple[Embedded, dict[str, Matrix]]:
    """What ``embed`` gives, and the embeddings by name, (D,) each. Raises OutputError when one in the folder is damaged."""
    embedded = embed(sounds, model, out=folder, **options)
    if folder is None:
        return embedded, {name: one for name, one in embedded if one is not None}
    found = {}
    for name in (name for name, ok in zip(embedded.names, embedded.ok, strict=True) if ok):
        file = folder / f"{name}{SUFFIX}"
        try:
            found[name] = np.load(file, allow_pickle=False).reshape(model.scene_embedding_size)
        except (OSError, ValueError) as error:
            raise OutputError(f"{file} cannot be read ({error}); remove it, and repeat the command") from error
    return embedded, found


def _name_inside(name: str) -> str:
    """A name for an embedding that does not lead out of its folder, as the paths in a table may: what leads out becomes a
    folder that no other path has. Nor is there a folder called ~, which a shell would take for another.

    >>> _name_inside("../birds/wren.wav"), _name_inside("cat/a.wav")
    ('888a1ef5/birds/wren.wav', 'cat/a.wav')
    """
    path = Path(name)
    inside = [part for part in path.parts if part not in {"..", "~", path.anchor}]
    if len(inside) < len(path.parts):
        inside.insert(0, hashlib.sha256(os.fsencode(path.parent)).hexdigest()[:8])
    return "/".join(inside)


def _named(model: Model) -> str:
    """The name by which a model can be loaded again, from anywhere; empty for one in memory."""
    if isinstance(model, Embedder):
        return ""
    name = os.fspath(model) or str(read_manifest()["default"])
    return name if variant_of(name) or not os.path.exists(name) else os.path.abspath(name)


def _learnt(
    heard: Labelled,
    matrix: Matrix,
    model: Embedder,
    name: str,
    settings: Mapping[str, Any],
    progress: bool | None,
) -> Classified:
    """Scores and the classifier of sounds with their embeddings. name: the model's."""
    from threadpoolctl import threadpool_limits

    classes, names = heard.classes, [sound.name for sound in heard.sounds]
    place = {name: index for index, name in enumerate(classes)}
    labels = np.array([place[label] for label in heard.labels])
    copies = find_copies([sound.path for sound in heard.sounds])
    units = find_units(len(names), heard.groups, copies)
    _check_units(labels, units, classes)
    embeddings, seed = matrix.astype(np.float64), settings["seed"]
    with threadpool_limits(1):  # threads that wait for each other cost more than such small matrices
        validation = cross_validate(
            embeddings, labels, units, len(classes), folds=settings["folds"], seed=seed, progress=progress
        )
        regression, penalty = learn_from_all(embeddings, labels, units, len(classes), seed)
        places = flattened(validation, embeddings)
    confusion = confusion_matrix(heard.labels, [classes[guess] for guess in validation.guesses], classes)
    scores = Scores(classes=classes, confusion=confusion, units=len(np.unique(units)))
    facts = {
        "model": name,
        "fingerprint": settings["weights_sha256"],
        "layout": settings["layout"],
        PAD_SHORT: bool(settings["pad_short"]),
        "version": __version__,
        "penalty": penalty,
        **scores.facts(),
    }
    return Classified(
        classes=classes,
        confusion=confusion,
        units=scores.units,
        names=names,
        labels=heard.labels,
        validation=validation,
        classifier=SoundClassifier(Classifier(*regression.unfolded(), classes, facts), model),
        places=places,
        copies=[[names[place] for place in places] for places in copies],
        left_out=heard.left_out,
        groups=heard.groups,
        settings=settings,
    )
