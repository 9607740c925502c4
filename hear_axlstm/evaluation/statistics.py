"""Scores over seeds -> means with 95 % intervals, the papers' aggregate score s(m), and differences between two models.

What varies from seed to seed is the classifier: its initial values, its dropout, the order of the grid. The embeddings and
the clips stay as they are, so that an interval says nothing about another pretraining run or other test clips.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import stdev
from typing import Any

from hear_axlstm.errors import ConfigError, EvaluationError
from hear_axlstm.evaluation.tasks.catalogue import PAPER_TASKS

CONFIDENCE = 0.95
FLOAT32 = 1e-6  # scores are rounded to it, relatively; that must not pass for a spread
AGGREGATE = Path(__file__).with_name("tables") / "aggregate_score.json"

BySeed = Mapping[int, float]


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95 % interval, mean +- ci95.

    ci95: None where there is none, as with one seed. n: how many seeds, None where not known.
    """

    mean: float
    ci95: float | None = None
    n: int | None = None


@dataclass(frozen=True)
class Difference:
    """One model less another, over the seeds that both have. p: a two-sided paired t-test's, None where there is none."""

    estimate: Estimate
    p: float | None


@dataclass(frozen=True)
class AggregateScale:
    """The papers' s(m) = sum of weight x score - offset; scores and s in percent.

    weights: by task folder. source: where the constants are from. largest_error: the largest by which s of the papers' own
    rows is missed. largest_error_left_out: the same, for rows that were left out of the fit.

    The papers normalise every task by its worst and best single run among their models, which are not printed; with those of
    the printed means s would be off by up to 5 points. But s is affine in the ten scores, and 20 rows determine it.
    """

    weights: Mapping[str, float]
    offset: float
    source: str
    largest_error: float
    largest_error_left_out: float

    def score(self, percent: Mapping[str, float]) -> float:
        """s(m) of scores in percent by task folder. May leave 0 to 100: a model may be better than the papers' best.

        Raises EvaluationError when a task is missing: nothing is filled in.
        """
        if missing := [task for task in self.weights if task not in percent]:
            raise EvaluationError(f"s(m) needs all {len(self.weights)} tasks; {', '.join(missing)} missing")
        return math.fsum(weight * percent[task] for task, weight in self.weights.items()) - self.offset


@lru_cache
def papers_scale() -> AggregateScale:
    """The scale of Table 2 of the AxLSTM paper. Its derivation is a test: tests/evaluation/test_statistics.py."""
    found = json.loads(AGGREGATE.read_text(encoding="utf-8"))
    weights = {PAPER_TASKS[key].folder: weight for key, weight in found.pop("weights").items()}
    return AggregateScale(weights=weights, **found)


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and t-interval of independent values, one or more: half width t(.975, n - 1) sd / sqrt(n).

    One value has no interval, equal ones have one of 0. Raises ConfigError without scipy.

    >>> estimate([0.25, 0.25])
    Estimate(mean=0.25, ci95=0.0, n=2)
    """
    n = len(values)
    mean = sum(values) / n
    if n == 1 or not math.isfinite(mean):
        return Estimate(mean, None, n)
    if min(values) == max(values):
        return Estimate(values[0], 0.0, n)
    return Estimate(mean, smallest_t(n) * stdev(values) / math.sqrt(n), n)


def over_common_seeds(scores: Mapping[str, BySeed], combine: Callable[[Mapping[str, float]], float]) -> dict[int, float]:
    """``combine`` (scores of all tasks with one seed) -> one number, for every seed that all tasks have.

    >>> over_common_seeds({"a": {0: 1.0, 1: 2.0}, "b": {1: 4.0}}, mean_of)
    {1: 3.0}
    """
    common = set.intersection(*(set(by_seed) for by_seed in scores.values())) if scores else set()
    return {seed: combine({task: by_seed[seed] for task, by_seed in scores.items()}) for seed in sorted(common)}


def mean_of(scores: Mapping[str, float]) -> float:
    """The mean of the scores over the tasks."""
    return sum(scores.values()) / len(scores)


def paired_difference(left: BySeed, right: BySeed) -> Difference | None:
    """Mean of left less right over the seeds that both have, its interval, and the paired t-test. None without such seeds.

    There is no p with one seed, or when the difference is the same in all and not 0: then its spread is not known.
    Raises ConfigError without scipy.
    """
    common = sorted(set(left) & set(right))
    if not common:
        return None
    values = [left[seed] - right[seed] for seed in common]
    if not all(map(math.isfinite, values)):
        return Difference(estimate(values), None)
    rounding = FLOAT32 * max(max(abs(left[seed]), abs(right[seed])) for seed in common)
    if max(values) - min(values) <= rounding:
        same = 0.0 if abs(values[0]) <= rounding else values[0]
        return Difference(estimate([same] * len(values)), 1.0 if same == 0 and len(values) > 1 else None)
    found = estimate(values)
    if found.ci95 is None:
        return Difference(found, None)
    t = found.mean * math.sqrt(len(values)) / stdev(values)
    return Difference(found, 2 * float(_special().stdtr(len(values) - 1, -abs(t))))


def smallest_t(n: int) -> float:
    """How many standard errors a mean of n values must be from 0 for p < 0.05. Raises ConfigError without scipy.

    >>> round(smallest_t(2), 1), round(smallest_t(10), 1)
    (12.7, 2.3)
    """
    return float(_special().stdtrit(n - 1, (1 + CONFIDENCE) / 2))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p values adjusted for being several, after Holm. None stays None and counts as a test.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    tested = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    for rank, (p, index) in enumerate(tested):
        largest = max(largest, min(1.0, p * (len(p_values) - rank)))
        adjusted[index] = largest
    return adjusted


def _special() -> Any:
    """scipy.special, a fraction of scipy.stats to import. Raises ConfigError, which names the extra, when there is none."""
    try:
        from scipy import special
    except ImportError as error:
        raise ConfigError("intervals and tests need scipy: pip install 'hear-axlstm[evaluate]'") from error
    return special
