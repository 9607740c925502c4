"""What the student hears, and which of the teachers' moments belong to it."""

import numpy as np
import pytest
import torch

from hear_axlstm.pretraining import views
from hear_axlstm.pretraining.views import MOMENT, view
from hear_axlstm.synthesis.draws import Draws
from tests.conftest import noise

SECONDS = 10
WAVE = noise(SECONDS * 16_000).numpy()
NUMBERED = np.arange(1, 25 * SECONDS + 1, dtype=np.float16)[:, None]


def seen(clip, wave=WAVE, taught=NUMBERED, other=WAVE):
    return view(wave, {"speech": taught}, {"speech": 1, "pitch": 2}, lambda _: other, Draws(torch.tensor([clip]), seed=0))


@pytest.fixture
def plain(monkeypatch):
    """Views without another sound, and without a channel."""
    monkeypatch.setattr(views, "MIXED", 0.0)
    monkeypatch.setattr(views, "TILT", 0.0)


def test_targets_are_those_of_the_moments_that_are_heard(plain):
    """A click in every moment tells by its loudness which one it is."""
    for clip in range(8):
        wave = np.zeros_like(WAVE)
        wave[MOMENT // 2 :: MOMENT] = np.linspace(0.1, 1, 25 * SECONDS)
        spectrogram, targets = seen(clip, wave)
        moments = int((targets["speech"] > 0).sum())
        loudness = spectrogram[: 4 * moments].mean(1).view(-1, 4).amax(1)
        heard = 0.1 + 0.9 * (targets["speech"][:moments, 0] - 1) / (25 * SECONDS - 1)
        assert torch.corrcoef(torch.stack([loudness, heard.log()]))[0, 1] > 0.99
        assert (spectrogram[4 * moments + 1 :] == 0).all()


def test_views_are_short_and_whole_and_end_with_the_clip():
    lengths = [int((seen(clip).targets["speech"] > 0).sum()) for clip in range(64)]
    assert min(lengths) < 25
    assert max(lengths) == 50
    assert lengths.count(50) > 32
    assert int((seen(0, WAVE[:8000]).targets["speech"] > 0).sum()) <= 12


def test_teachers_who_said_nothing_have_targets_of_zero():
    spectrogram, targets = seen(3)
    assert targets["pitch"].shape == (50, 2)
    assert not targets["pitch"].any()
    assert spectrogram.shape == (200, 80)


def test_a_view_follows_from_seed_and_place_alone():
    assert torch.equal(seen(5).spectrogram, seen(5).spectrogram)
    assert not torch.equal(seen(5).spectrogram, seen(6).spectrogram)


def test_another_sound_lies_under_as_far_as_is_said():
    tone = np.sin(np.arange(32_000)).astype(np.float32)
    under = views._over(WAVE[:32_000], tone, 10.0, 0.5) - WAVE[:32_000]
    assert 10 * np.log10(np.square(WAVE[:32_000]).mean() / np.square(under).mean()) == pytest.approx(10, abs=0.01)
    assert np.array_equal(views._over(tone, np.zeros(5, np.float32), 3.0, 0.5), tone)


@pytest.mark.parametrize("clip", range(4))
def test_views_are_standardised(clip):
    spectrogram = seen(clip).spectrogram
    heard = spectrogram[spectrogram.abs().sum(1) > 0]
    assert heard.mean().item() == pytest.approx(0, abs=1e-4)
    assert heard.std().item() == pytest.approx(1, abs=1e-3)
