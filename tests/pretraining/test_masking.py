"""Half of every chunk's patches are hidden, any of them as likely, and each clip has its own mask."""

import torch

from hear_axlstm.pretraining.masking import random_mask
from hear_axlstm.synthesis.draws import Draws


def masks(clips, seed=0, ratio=0.5):
    return random_mask(Draws(torch.tensor(clips), seed), 250, ratio)


def test_every_clip_hides_the_same_share():
    assert (masks(list(range(50))).sum(1) == 125).all()
    assert (masks(list(range(50)), ratio=0.75).sum(1) == 188).all()


def test_a_clip_keeps_its_mask_in_any_company():
    assert torch.equal(masks([7]), masks([3, 7, 9])[1:2])


def test_clips_and_seeds_differ():
    assert not torch.equal(masks([1]), masks([2]))
    assert not torch.equal(masks([1]), masks([1], seed=1))


def test_every_patch_is_hidden_about_as_often():
    often = masks(list(range(4_000))).float().mean(0)
    assert (often - 0.5).abs().max() < 0.04  # 5 standard deviations of 4,000 fair coins
