"""Numbers -> what a reader sees of them: one decimal of a percentage, units, p values."""

from __future__ import annotations

import math

from hear_axlstm.evaluation.statistics import Estimate

MINUS = "\N{MINUS SIGN}"
PLUS_MINUS = "\N{PLUS-MINUS SIGN}"

# What is kept as a fraction and shown in percent. Anything else is shown as it is.
FRACTIONS = {
    "top1_acc": "accuracy",
    "pitch_acc": "pitch accuracy",
    "chroma_acc": "chroma accuracy",
    "knn_acc": "accuracy of the 5 nearest neighbours",
    "mAP": "mAP",
    "aucroc": "AUC-ROC",
    "event_onset_200ms_fms": "onset F-measure, 200 ms",
    "event_onset_50ms_fms": "onset F-measure, 50 ms",
    "event_onset_offset_50ms_20perc_fms": "onset and offset F-measure",
    "event_onset_200ms_fms_f_measure": "onset F-measure, 200 ms",
    "event_onset_200ms_fms_precision": "onset precision, 200 ms",
    "event_onset_200ms_fms_recall": "onset recall, 200 ms",
    "event_onset_50ms_fms_f_measure": "onset F-measure, 50 ms",
    "event_onset_50ms_fms_precision": "onset precision, 50 ms",
    "event_onset_50ms_fms_recall": "onset recall, 50 ms",
}
OTHERS = {"d_prime": "d\N{PRIME}", "segment_1s_er": "segment error rate", "loss": "loss"}


def metric_title(metric: str) -> str:
    """The name of a metric for people, or its own where it has none."""
    return FRACTIONS.get(metric) or OTHERS.get(metric) or metric


def is_percent(metric: str) -> bool:
    """Whether a metric is shown in percent."""
    return metric in FRACTIONS


def shown(metric: str, value: float) -> float:
    """A score in the unit that it is shown in.

    >>> shown("mAP", 0.5), shown("d_prime", 2.25)
    (50.0, 2.25)
    """
    return 100 * value if is_percent(metric) else value


def number(value: float, *, percent: bool = True, signed: bool = False) -> str:
    """One decimal of what is in percent, three of anything else.

    >>> number(61.349), number(1.5, percent=False), number(-0.04), number(0.31, signed=True), number(float("inf"))
    ('61.3', '1.500', '0.0', '+0.3', '∞')
    """
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else f"{MINUS if value < 0 else ''}\N{INFINITY}"
    text = f"{value:{'+' if signed else ''}.{1 if percent else 3}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", MINUS)


def with_interval(estimate: Estimate, *, percent: bool = True, signed: bool = False) -> str:
    """A mean with the half width of its interval, where it has one.

    >>> with_interval(Estimate(61.34, 0.56, 10)), with_interval(Estimate(61.34))
    ('61.3 ± 0.6', '61.3')
    """
    text = number(estimate.mean, percent=percent, signed=signed)
    return text if estimate.ci95 is None else f"{text} {PLUS_MINUS} {number(estimate.ci95, percent=percent)}"


def p_value(p: float | None) -> str:
    """A p value with three decimals; small ones as a bound.

    >>> p_value(0.00001), p_value(0.0124), p_value(None)
    ('< 0.001', '0.012', 'none')
    """
    if p is None:
        return "none"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def millions(parameters: int | None) -> str:
    """A number of parameters in millions; empty where it is not known.

    >>> millions(4_343_584), millions(315_400_000), millions(None)
    ('4.3', '315.4', '')
    """
    return "" if parameters is None else f"{parameters / 1e6:.1f}"


def ranges(seeds: list[int]) -> str:
    """Numbers in ascending order, where runs of three or more are one range.

    >>> ranges([0, 1, 2, 5, 7, 8])
    '0 to 2, 5, 7, 8'
    """
    runs: list[list[int]] = []
    for seed in sorted(seeds):
        if runs and runs[-1][-1] + 1 == seed:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)
