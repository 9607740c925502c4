"""What an update sees follows from the seed and the clip's place in the run alone, whoever asks."""

import math

import pytest
import torch

from hear_axlstm.config import AxLSTMConfig
from hear_axlstm.errors import ConfigError
from hear_axlstm.pretraining.batches import Plan, Share, crop, targets_of, updates
from hear_axlstm.pretraining.recipe import Recipe
from hear_axlstm.pretraining.shard_clips import ShardClips
from hear_axlstm.pretraining.shards import write_shards
from hear_axlstm.synthesis.draws import Draws

TINY = AxLSTMConfig(width=32, depth=1, patch=(8, 16))
CPU = torch.device("cpu")


def recipe(**options):
    return Recipe(**{"encoder": TINY, "steps": 8, "batch": 4, **options})


@pytest.fixture
def corpus(sound_folder, tmp_path):
    return ShardClips([write_shards([sound_folder], tmp_path / "shards").shards[0].parent])


def seen(recipe, corpus, *, steps=range(2), workers=0, **share):
    """All passes of some updates, one after the other."""
    share = Share(recipe.batch, **{"micro_batch": recipe.batch, **share})
    found = [batch for update in updates(recipe, corpus, share, steps, CPU, workers) for batch in update]
    return torch.cat([batch.spectrogram for batch in found]), torch.cat([batch.mask for batch in found])


def test_crops_are_two_seconds_and_masks_hide_half(corpus):
    spectrogram, mask = seen(recipe(shards=("x",), synthetic=0.5), corpus)
    assert spectrogram.shape == (8, 200, 80)
    assert mask.shape == (8, 125)
    assert mask.sum(1).tolist() == [62] * 8
    assert torch.isfinite(spectrogram).all()


def test_synthesised_and_recorded_clips_take_turns():
    plan = Plan(recipe(shards=("x",), synthetic=0.25), shard_clips=100)
    kinds = [plan.from_shards(clip) is None for clip in range(400)]
    assert sum(kinds) == 100
    assert all(sum(kinds[start : start + 4]) == 1 for start in range(0, 400, 4))


def test_every_clip_of_the_shards_is_seen_once_an_epoch_and_in_another_order():
    plan = Plan(recipe(shards=("x",)), shard_clips=30)
    epochs = [[plan.from_shards(clip) for clip in range(start, start + 30)] for start in (0, 30, 60)]
    assert all(sorted(epoch) == list(range(30)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_subset_is_the_same_clips_in_every_epoch():
    plan = Plan(recipe(shards=("x",), subset=0.1), shard_clips=50)
    epochs = [sorted(plan.from_shards(clip) for clip in range(start, start + 5)) for start in (0, 5, 10)]
    assert epochs[0] == epochs[1] == epochs[2]
    assert len(set(epochs[0])) == 5
    other = Plan(recipe(shards=("x",), subset=0.1, seed=1), shard_clips=50)
    assert sorted(other.from_shards(clip) for clip in range(5)) != epochs[0]


def test_shares_draw_each_source_in_turn_and_all_of_its_clips():
    plan = Plan(recipe(shards=("x", "y"), shares=(3, 1)), shard_clips=14, groups=[range(12), [12, 13]])
    drawn = [plan.from_shards(clip) for clip in range(16)]
    assert [number >= 12 for number in drawn] == [False, False, True, False] * 4
    assert sorted(drawn) == sorted([*range(12), 12, 13, 12, 13])


def test_a_share_of_the_clips_is_masked(corpus):
    _, mask = seen(recipe(shards=("x",), masked=0.5, batch=32), corpus)
    assert set(mask.sum(1).tolist()) == {0, 62}


def test_shards_without_a_target_of_the_recipe_are_told(corpus):
    with pytest.raises(ConfigError, match="the shards have no targets of pitch, but of no teacher"):
        targets_of(recipe(shards=("x",), targets={"pitch": 1.0}, encoder=AxLSTMConfig(width=32, depth=1)), corpus)


def test_a_subset_of_an_epoch_of_synthesised_clips_repeats():
    plan = Plan(recipe(subset=0.25, epoch_clips=40), shard_clips=0)
    assert [plan.synthetic_id(clip) for clip in range(12)] == [*range(10), 0, 1]
    endless = Plan(recipe(epoch_clips=40), shard_clips=0)
    assert endless.synthetic_id(1_000_000) == 1_000_000


@pytest.mark.parametrize("synthetic", [0.0, 0.5, 1.0])
def test_an_update_is_the_same_in_any_passes_and_after_any_start(corpus, synthetic):
    """To the rounding that the logarithm of near-silence makes of one FFT batch instead of another."""
    settings = recipe(shards=("x",), synthetic=synthetic)
    spectrogram, mask = seen(settings, corpus, steps=range(4))
    for options in ({"micro_batch": 1}, {"micro_batch": 3}, {"workers": 1}):
        again, same_mask = seen(settings, corpus, steps=range(2, 4), **options)
        assert torch.equal(same_mask, mask[8:])
        torch.testing.assert_close(again, spectrogram[8:], atol=2e-3, rtol=0)


def test_the_same_passes_are_the_same_bits(corpus):
    settings = recipe(shards=("x",), synthetic=0.5)
    assert torch.equal(seen(settings, corpus, steps=range(4))[0][8:], seen(settings, corpus, steps=range(2, 4))[0])


def test_processes_share_an_update_without_overlap(corpus):
    settings = recipe(shards=("x",), synthetic=0.5)
    whole, _ = seen(settings, corpus, steps=range(1))
    parts = [seen(settings, corpus, steps=range(1), process=process, processes=2)[0] for process in (0, 1)]
    torch.testing.assert_close(torch.cat(parts), whole, atol=2e-3, rtol=0)


def test_a_batch_that_cannot_be_divided_is_refused():
    with pytest.raises(ConfigError, match="a batch of 5 clips cannot be divided by 2 processes"):
        Share(batch=5, micro_batch=5, processes=2)
    with pytest.raises(ConfigError, match="micro_batch is 0"):
        Share(batch=5, micro_batch=0)


def test_another_seed_sees_other_sound():
    assert not torch.equal(seen(recipe(), ShardClips([]))[0], seen(recipe(seed=1), ShardClips([]))[0])


def test_a_crop_is_a_stretch_of_the_clip():
    mel = torch.arange(1_000.0)[None, :, None].expand(64, -1, 80)
    starts = crop(mel, Draws(torch.arange(64), 0))
    assert (starts[:, 1:] - starts[:, :-1] == 1).all()
    assert starts[:, 0].min() < 100
    assert starts[:, 0].max() > 700
    assert starts.max() <= 999


def test_a_short_clip_is_repeated():
    mel = torch.arange(60.0)[None, :, None].expand(1, -1, 80)
    repeated = crop(mel, Draws(torch.arange(1), 0))[0, :, 0]
    assert repeated.tolist() == [float(frame % 60) for frame in range(200)]


def test_the_spectrograms_are_standardised():
    spectrogram, _ = seen(recipe(batch=16), ShardClips([]))
    assert spectrogram.mean().item() == pytest.approx(0, abs=0.02)
    assert math.sqrt(spectrogram.var().item()) == pytest.approx(1, abs=0.02)
