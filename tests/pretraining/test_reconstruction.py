"""What an encoder guesses of hidden patches: the trained task, as arrays and numbers."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import hear_axlstm
from hear_axlstm.config import AxLSTMConfig, SSAMConfig, SSASTConfig
from hear_axlstm.embedder import Embedder
from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import AudioError, ConfigError
from hear_axlstm.frontend import log_mel
from hear_axlstm.pretraining.batches import Batch
from hear_axlstm.pretraining.objective import patchify
from hear_axlstm.pretraining.recipe import Recipe
from hear_axlstm.pretraining.reconstruction import FINETUNED, UNTRAINED, reconstruction
from hear_axlstm.pretraining.trainer import MaskedModel
from hear_axlstm.synthesis.held_out import Choices, siren
from hear_axlstm.weights.save import save_weights
from tests.conftest import noise, tone

RATE = 16_000
FAMILIES = {
    "axlstm": AxLSTMConfig(width=16, depth=2),
    "ssam": SSAMConfig(width=16, depth=2, patch=(8, 16)),
    "ssast": SSASTConfig(width=16, depth=2, heads=2, patch=(4, 8)),
}


def encoder_of(family="axlstm"):
    """A small encoder whose head has seen some training."""
    torch.manual_seed(3)
    encoder = Encoder(FAMILIES[family]).eval()
    torch.nn.init.normal_(encoder.head[2].bias, std=0.1)
    return encoder


def sound(seconds, seed=0):
    return 0.1 * noise(round(seconds * RATE), seed=seed) + torch.from_numpy(tone(440, seconds)).float()


def patches_of(clip, values):
    """The patches of the first chunk. Shape: (N, 80) -> (L, frames * bands)."""
    return patchify(torch.from_numpy(values[None, :200]), clip)[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_losses_are_those_that_pretraining_learns_from(family):
    encoder = encoder_of(family)
    patch = encoder.config.patch
    shown = reconstruction((sound(2.0), RATE), encoder, mask_ratio=0.3)
    assert shown.log_mel.shape == shown.guess.shape == shown.mask.shape == shown.error.shape == (200, 80)
    mask = patches_of(patch, shown.mask)
    batch = Batch(torch.from_numpy(shown.log_mel[None]), mask.any(1)[None])
    for over, loss in (("masked", shown.loss), ("all", shown.loss_of_all)):
        with torch.no_grad():
            trained = MaskedModel(encoder, Recipe(encoder=encoder.config, loss=over), {})(batch)
        assert loss == pytest.approx(float(trained), rel=1e-5)


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.75])
def test_whole_patches_are_hidden_and_a_seed_hides_the_same_ones(ratio):
    encoder = encoder_of()
    masks = [reconstruction((sound(4.0), RATE), encoder, mask_ratio=ratio, seed=seed).mask for seed in (0, 0, 1)]
    hidden = patches_of((4, 16), masks[0])
    assert torch.equal(hidden.any(1), hidden.all(1))
    assert hidden.all(1).sum() == round(ratio * 250)
    assert np.array_equal(masks[0], masks[1])
    assert not np.array_equal(masks[0], masks[2])
    assert not np.array_equal(masks[0][:200], masks[0][200:])
    other = reconstruction((sound(2.0, seed=5), RATE), encoder, mask_ratio=ratio).mask
    assert np.array_equal(other, masks[0][:200])


def test_a_stretch_of_a_long_sound_is_a_clip_of_its_own():
    wave = sound(13.0)
    shown = reconstruction((wave, RATE), encoder_of(), start=1.5)
    assert len(shown) == 1_000
    assert (shown.times[0], shown.times[-1]) == (1_500, 11_490)
    own = log_mel(wave[None, 24_000 : 24_000 + 160_000])[0, :1_000]
    assert np.array_equal(shown.log_mel, own.numpy())
    assert len(reconstruction((wave, RATE), encoder_of(), start=12.0)) == 100
    assert len(reconstruction((wave[:201], RATE), encoder_of())) == 1


def test_the_last_chunk_is_filled_up_with_zeros_that_do_not_count():
    encoder = encoder_of()
    shown = reconstruction((sound(3.3), RATE), encoder)
    assert len(shown) == 330
    chunk = torch.zeros(1, 200, 80)
    chunk[0, :130] = torch.from_numpy(shown.log_mel[200:])
    whole = reconstruction((sound(4.0), RATE), encoder)
    mask = patches_of((4, 16), whole.mask[200:]).any(1)[None]
    with torch.no_grad():
        guess = encoder.reconstruct(chunk, mask)
    columns = guess.reshape(50, 5, 4, 16).transpose(1, 2).reshape(200, 80)
    assert np.allclose(shown.guess[200:], columns[:130], atol=1e-5)
    assert shown.loss == pytest.approx(float((shown.error[shown.mask] ** 2).mean()), rel=1e-5)


def test_losses_of_those_who_do_not_listen_stand_beside():
    encoder = encoder_of()
    for layer in (encoder.head[0], encoder.head[2]):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    shown = reconstruction((sound(2.0), RATE), encoder)
    assert shown.loss == shown.loss_of_mean == pytest.approx(1, abs=0.2)
    expected = []
    for band in range(80):
        hidden = shown.mask[:, band]
        expected += list((shown.log_mel[hidden, band] - shown.log_mel[~hidden, band].mean()) ** 2)
    assert shown.loss_of_bands == pytest.approx(np.mean(expected), rel=1e-5)
    assert shown.loss_of_bands < shown.loss_of_mean  # a steady tone


def test_models_in_every_form_guess_alike(tmp_path):
    encoder, clip = encoder_of(), (sound(2.0), RATE)
    save_weights(encoder, tmp_path / "model.safetensors")
    shown = [reconstruction(clip, model) for model in (encoder, Embedder(encoder), tmp_path, str(tmp_path))]
    for other in shown[1:]:
        assert np.array_equal(other.guess, shown[0].guess)
        assert other.model == shown[0].model
    half = reconstruction(clip, Embedder(encoder, precision="bfloat16"))
    assert half.guess.dtype == np.float32
    assert 0 < np.abs(half.guess - shown[0].guess).max() < 0.1


def test_a_head_that_cannot_guess_is_named(tmp_path):
    clip = (sound(0.5), RATE)
    assert reconstruction(clip, encoder_of()).notes == []
    torch.manual_seed(0)
    random = reconstruction(clip, Encoder(FAMILIES["axlstm"]))
    assert random.notes == [UNTRAINED]
    assert repr(random).endswith(UNTRAINED)
    save_weights(encoder_of(), tmp_path / "model.safetensors", {"finetuned_from": {"name": "axlstm-tiny"}})
    assert reconstruction(clip, tmp_path).notes == [FINETUNED]


def test_the_bundled_weights_guess_better_than_those_who_do_not_listen():
    choices = Choices(np.random.default_rng(0), "test")
    clip = reconstruction((siren(choices, 2 * RATE), RATE))
    assert clip.model == "axlstm-tiny-open"
    assert clip.notes == []
    assert clip.loss < clip.loss_of_bands < clip.loss_of_mean
    assert f"loss is {clip.loss:.3f}" in repr(clip)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mask_ratio": 0}, "mask_ratio is 0; expected a share between 0 and 1"),
        ({"mask_ratio": 1.0}, "mask_ratio is 1.0"),
        ({"mask_ratio": 0.001}, "hides some of 250 patches, not all"),
        ({"mask_ratio": float("nan")}, "mask_ratio is nan"),
        ({"mask_ratio": True}, "mask_ratio is True"),
        ({"seed": -1}, "seed is -1; expected a whole number"),
        ({"seed": 0.5}, "seed is 0.5"),
        ({"start": -1}, "start is -1; expected seconds from 0, before the end of a sound of 1.00 s"),
        ({"start": 0.99}, "start is 0.99"),
        ({"start": float("nan")}, "start is nan"),
        ({"model": 3}, "model is a int; expected a name, a path, an Encoder"),
        ({"model": encoder_of().to("meta")}, "the model is on the meta device, without values; expected weights"),
        ({"device": "nowhere"}, "device 'nowhere' cannot be used"),
    ],
)
def test_bad_options_are_refused(options, words):
    given = {"model": "" if "device" in options else encoder_of(), **options}
    with pytest.raises(ConfigError, match=words):
        hear_axlstm.reconstruction((sound(1.0), RATE), **given)


def test_a_sound_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(AudioError, match=r"^gone\.wav: "):
        reconstruction(tmp_path / "gone.wav", encoder_of())
    with pytest.raises(AudioError, match="NaN"):
        reconstruction((np.full(8_000, np.nan), RATE), encoder_of())


def test_arrays_can_be_replaced_and_numbers_follow():
    shown = reconstruction((sound(1.0), RATE), encoder_of())
    perfect = replace(shown, guess=shown.log_mel)
    assert perfect.loss == perfect.loss_of_all == 0
    assert np.isnan(replace(shown, mask=np.zeros_like(shown.mask)).loss)
