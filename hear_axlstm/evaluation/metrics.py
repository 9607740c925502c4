"""Probabilities and targets of a scene task -> scores equal to the kit's, of many trainings at once, on any device."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from hear_axlstm.errors import TaskError

SEMITONES = 12
CHUNK = 1 << 23  # values that a metric which sorts works on at once
_KEY = (1 << 30) - 1  # the bits of the last float32 below 2


def score(name: str, probabilities: Tensor, targets: Tensor) -> float:
    """One training's score. Shape: probabilities, targets (N, C); see ``scores``."""
    return float(scores(name, probabilities[None], targets))


def scores(name: str, probabilities: Tensor, targets: Tensor) -> Tensor:
    """A metric of METRICS for each of R trainings on the same N clips.

    A class without positives has an AP of 0. A class with positives only, or with none, makes aucroc and d_prime NaN; an AUC
    of 1 makes d_prime infinite. NaN among the probabilities makes mAP, aucroc and d_prime NaN.

    Shape: probabilities (R, N, C) in [0, 1], compared as float32, targets (N, C), 0 or 1 -> (R,) float64. Raises TaskError
    on a metric that is not among METRICS.
    """
    check_metrics([name])
    return METRICS[name](probabilities, targets)


def check_metrics(names: list[str] | tuple[str, ...]) -> None:
    """Raises TaskError on a metric that is not among METRICS."""
    for name in names:
        if name.startswith(("event_", "segment_")):
            raise TaskError(
                f"metric {name} is of event tasks, and the native engine has scene tasks only; use --engine heareval"
            )
        if name not in METRICS:
            raise TaskError(f"metric is {name!r}; expected one of {', '.join(METRICS)}")


def accuracy(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Share of the clips whose likeliest class is the (first) true one; of equally likely ones the first counts."""
    return (probabilities.argmax(-1) == targets.argmax(-1)).double().mean(-1)


def chroma_accuracy(probabilities: Tensor, targets: Tensor) -> Tensor:
    """The accuracy for classes that are consecutive semitones, whatever the octave."""
    return (probabilities.argmax(-1) % SEMITONES == targets.argmax(-1) % SEMITONES).double().mean(-1)


def mean_average_precision(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Mean over the classes of the average precision: the step-wise area below precision against recall."""
    return average_precisions(probabilities, targets).mean(-1)


def average_precisions(probabilities: Tensor, targets: Tensor) -> Tensor:
    """The average precision of each class, for each training. Shape: as ``scores`` -> (R, C) float64."""
    return _by_chunks(_average_precision, probabilities, targets)


def mean_auc(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Mean over the classes of the area below the receiver operating characteristic."""
    return _by_chunks(_auc, probabilities, targets).mean(-1)


def d_prime(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Mean over the classes of sqrt(2) times the normal quantile of the AUC."""
    return (2**0.5 * torch.special.ndtri(_by_chunks(_auc, probabilities, targets))).mean(-1)


METRICS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "top1_acc": accuracy,
    "pitch_acc": accuracy,
    "chroma_acc": chroma_accuracy,
    "mAP": mean_average_precision,
    "d_prime": d_prime,
    "aucroc": mean_auc,
}


def _by_chunks(metric: Callable[[Tensor, Tensor], Tensor], probabilities: Tensor, targets: Tensor) -> Tensor:
    """The values of ``metric`` on clips in the order of their probabilities, NaN for a training with NaN among them.

    Shape: as ``scores`` -> (R, C) float64.
    """
    positive = targets.T.to(torch.int32).contiguous()
    found = []
    for chunk in probabilities.split(max(1, CHUNK // targets.numel())):
        # One integer holds both, in descending order of the probability: sorting it needs no indices, and is far quicker.
        keys = (_KEY - chunk.mT.float().contiguous().view(torch.int32)) * 2 + positive
        values = metric(_sort(keys), positive.sum(-1).double())
        found.append(values.masked_fill(chunk.isnan().any(-1).any(-1, keepdim=True), torch.nan))
    return torch.cat(found)


def _sort(keys: Tensor) -> Tensor:
    """The keys sorted along the last axis, on a CPU by NumPy, whose sort is several times faster than torch's."""
    return keys.sort(-1).values if keys.is_cuda else torch.from_numpy(np.sort(keys.numpy(), axis=-1))


def _average_precision(keys: Tensor, positives: Tensor) -> Tensor:
    hits, before, ends = _hits(keys)
    rank = torch.arange(1, keys.shape[-1] + 1, device=keys.device, dtype=torch.float64)
    area = (torch.where(ends, hits - before, 0) * hits / rank).sum(-1)
    return area / positives.clamp(min=1)


def _auc(keys: Tensor, positives: Tensor) -> Tensor:
    hits, before, ends = _hits(keys)
    misses, misses_before, _ = _hits(keys ^ 1)
    area = (torch.where(ends, misses - misses_before, 0) * (hits.double() + before)).sum(-1) / 2
    return area / (positives * (keys.shape[-1] - positives))


def _hits(keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """At each rank: the positives up to it, those up to the last rank of a larger probability, and whether it ends a tie."""
    ends = torch.ones_like(keys, dtype=torch.bool)
    ends[..., :-1] = (keys[..., :-1] ^ keys[..., 1:]) > 1
    hits = (keys & 1).cumsum(-1, dtype=torch.int32)
    before = torch.zeros_like(hits)
    before[..., 1:] = torch.where(ends, hits, 0).cummax(-1).values[..., :-1]
    return hits, before, ends
