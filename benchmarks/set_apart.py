"""Tasks of recordings that no training heard, as `scripts/open_sound.py` sets them apart, and how well a probe does on them.

Those who measure what a change of embeddings costs let the probe learn from the embeddings as they were.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hear_axlstm.audio import Wave, read_audio
from hear_axlstm.classification.labelled import read_labelled
from hear_axlstm.classification.regression import Floats, Indices, Split, learn
from hear_axlstm.classification.scores import balanced_accuracy, confusion_matrix
from hear_axlstm.classification.units import find_copies, find_units
from hear_axlstm.classification.validation import find_splits

FOLDS = 5  # of a task; there are fewer where the rarest class has fewer groups
LEAST_UNITS = 3  # groups of a class
PENALTY = 0.01  # of the regression, scikit-learn's C; that which scripts/validate.py takes most often


@dataclass(frozen=True, eq=False)
class Clips:
    """Labelled sounds. labels: (N,), from 0 on. splits: what to learn from and to test on, one by one."""

    name: str
    waves: list[Wave]
    labels: Indices
    splits: list[Split]

    def score(self, learnt: Floats, tested: Floats) -> float:
        """Balanced accuracy, in percent, of a probe that learns from some embeddings and guesses those of other clips.

        learnt, tested: (N, D) each, of all clips, made in two ways.
        """
        classes = int(self.labels.max()) + 1
        if not self.splits:
            raise ValueError(f"{self.name}: there is nothing to test on; expected two classes of three groups or more")
        guessed = np.full(len(self.labels), -1)
        for train, test in self.splits:
            probe = learn(learnt[train], self.labels[train], classes, PENALTY)
            guessed[test] = probe.probabilities(tested[test]).argmax(1)
        there = guessed >= 0  # was tested
        return 100 * balanced_accuracy(confusion_matrix(self.labels[there], guessed[there], np.arange(classes)))


def read_clips(table: Path, most: int, shortest: int = 0) -> Clips:
    """The clips of a table, of each class as many as of any other that has enough, ``most`` in all.

    shortest: samples that a clip must have; classes of fewer than three groups of such clips are left out.
    """
    labelled = read_labelled(table)
    units = find_units(len(labelled.labels), labelled.groups, find_copies([sound.path for sound in labelled.sounds]))
    waves = [read_audio(Path(str(sound.path)), pad=True) for sound in labelled.sounds]
    names, labels = np.unique(labelled.labels, return_inverse=True)
    long_enough = np.array([len(wave) >= shortest for wave in waves])
    drawn = _of_each_unit(np.random.default_rng(0).permutation(np.flatnonzero(long_enough)), units)
    of_class = [[place for place in drawn if labels[place] == label] for label in range(len(names))]
    of_class = [places for places in of_class if len(np.unique(units[places])) >= LEAST_UNITS]
    chosen = np.array(sorted(place for places in of_class for place in places[: most // len(of_class)]), int)
    ours = np.unique(labels[chosen], return_inverse=True)[1]
    splits = find_splits(ours, units[chosen], FOLDS, seed=0) if len(of_class) > 1 else []
    return Clips(table.stem, [waves[place] for place in chosen], ours, splits)


def _of_each_unit(places: Indices, units: Indices) -> list[int]:
    """The places, first one of each unit, then another of each, and so on."""
    seen: Counter[int] = Counter()
    rounds = []
    for place in places.tolist():
        rounds.append((seen[units[place]], place))
        seen[units[place]] += 1
    return [place for _, place in sorted(rounds, key=lambda each: each[0])]
