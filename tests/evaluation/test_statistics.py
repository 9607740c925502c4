"""Intervals, the papers' s(m) and paired differences: what they are, and that they are the papers' own."""

import math
import sys

import numpy as np
import pytest
import scipy.stats

from hear_axlstm.errors import ConfigError, EvaluationError
from hear_axlstm.evaluation.published import papers_table
from hear_axlstm.evaluation.statistics import (
    Estimate,
    estimate,
    holm,
    mean_of,
    over_common_seeds,
    paired_difference,
    papers_scale,
)
from hear_axlstm.evaluation.tasks.catalogue import PAPER_TASKS

TEN = [task.folder for task in PAPER_TASKS.values()]

# Means and intervals


def test_ten_seeds_have_the_papers_interval():
    """Half width .71536 sd: stats_aggregation.py of the authors' code."""
    values = np.random.default_rng(0).normal(60, 1, 10)
    found = estimate(values.tolist())
    assert found.mean == pytest.approx(values.mean())
    assert found.ci95 == pytest.approx(0.71536 * values.std(ddof=1), rel=1e-5)
    low, _ = scipy.stats.t.interval(0.95, 9, values.mean(), scipy.stats.sem(values))
    assert found.mean - found.ci95 == pytest.approx(low, rel=1e-12)
    assert found.n == 10


def test_intervals_hold_what_they_promise():
    """Of 2,000 experiments with 3 seeds about 95 % catch the truth; with z instead of t they would be 82 %."""
    draws = np.random.default_rng(1).normal(0, 1, (2_000, 3))
    caught = [abs(found.mean) <= found.ci95 for found in map(estimate, draws.tolist())]
    assert 0.94 < np.mean(caught) < 0.96


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.3], Estimate(0.3, None, 1)),
        ([0.1, 0.1, 0.1], Estimate(0.1, 0.0, 3)),  # scipy would say NaN
        ([math.inf, 1.0], Estimate(math.inf, None, 2)),
    ],
)
def test_what_has_no_spread_has_no_made_up_interval(values, expected):
    assert estimate(values) == expected


def test_a_seed_that_is_not_a_number_shows():
    found = estimate([0.5, math.nan, 0.6])
    assert math.isnan(found.mean)
    assert found.ci95 is None


def test_scipy_is_asked_for_by_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ConfigError, match=r"pip install 'hear-axlstm\[evaluate\]'"):
        estimate([0.1, 0.2])


# s(m)


@pytest.fixture(scope="module")
def table():
    """Scores (20, 10) and s (20,) as printed."""
    models = papers_table().models
    scores = np.array([[model.scores[task].mean for task in TEN] for model in models])
    return scores, np.array([model.aggregate.mean for model in models])


def affine_fit(scores, s):
    """Weights and offset of s = scores @ weights - offset, by least squares."""
    *weights, offset = np.linalg.lstsq(np.column_stack([scores, -np.ones(len(s))]), s, rcond=None)[0]
    return np.array(weights), offset


def test_the_constants_are_the_least_squares_fit_of_the_papers_20_rows(table):
    weights, offset = affine_fit(*table)
    scale = papers_scale()
    assert list(scale.weights) == TEN
    np.testing.assert_allclose(list(scale.weights.values()), weights, rtol=1e-9)
    assert scale.offset == pytest.approx(offset, rel=1e-9)


def test_every_printed_s_is_reproduced_within_its_rounding(table):
    scores, s = table
    errors = [
        abs(papers_scale().score(dict(zip(TEN, row, strict=True))) - truth) for row, truth in zip(scores, s, strict=True)
    ]
    assert max(errors) < 0.05
    assert papers_scale().largest_error == pytest.approx(max(errors), abs=5e-4)


def test_a_row_that_the_fit_did_not_see_is_predicted_within_a_fifth_of_a_point(table):
    """11 constants of 20 rows: they would fit anything half as well, were s not affine."""
    scores, s = table
    errors = []
    for index in range(len(s)):
        others = np.arange(len(s)) != index
        weights, offset = affine_fit(scores[others], s[others])
        errors.append(abs(scores[index] @ weights - offset - s[index]))
    assert max(errors) < 0.2
    assert papers_scale().largest_error_left_out == pytest.approx(max(errors), abs=5e-4)


def test_extremes_of_the_printed_means_would_miss_s_by_five_points(table):
    """The formula as the paper prints it, with the numbers it prints: why constants are fitted at all."""
    scores, s = table
    low, high = scores.min(0), scores.max(0)
    missed = np.abs((100 * (scores - low) / (high - low)).mean(1) - s)
    assert missed.max() == pytest.approx(5.1, abs=0.05)
    assert np.median(missed) > 0.5


def test_the_fitted_extremes_enclose_the_printed_means(table):
    """weight = 10 / (max - min): the paper's extremes are of single runs, hence not inside those of the means."""
    scores, _ = table
    spans = 10 / np.array(list(papers_scale().weights.values()))
    assert (spans > 0.97 * np.ptp(scores, axis=0)).all()


def test_s_may_leave_the_papers_range():
    assert papers_scale().score(dict.fromkeys(TEN, 100.0)) > 100
    assert papers_scale().score(dict.fromkeys(TEN, 0.0)) < 0


def test_a_missing_task_is_not_filled_in():
    scores = dict.fromkeys(TEN, 50.0)
    del scores["esc50-v2.0.0-full"]
    with pytest.raises(EvaluationError, match=r"needs all 10 tasks; esc50-v2\.0\.0-full missing"):
        papers_scale().score(scores)


def test_scores_are_combined_seed_by_seed_over_the_seeds_that_all_tasks_have():
    scores = {"a": {0: 1.0, 1: 2.0, 2: 3.0}, "b": {2: 5.0, 1: 4.0, 7: 9.0}}
    assert over_common_seeds(scores, mean_of) == {1: 3.0, 2: 4.0}
    assert over_common_seeds({"a": {0: 1.0}, "b": {1: 1.0}}, mean_of) == {}
    assert over_common_seeds({}, mean_of) == {}


# Differences


def by_seed(values):
    return dict(enumerate(values))


def test_a_difference_is_tested_as_scipy_tests_pairs():
    rng = np.random.default_rng(2)
    hard = rng.normal(0, 3, 10)  # seeds that are hard for both
    left, right = 60 + hard + rng.normal(0, 0.3, 10), 59.7 + hard + rng.normal(0, 0.3, 10)
    found = paired_difference(by_seed(left), by_seed(right))
    truth = scipy.stats.ttest_rel(left, right)
    assert found.p == pytest.approx(truth.pvalue, rel=1e-9)
    interval = truth.confidence_interval(0.95)
    assert found.estimate.mean - found.estimate.ci95 == pytest.approx(interval.low, rel=1e-9)
    unpaired = scipy.stats.ttest_ind(left, right).pvalue
    assert found.p < unpaired / 5


def test_the_interval_excludes_zero_just_when_p_is_below_five_percent():
    rng = np.random.default_rng(3)
    for _ in range(200):
        found = paired_difference(by_seed(rng.normal(0.5, 1, 8)), by_seed(rng.normal(0, 1, 8)))
        assert (abs(found.estimate.mean) > found.estimate.ci95) == (found.p < 0.05)


def test_only_common_seeds_count():
    found = paired_difference({0: 1.0, 1: 2.0, 2: 4.0, 8: 1e6}, {9: -1e6, 2: 1.0, 1: 1.0, 0: 1.0})
    assert (found.estimate.mean, found.estimate.n) == (pytest.approx(4 / 3), 3)
    assert paired_difference({0: 1.0}, {1: 1.0}) is None


def test_equal_seeds_are_no_difference_and_a_constant_one_is_not_testable():
    same = paired_difference(by_seed([0.5, 0.6]), by_seed([0.5, 0.6]))
    assert (same.estimate, same.p) == (Estimate(0.0, 0.0, 2), 1.0)
    # one clip of 47 more in each seed, as scores rounded to float32 have it
    left, right = np.float32([36 / 47, 44 / 47, 41 / 47]), np.float32([35 / 47, 43 / 47, 40 / 47])
    assert np.ptp(left.astype(float) - right.astype(float)) > 0
    constant = paired_difference(by_seed(left.tolist()), by_seed(right.tolist()))
    assert constant.p is None
    assert constant.estimate.ci95 == 0
    assert constant.estimate.mean == pytest.approx(1 / 47, rel=1e-4)


def test_one_seed_is_not_tested():
    assert paired_difference({3: 0.7}, {3: 0.6}).p is None
    assert paired_difference({3: 0.7}, {3: 0.7}).p is None


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_what_is_not_finite_is_not_tested(odd):
    assert paired_difference({0: odd, 1: 1.0}, {0: 0.5, 1: 0.5}).p is None


def test_holm_steps_down_and_never_decreases():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_task_that_could_not_be_tested_still_counts():
    assert holm([None, 0.01, 0.02]) == [None, 0.03, 0.04]


def test_holm_keeps_false_alarms_of_ten_tasks_at_five_percent():
    p_values = np.random.default_rng(4).random((4_000, 10))
    alarms = [min(p for p in holm(row) if p is not None) < 0.05 for row in p_values.tolist()]
    assert np.mean(alarms) == pytest.approx(0.05, abs=0.015)
