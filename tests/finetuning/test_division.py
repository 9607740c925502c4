"""Clips are set apart class by class, and what belongs together stays together."""

from collections import Counter

import pytest

from hear_axlstm.errors import ConfigError
from hear_axlstm.finetuning.division import divide


@pytest.mark.parametrize(("clips", "apart"), [(2, 1), (4, 1), (10, 2), (25, 5)])
def test_a_fifth_of_each_class_is_set_apart_and_one_clip_at_least(clips, apart):
    labels = ["a", "b", "c"] * clips
    training, others = divide(labels, range(len(labels)), 0.2, seed=0)
    assert sorted(training + others) == list(range(len(labels)))
    assert Counter(labels[place] for place in others) == dict.fromkeys("abc", apart)


def test_the_seed_decides():
    labels = ["a", "b"] * 10
    assert divide(labels, range(len(labels)), 0.2, seed=1) == divide(labels, range(len(labels)), 0.2, seed=1)
    assert divide(labels, range(len(labels)), 0.2, seed=1) != divide(labels, range(len(labels)), 0.2, seed=2)


@pytest.mark.parametrize("seed", range(5))
def test_a_group_is_not_divided(seed):
    groups = [number % 7 for number in range(70)]
    labels = ["yes" if number % 2 else "no" for number in range(70)]
    training, others = divide(labels, groups, 0.2, seed)
    assert not {groups[place] for place in training} & {groups[place] for place in others}
    for part in (training, others):
        assert {labels[place] for place in part} == {"yes", "no"}


@pytest.mark.parametrize(
    ("labels", "units"),
    [(["a", "a", "b"], [0, 1, 2]), (["a", "a", "b", "b"], [0, 0, 2, 3])],
    ids=["one clip", "one group"],
)
def test_a_class_that_cannot_be_divided_is_named(labels, units):
    with pytest.raises(ConfigError, match=r"the class '[ab]' cannot be divided"):
        divide(labels, units, 0.2, seed=0)
