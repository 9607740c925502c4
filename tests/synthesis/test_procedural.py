"""Procedural sound: reproducible clip by clip, varied, and each source what its name says."""

import math

import pytest
import torch

from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.errors import ConfigError
from hear_axlstm.frontend import log_mel
from hear_axlstm.synthesis.draws import Draws
from hear_axlstm.synthesis.procedural import (
    SOURCES,
    Events,
    Timeline,
    convolve,
    loudness,
    melody,
    phase,
    pulse_train,
    pulses,
    shape_spectrum,
    sine,
    synthesize,
    voiced,
)

CLIPS = torch.arange(24)
CPU = torch.device("cpu")
TWO_SECONDS = Timeline.of(2 * SAMPLE_RATE, CPU)


def test_a_clip_is_the_same_in_any_company():
    together = synthesize(CLIPS, seed=0)
    torch.testing.assert_close(synthesize(torch.tensor([11]), seed=0), together[11:12], atol=1e-5, rtol=0)
    torch.testing.assert_close(synthesize(CLIPS.flip(0), seed=0).flip(0), together, atol=1e-5, rtol=0)


def test_the_same_call_is_the_same_bits():
    assert torch.equal(synthesize(CLIPS, seed=3), synthesize(CLIPS, seed=3))


def test_clips_and_seeds_are_all_different():
    clips = torch.cat([synthesize(CLIPS, seed=0), synthesize(CLIPS, seed=1)])
    shape = log_mel(clips).mean(1)
    distances = torch.cdist(shape, shape) + 1e3 * torch.eye(len(shape))
    assert distances.min() > 0.3


@pytest.mark.parametrize("seconds", [0.1, 0.77, 2.0, 10.0])
def test_the_sound_is_finite_within_range_and_as_long_as_asked(seconds):
    sound = synthesize(torch.arange(4), seed=0, seconds=seconds)
    assert sound.shape == (4, round(seconds * SAMPLE_RATE))
    assert torch.isfinite(sound).all()
    assert (sound.abs().amax(1) <= 0.9).all()
    assert (sound.abs().amax(1) > 0.03).all()


@pytest.mark.parametrize("seconds", [0.0, 61.0, math.nan])
def test_a_length_out_of_range_is_refused(seconds):
    with pytest.raises(ConfigError, match=r"expected 0\.1 to 60"):
        synthesize(CLIPS, seed=0, seconds=seconds)


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_sounds(source):
    sound = source(Draws(torch.arange(40), 0), TWO_SECONDS)
    assert sound.shape == (40, 2 * SAMPLE_RATE)
    assert torch.isfinite(sound).all()
    assert (loudness(sound) > 1e-4).float().mean() > 0.9


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_is_reproducible_and_its_clips_differ(source):
    sound = source(Draws(torch.arange(3), 0), TWO_SECONDS)
    torch.testing.assert_close(source(Draws(torch.tensor([2]), 0), TWO_SECONDS), sound[2:], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(sound[0], sound[1])


def test_a_phase_keeps_its_pitch_for_a_minute():
    cycles = phase(torch.full((1, 60 * SAMPLE_RATE), 440.0))
    last = sine(cycles[:, -SAMPLE_RATE:])
    spectrum = torch.fft.rfft(last[0]).abs()
    assert int(spectrum.argmax()) == 440
    assert spectrum[440] > 0.999 * SAMPLE_RATE / 2


def test_a_pulse_train_has_equal_partials_up_to_its_last():
    cycles = phase(torch.full((1, SAMPLE_RATE), 200.0))
    spectrum = torch.fft.rfft(pulse_train(cycles, torch.tensor([[10.0]]))[0]).abs()
    partials = spectrum[200:2_001:200]
    assert partials.min() > 0.99 * partials.max()
    assert spectrum[2_200] < 0.01 * partials.max()


def test_a_gain_over_frequency_leaves_what_it_should():
    white = torch.randn(1, SAMPLE_RATE)
    gain = torch.zeros(1, 257, 2)
    gain[:, 128:] = -80.0  # above 4 kHz
    spectrum = torch.fft.rfft(shape_spectrum(white, gain)[0]).abs()
    assert spectrum[4_500:].mean() < 0.01 * spectrum[:3_500].mean()


def test_convolution_is_causal():
    impulse = torch.zeros(1, 100)
    impulse[0, 20] = 1.0
    response = torch.rand(1, 30)
    out = convolve(impulse, response)
    torch.testing.assert_close(out[0, 20:50], response[0], atol=1e-6, rtol=0)
    assert out[0, :20].abs().max() < 1e-6


def test_events_come_in_order_and_are_silent_before_the_first():
    draws = Draws(torch.arange(200), 0)
    events = Events.draw(draws, 2.0)
    assert (events.onset.diff(dim=1) > 0).all()
    envelope = events.envelope(draws, TWO_SECONDS)
    first = events.onset[:, :1]
    assert (envelope[(TWO_SECONDS.seconds < first)] == 0).all()
    assert (envelope >= 0).all()
    assert (envelope <= 1).all()


def test_melodies_stay_audible():
    pitches = melody(Draws(torch.arange(500), 0), 60, 900)
    assert pitches.min() >= 30
    assert pitches.max() <= 2_000
    assert pitches.std(1).min() == pytest.approx(0, abs=1e-3)  # some are one note


def test_voices_have_a_pitch_and_pulses_a_rate():
    """Autocorrelation between 60 and 900 Hz is strong in most voiced clips; noise has none."""

    def periodicity(sound):
        spectrum = torch.fft.rfft(sound - sound.mean(1, keepdim=True), 2 * sound.shape[1])
        correlation = torch.fft.irfft(spectrum.abs().square())
        return (correlation[:, 18:270].amax(1) / correlation[:, 0]).median()

    assert periodicity(voiced(Draws(torch.arange(40), 0), TWO_SECONDS)) > 0.5
    crest = [x.abs().amax(1) / loudness(x)[:, 0] for x in (pulses(Draws(CLIPS, 0), TWO_SECONDS), torch.randn(24, 32_000))]
    assert crest[0].median() > crest[1].median()
