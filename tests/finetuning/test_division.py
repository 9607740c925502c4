"""Clips are set apart class by class, and what belongs together stays together."""

from collections import Counter

import pytest

from hear_axlstm.errors import ConfigError
from hear_axlstm.finetuning.division import divide


@pytest.mark.parametrize(("clips", "apart"), [(2, 1), (4, 1), (10, 2), (25, 5)])
def test_a_fifth_of_each_class_is_set_apart_and_one_clip_at_least(clips, apart):
    labels = ["a", "b", "c"] * clips
    training, others = divide(labels, [], 0.2, seed=0)
    assert sorted(training + others) == list(range(len(labels)))
    assert Counter(labels[place] for place in others) == dict.fromkeys("abc", apart)


def test_the_seed_decides():
    labels = ["a", "b"] * 10
    assert divide(labels, [], 0.2, seed=1) == divide(labels, [], 0.2, seed=1)
    assert divide(labels, [], 0.2, seed=1) != divide(labels, [], 0.2, seed=2)


@pytest.mark.parametrize("seed", range(5))
def test_a_group_is_not_divided(seed):
    groups = [f"speaker {number % 7}" for number in range(70)]
    labels = ["yes" if number % 2 else "no" for number in range(70)]
    training, others = divide(labels, groups, 0.2, seed)
    assert not {groups[place] for place in training} & {groups[place] for place in others}
    for part in (training, others):
        assert {labels[place] for place in part} == {"yes", "no"}


def test_a_clip_without_a_group_is_alone():
    training, others = divide(["a"] * 5 + ["b"] * 5, [""] * 10, 0.2, seed=0)
    assert (len(training), len(others)) == (8, 2)


@pytest.mark.parametrize(
    ("labels", "groups"),
    [(["a", "a", "b"], []), (["a", "a", "b", "b"], ["one", "one", "two", "three"])],
    ids=["one clip", "one group"],
)
def test_a_class_that_cannot_be_divided_is_named(labels, groups):
    with pytest.raises(ConfigError, match=r"the class '[ab]' cannot be divided"):
        divide(labels, groups, 0.2, seed=0)
