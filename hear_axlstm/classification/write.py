"""The files that ``classify`` writes into its folder."""

from __future__ import annotations

import csv
import io
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hear_axlstm.classification.classifier import CLASSIFIER
from hear_axlstm.classification.outcome import Classified
from hear_axlstm.classification.page import to_page
from hear_axlstm.files.folder import valid_text
from hear_axlstm.storage import strict_json, write_text
from hear_axlstm.version import __version__

HEADER, SCORES, PREDICTIONS, REPORT = "classify.json", "scores.json", "predictions.csv", "report.html"
OURS = (CLASSIFIER, SCORES, PREDICTIONS, REPORT)  # a folder that has one of these without the header is another's


def write_results(result: Classified, folder: Path) -> None:
    """Write classifier, predictions, report and scores; each appears whole. Raises OSError."""
    result.classifier.classifier.save(folder / CLASSIFIER)
    write_text(folder / PREDICTIONS, to_csv(result))
    write_text(folder / REPORT, valid_text(to_page(result, _command(result, folder))))
    write_text(folder / SCORES, strict_json(to_json(result)))


def to_csv(result: Classified) -> str:
    """A line for each sound: its path, its label, the guess of a classifier that had not heard it, and how sure that was."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "label", "guess", "probability", "fold"])
    rows = zip(
        result.names,
        result.labels,
        result.guesses,
        result.validation.probabilities.max(1),
        result.validation.fold.tolist(),
        strict=True,
    )
    writer.writerows([name, label, guess, f"{best:.4f}", fold] for name, label, guess, best, fold in rows)
    return valid_text(text.getvalue())


def to_json(result: Classified) -> dict[str, Any]:
    """All numbers of a result, and what they were made with."""
    return {
        "schema": 1,
        "version": __version__,
        **result.facts(),
        "classes": result.classes,
        "confusion": result.confusion.tolist(),
        "per_class": [asdict(one) for one in result.per_class],
        "units": result.units,
        "penalties": result.validation.penalties,
        "learning_curve": [asdict(point) for point in result.curve],
        "classifier": result.classifier.facts,
        "source": result.source,
        "settings": dict(result.settings),
        "copies": result.copies,
        "failures": dict(result.failures),
        "left_out": [str(path) for path in result.left_out],
    }


def _command(result: Classified, folder: Path) -> str:
    """The command that does the same again; empty where the model was in memory."""
    model = result.classifier.facts["model"]
    options = [f"--model={model}", f"--folds={result.settings['folds']}", f"--seed={result.settings['seed']}"]
    options += ["--pad"] if result.settings.get("pad_short") else []
    return shlex.join(["hear-axlstm", "classify", result.source, "-o", str(folder), *options]) if model else ""
