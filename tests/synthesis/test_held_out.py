"""Textures and tones: what makes each what it is."""

import numpy as np
import pytest

from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.synthesis.held_out import (
    PARTIAL_AMPLITUDES,
    RHYTHMS,
    TEXTURES,
    Choices,
    add,
    in_noise,
    key_hertz,
    noise,
    ping,
    placed,
    poisson,
    regular,
    tilted_noise,
    together,
    tone,
    wander,
)

SAMPLES = 4 * SAMPLE_RATE


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def spectrum(wave):
    """Power by Hz."""
    power = np.abs(np.fft.rfft(wave)) ** 2
    return np.fft.rfftfreq(len(wave), 1 / SAMPLE_RATE), power


def power_between(wave, low, high):
    """Share of the power."""
    hertz, power = spectrum(wave)
    return power[(hertz >= low) & (hertz < high)].sum() / power.sum()


def envelope(wave, seconds=0.01):
    """RMS of successive stretches."""
    size = int(seconds * SAMPLE_RATE)
    return np.sqrt((wave[: len(wave) // size * size].reshape(-1, size) ** 2).mean(1))


def texture(name, seed=0, part="train"):
    return TEXTURES[name](Choices(np.random.default_rng(seed), part), SAMPLES)


@pytest.mark.parametrize("waveform", PARTIAL_AMPLITUDES)
def test_a_tone_has_its_partials_and_no_aliases(waveform):
    wave = tone(waveform, np.full(SAMPLE_RATE, 440.0))
    hertz, power = spectrum(wave)
    amplitudes = PARTIAL_AMPLITUDES[waveform](np.arange(1.0, 17))
    measured = np.sqrt(power[440 : 440 * 17 : 440])
    np.testing.assert_allclose(measured / measured[0], np.abs(amplitudes / amplitudes[0]), atol=1e-6)
    assert power[hertz % 440 != 0].sum() < 1e-9 * power.sum()


def test_a_tone_that_rises_drops_the_partials_that_would_leave_the_band():
    wave = tone("saw", np.linspace(1_000, 7_000, SAMPLE_RATE))
    assert power_between(wave, 7_600, 8_001) < 1e-3


def test_noise_stays_in_its_band_and_tilts(rng):
    assert power_between(noise(rng, SAMPLES, 1_000, 2_000), 700, 2_800) > 0.97
    white, pink = tilted_noise(rng, SAMPLES, 0), tilted_noise(rng, SAMPLES, 1)
    assert power_between(white, 0, 4_000) == pytest.approx(0.5, abs=0.02)
    octaves = [power_between(pink, low, 2 * low) for low in (250, 500, 1_000, 2_000)]
    assert max(octaves) < 1.2 * min(octaves)


def test_a_slow_curve_is_smooth_and_standard_normal(rng):
    curve = wander(rng, 1_000 * SAMPLE_RATE // 10, 20)
    assert np.abs(np.diff(curve)).max() < 0.01
    assert curve.mean() == pytest.approx(0, abs=0.1)


def test_grains_are_put_where_they_belong():
    wave = np.zeros(10)
    for second in (0.0, 8 / SAMPLE_RATE, -1.0, 1.0):
        add(wave, second, np.ones(3))
    assert wave.tolist() == [1, 1, 1, 0, 0, 0, 0, 0, 1, 1]
    assert together(np.ones(1), np.ones(3)).tolist() == [2, 1, 1]
    assert power_between(ping(1_000, 0.05), 950, 1_050) > 0.9


def test_events_come_at_their_rate(rng):
    assert len(poisson(rng, 50, 100 * SAMPLE_RATE)) == pytest.approx(5_000, rel=0.1)
    assert len(poisson(rng, 1e-9, SAMPLES)) == 1
    np.testing.assert_allclose(np.diff(regular(rng, 4, SAMPLES)), 0.25)


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("name", TEXTURES)
def test_a_texture_is_finite_sounds_and_differs_from_clip_to_clip(name, part):
    waves = [texture(name, seed, part) for seed in range(3)]
    for wave in waves:
        assert wave.shape == (SAMPLES,)
        assert np.isfinite(wave).all()
        assert wave.std() > 0
    assert not np.array_equal(waves[0], waves[1])
    assert np.array_equal(waves[0], texture(name, 0, part))


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("wind", 40, 3_000),
        ("crickets", 2_500, 6_500),
        ("engine", 40, 1_500),
        ("siren", 400, 8_000),
        ("telephone", 800, 7_600),
        ("clock", 500, 8_000),
        ("bubbles", 200, 5_500),
    ],
)
def test_textures_lie_where_they_should(name, low, high):
    assert min(power_between(texture(name, seed, part), low, high) for seed in range(3) for part in ("train", "test")) > 0.8


def test_fire_and_clock_are_sparse_and_wind_is_not():
    def crest(name):
        return np.median([np.abs(texture(name, seed)).max() / texture(name, seed).std() for seed in range(5)])

    assert min(crest("fire"), crest("clock")) > 2 * crest("wind")


def test_surf_swells_within_seconds_and_engines_fire_many_times_a_second():
    slow, fast = envelope(texture("surf")), envelope(texture("engine"), 0.002)
    rates = [
        np.fft.rfftfreq(len(e), d)[1 + np.abs(np.fft.rfft(e - e.mean()))[1:].argmax()]
        for e, d in ((slow, 0.01), (fast, 0.002))
    ]
    assert rates[0] < 1
    assert rates[1] > 10


def test_a_held_out_range_keeps_the_parts_apart():
    drawn = {
        part: [Choices(np.random.default_rng(i), part).held_out(10, 1_000) for i in range(300)] for part in ("train", "test")
    }
    assert 10 <= min(drawn["train"]) < 11
    assert max(drawn["train"]) < min(drawn["test"])
    assert 900 < max(drawn["test"]) < 1_000


def test_key_69_is_440_hertz():
    assert key_hertz(69) == 440


def test_rhythms_are_distinct_with_as_many_strokes():
    assert {rhythm.count("x") for rhythm in RHYTHMS} == {4}
    assert len({rhythm[shift:] + rhythm[:shift] for rhythm in RHYTHMS for shift in range(8)}) == 2 + 4 + 8 * 4


def test_a_sound_is_padded_or_cut_to_its_clip():
    choices = Choices(np.random.default_rng(0), "train")
    assert placed(choices, np.ones(3), 10).sum() == 3
    long = np.arange(100.0)
    assert np.array_equal(np.diff(placed(choices, long, 10)), np.ones(9))
    assert np.array_equal(placed(choices, long, 100), long)


@pytest.mark.parametrize("level", [0.0, 1e-3, 100.0])
def test_a_clip_has_its_level_and_noise_whatever_the_level_of_the_sound(level):
    wave = level * np.sin(2 * np.pi * 500 * np.arange(SAMPLES) / SAMPLE_RATE)
    for seed in range(5):
        clip = in_noise(Choices(np.random.default_rng(seed), "test"), wave)
        assert -35 <= 20 * np.log10(clip.std()) <= -15
        assert np.abs(clip).max() <= 1
        hertz, power = spectrum(clip)
        rest = power[np.abs(hertz - 500) > 2].sum() / power.sum()
        assert rest > 0.99 if level == 0 else 10**-3.1 < rest < 10**-0.9
