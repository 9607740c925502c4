"""Which clips are learnt from, and which are set apart to choose by."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import torch

from hear_axlstm.errors import ConfigError


def divide(labels: Sequence[str], units: Sequence[int], share: float, seed: int) -> tuple[list[int], list[int]]:
    """The places of the clips to learn from, and of those that are set apart, both in order.

    Of each class about ``share`` of the clips is set apart, one at least, and one at least stays. units: a number
    of each clip, as ``find_units`` gives them; clips of one number are not divided. The seed decides.

    Raises ConfigError where a class cannot be divided.

    >>> divide(["a", "a", "b", "b"], [0, 1, 2, 3], 0.2, seed=0)
    ([1, 2], [0, 3])
    """
    members: dict[int, list[int]] = defaultdict(list)
    for place, number in enumerate(units):
        members[number].append(place)
    together = list(members.values())
    order = torch.randperm(len(together), generator=torch.Generator().manual_seed(seed)).tolist()
    left = Counter(labels)
    missing = Counter({label: max(1, round(share * count)) for label, count in left.items()})
    apart, met = set[int](), set[str]()
    for least in (True, False):  # first what brings the shares nearer, then what a class has none of
        for unit in (together[index] for index in order):
            counts = Counter(labels[place] for place in unit)
            if unit[0] in apart or any(left[label] <= count for label, count in counts.items()):
                continue
            nearer = sum(abs(missing[label]) - abs(missing[label] - count) for label, count in counts.items())
            if nearer > 0 if least else not met.issuperset(counts):
                apart.update(unit)
                met.update(counts)
                left.subtract(counts)
                missing.subtract(counts)
    for label in sorted(set(labels)):
        if label not in met:
            raise ConfigError(
                f"the class {label!r} cannot be divided: all its sounds that can be read are one, copies, or of one "
                "group; expected two or more of each class, one to learn from and one to set apart"
            )
    return [place for place in range(len(labels)) if place not in apart], sorted(apart)
