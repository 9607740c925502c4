"""Which clips are learnt from, and which are set apart to choose the epoch."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import torch

from hear_axlstm.errors import ConfigError


def divide(labels: Sequence[str], groups: Sequence[str], share: float, seed: int) -> tuple[list[int], list[int]]:
    """The places of the clips to learn from, and of those that are set apart, both in order.

    Of each class about ``share`` of the clips is set apart, one at least, and one at least stays. groups: clips of one group
    are not divided; an empty text is a group by itself; or no groups at all. The seed decides.

    Raises ConfigError where a class cannot be divided.

    >>> divide(["a", "a", "b", "b"], [], 0.2, seed=0)
    ([1, 2], [0, 3])
    """
    members: dict[object, list[int]] = defaultdict(list)
    for place in range(len(labels)):
        members[(groups[place] if groups else "") or place].append(place)
    units = list(members.values())
    order = torch.randperm(len(units), generator=torch.Generator().manual_seed(seed)).tolist()
    left = Counter(labels)
    missing = Counter({label: max(1, round(share * count)) for label, count in left.items()})
    apart: list[int] = []
    for least in (True, False):  # first what brings the shares nearer, then what a class has none of
        for unit in (units[index] for index in order):
            counts = Counter(labels[place] for place in unit)
            if unit[0] in apart or any(left[label] <= count for label, count in counts.items()):
                continue
            nearer = sum(abs(missing[label]) - abs(missing[label] - count) for label, count in counts.items())
            unmet = any(label not in {labels[place] for place in apart} for label in counts)
            if nearer > 0 if least else unmet:
                apart += unit
                left, missing = left - counts, Counter({label: missing[label] - counts[label] for label in missing})
    for label in sorted(set(labels)):
        if label not in {labels[place] for place in apart}:
            kinds = "groups" if groups else "sounds that can be read"
            raise ConfigError(
                f"the class {label!r} cannot be divided: it has too few {kinds}; expected two or more of each class, one to "
                "learn from and one to choose the epoch by"
            )
    return [place for place in range(len(labels)) if place not in set(apart)], sorted(apart)
