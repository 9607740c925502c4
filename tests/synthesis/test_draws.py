"""Random numbers belong to their clip: company, order and what others draw change nothing."""

import numpy as np
import pytest
import torch

from hear_axlstm.synthesis.draws import GOLDEN, MIX_1, MIX_2, Draws, mix

CLIPS = torch.arange(2_000)


def test_the_mixer_is_splitmix64():
    """Against the definition, in Python's own integers."""

    def reference(x):
        x = ((x ^ (x >> 30)) * (MIX_1 % 2**64)) % 2**64
        x = ((x ^ (x >> 27)) * (MIX_2 % 2**64)) % 2**64
        return x ^ (x >> 31)

    values = [0, 1, 2, 2**40 + 7, GOLDEN % 2**64, 2**64 - 1]
    signed = torch.from_numpy(np.array(values, np.uint64).view(np.int64))
    assert [int(x) % 2**64 for x in mix(signed)] == [reference(value) for value in values]


def test_a_clip_draws_the_same_in_any_company():
    alone, together = Draws(torch.tensor([5]), 1), Draws(torch.tensor([9, 5, 2]), 1)
    for _ in range(3):
        assert torch.equal(alone.normal(4), together.normal(4)[1:2])


def test_clips_seeds_and_successive_draws_are_unrelated():
    draws = Draws(CLIPS, 0)
    first, second, other = draws.uniform(0, 1), draws.uniform(0, 1), Draws(CLIPS, 1).uniform(0, 1)
    shifted = first.roll(1)
    for a, b in ((first, second), (first, other), (first, shifted)):
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.1  # 4.5 standard deviations


def test_what_a_fork_draws_leaves_the_others_as_they_are():
    plain, forking = Draws(CLIPS, 0), Draws(CLIPS, 0)
    chosen = torch.tensor([3, 8])
    fork = forking.fork(0, chosen)
    assert len(fork) == 2
    assert not torch.equal(fork.uniform(0, 1), plain.uniform(0, 1)[chosen])
    forking.uniform(0, 1)
    assert torch.equal(plain.uniform(0, 1), forking.uniform(0, 1))
    assert torch.equal(forking.fork(1, chosen).uniform(0, 1, 3), Draws(chosen, 0).fork(1, torch.arange(2)).uniform(0, 1, 3))


def test_uniform_numbers_fill_their_range():
    x = Draws(CLIPS, 0).uniform(-2, 3, 10)
    assert x.shape == (2_000, 10)
    assert -2 < x.min() < -1.99
    assert 2.99 < x.max() < 3
    assert x.mean().item() == pytest.approx(0.5, abs=0.05)


def test_normal_numbers_have_mean_0_and_deviation_1():
    x = Draws(CLIPS, 0).normal(10)
    assert x.mean().item() == pytest.approx(0, abs=0.03)
    assert x.std().item() == pytest.approx(1, abs=0.03)
    assert torch.isfinite(x).all()


def test_choices_are_as_likely_as_they_should_be():
    draws = Draws(CLIPS, 0)
    assert draws.chance(0.3).float().mean().item() == pytest.approx(0.3, abs=0.05)
    assert sorted(draws.integers(2, 5).unique().tolist()) == [2, 3, 4]
    assert sorted(draws.pick([0.5, 7.0]).unique().tolist()) == [0.5, 7.0]
    octaves = draws.log_uniform(100, 400)
    assert (octaves < 200).float().mean().item() == pytest.approx(0.5, abs=0.05)
