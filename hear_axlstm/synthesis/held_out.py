"""Sound for evaluation that no training sound is made with: textures, tones and rhythms.

A sound takes the choices of its clip and a number of samples, and is a wave (T,), float64, 16 kHz, at any level. What a
clip may vary keeps the clips to learn from and the clips to be tested on apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from hear_axlstm.config import SAMPLE_RATE

Samples = NDArray[np.float64]

Part = Literal["train", "test"]
PARTS: tuple[Part, ...] = get_args(Part)
SHARES: dict[Part, tuple[float, float]] = {"train": (0.0, 0.55), "test": (0.6, 1.0)}  # the part of a held-out range

T = TypeVar("T")


@dataclass(frozen=True)
class Choices:
    """The random choices that make one clip what it is.

    rng: the generator of this clip alone. part: which clips it belongs to. soundfont: what instruments are played with.
    """

    rng: np.random.Generator
    part: Part
    soundfont: Path | None = None

    def uniform(self, low: float, high: float) -> float:
        """A number in [low, high), the same range for both parts."""
        return float(self.rng.uniform(low, high))

    def held_out(self, low: float, high: float) -> float:
        """A number between two positive bounds: train clips get the lower part of the range, test clips the upper one."""
        return float(low * (high / low) ** self.rng.uniform(*SHARES[self.part]))

    def of(self, values: Sequence[T]) -> T:
        """One of the values, all of which are equally likely."""
        return values[int(self.rng.integers(len(values)))]

    def of_part(self, values: Mapping[Part, Sequence[T]]) -> T:
        """One of the values that the clip's part may have."""
        return self.of(values[self.part])


TOP = 7_500.0  # Hz: no partial lies above
PARTIALS = 40  # of a tone, at most


def times(samples: int) -> Samples:
    """The time of each sample in seconds, from 0 on. Shape: -> (samples,)."""
    return np.arange(samples) / SAMPLE_RATE


# Tones: the amplitude of partial k = 1, 2, ... by waveform

PARTIAL_AMPLITUDES: dict[str, Callable[[Samples], Samples]] = {
    "sine": lambda k: 1.0 * (k == 1),
    "saw": lambda k: 1 / k,
    "square": lambda k: k % 2 / k,
    "triangle": lambda k: k % 2 * np.where(k % 4 == 1, 1, -1) / k**2,
    "pulse-quarter": lambda k: np.sin(np.pi * k / 4) / k,
    "pulse-tenth": lambda k: np.sin(np.pi * k / 10) / k,
    "organ": lambda k: np.isin(k, (1, 2, 4, 8)) / np.sqrt(k),
}


def tone(waveform: str, hertz: Samples) -> Samples:
    """A tone whose frequency may move, without aliases. Shape: hertz (T,) -> (T,)."""
    phase = 2 * np.pi * np.cumsum(hertz) / SAMPLE_RATE
    k = np.arange(1.0, 1 + min(PARTIALS, max(1, int(TOP / hertz.min()))))
    wave = np.zeros(len(hertz))
    for partial, amplitude in zip(k, PARTIAL_AMPLITUDES[waveform](k), strict=True):
        if amplitude:
            wave += np.where(partial * hertz < TOP, amplitude, 0.0) * np.sin(partial * phase)
    return wave


def fade(samples: int, attack: float, release: float) -> Samples:
    """An envelope that rises for ``attack`` s and falls for ``release`` s at the end."""
    t = times(samples)
    return np.minimum(1.0, np.minimum(t / attack, (t[-1] - t) / release))


# Noise


def noise(rng: np.random.Generator, samples: int, low: float, high: float) -> Samples:
    """Noise of RMS 1 between two frequencies in Hz, 24 dB an octave outside."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    hertz = np.maximum(np.fft.rfftfreq(samples, 1 / SAMPLE_RATE), 1.0)
    wave = np.fft.irfft(spectrum / np.sqrt((1 + (low / hertz) ** 8) * (1 + (hertz / high) ** 8)), samples)
    return wave / wave.std()


def tilted_noise(rng: np.random.Generator, samples: int, tilt: float) -> Samples:
    """Noise of RMS 1 whose power falls as frequency ** -tilt: 0 is white, 1 pink."""
    hertz = np.maximum(np.fft.rfftfreq(samples, 1 / SAMPLE_RATE), 20.0)
    wave = np.fft.irfft(np.fft.rfft(rng.standard_normal(samples)) * hertz ** (-tilt / 2), samples)
    return wave / wave.std()


def wander(rng: np.random.Generator, samples: int, per_second: float) -> Samples:
    """A slow random curve: standard normal knots, ``per_second`` of them in a second, smoothly joined."""
    knots = rng.standard_normal(int(np.ceil(per_second * samples / SAMPLE_RATE)) + 2)
    place = times(samples) * per_second
    left = place.astype(int)
    blend = (1 - np.cos(np.pi * (place - left))) / 2
    return (1 - blend) * knots[left] + blend * knots[left + 1]


# Grains: short sounds put at given times


def ping(hertz: float, decay: float, rise: float = 0.0) -> Samples:
    """A sine that decays by 1/e in ``decay`` s while its frequency rises by ``rise`` octaves."""
    t = times(int(5 * decay * SAMPLE_RATE) + 1)
    frequency = np.minimum(hertz * 2.0 ** (rise * t / (5 * decay)), TOP)
    return np.exp(-t / decay) * np.sin(2 * np.pi * np.cumsum(frequency) / SAMPLE_RATE)


def together(*grains: Samples) -> Samples:
    """The sum of grains of any lengths that begin at the same time."""
    wave = np.zeros(max(map(len, grains)))
    for grain in grains:
        wave[: len(grain)] += grain
    return wave


def add(wave: Samples, second: float, grain: Samples) -> None:
    """Add to ``wave``, in place, what lies inside it of a grain that begins at ``second``."""
    start = int(second * SAMPLE_RATE)
    if 0 <= start < len(wave):
        wave[start : start + len(grain)] += grain[: len(wave) - start]


def poisson(rng: np.random.Generator, per_second: float, samples: int) -> Samples:
    """Times in seconds of independent events, at least one of them."""
    seconds = samples / SAMPLE_RATE
    return rng.uniform(0, seconds, max(1, rng.poisson(per_second * seconds)))


def regular(rng: np.random.Generator, per_second: float, samples: int, jitter: float = 0.0) -> Samples:
    """Times in seconds of events at a rate, from a random start on, each off by up to ``jitter`` of a period."""
    period = 1 / per_second
    beats = np.arange(rng.uniform(0, period), samples / SAMPLE_RATE, period)
    return np.maximum(beats + period * jitter * rng.uniform(-1, 1, len(beats)), 0.0)


# Textures


def rain(choices: Choices, samples: int) -> Samples:
    """Droplets on a hard surface over a hiss."""
    rng = choices.rng
    wave = choices.uniform(0.02, 0.08) * noise(rng, samples, 1_500, 7_000)
    decay = choices.held_out(0.0015, 0.005)
    for second in poisson(rng, choices.held_out(60, 300), samples):
        add(wave, second, rng.exponential(0.5) * ping(rng.uniform(1_800, 6_500), decay))
    return wave


def wind(choices: Choices, samples: int) -> Samples:
    """Gusts: noise whose colour and level wander together."""
    rng = choices.rng
    gust = wander(rng, samples, choices.held_out(0.6, 2.0))
    centre = np.log2(choices.held_out(180, 600)) + 0.6 * gust
    width = choices.uniform(0.4, 0.8)
    wave = np.zeros(samples)
    for octave in np.arange(6.0, 12.0, 0.5):
        band = noise(rng, samples, 2 ** (octave - 0.25), 2 ** (octave + 0.25))
        wave += np.exp(-(((octave - centre) / width) ** 2)) * band
    return np.exp(0.6 * gust) * wave


def surf(choices: Choices, samples: int) -> Samples:
    """Waves that break: noise swells fast, grows brighter, and ebbs away slowly."""
    rng = choices.rng
    cycle = (times(samples) / choices.held_out(2.5, 6.0) + rng.uniform()) % 1
    rise = choices.uniform(0.2, 0.35)
    swell = np.where(cycle < rise, cycle / rise, np.exp(-4 * (cycle - rise)))
    dark = noise(rng, samples, 80, choices.held_out(400, 1_000))
    return (0.15 + swell) * dark + swell**2 * noise(rng, samples, 800, choices.held_out(3_000, 6_500))


def fire(choices: Choices, samples: int) -> Samples:
    """Crackles of very different strength over a low rumble."""
    rng = choices.rng
    wave = choices.uniform(0.05, 0.15) * noise(rng, samples, 50, choices.held_out(150, 400))
    for second in poisson(rng, choices.held_out(8, 35), samples):
        length = int(rng.uniform(0.001, 0.006) * SAMPLE_RATE)
        crackle = rng.standard_normal(length) * np.exp(-5 * np.arange(length) / length)
        add(wave, second, min(0.2 * (1 + rng.pareto(1.5)), 3.0) * crackle)
    return wave


def crickets(choices: Choices, samples: int) -> Samples:
    """Chirps of a few quick pulses each, two insects at two pitches."""
    rng = choices.rng
    wave = np.zeros(samples)
    for level in (1.0, choices.uniform(0.2, 0.7)):
        hertz, pulses_per_second = choices.held_out(3_000, 5_800), choices.held_out(22, 45)
        pulses, pulse = rng.integers(3, 6), int(0.7 / pulses_per_second * SAMPLE_RATE)
        grain = np.hanning(pulse) * np.sin(2 * np.pi * hertz * times(pulse))
        for second in regular(rng, choices.uniform(1.2, 2.8), samples, jitter=0.05):
            for index in range(pulses):
                add(wave, second + index / pulses_per_second, level * grain)
    return wave


def frogs(choices: Choices, samples: int) -> Samples:
    """Croaks: trains of pulses that ring in a throat."""
    rng = choices.rng
    wave = np.zeros(samples)
    throat, decay = choices.held_out(400, 1_300), choices.uniform(0.004, 0.009)
    ring = together(ping(throat, decay), 0.5 * ping(2.3 * throat, decay))
    for second in regular(rng, choices.uniform(1.2, 2.5), samples, jitter=0.15):
        rate, length = choices.held_out(28, 75), rng.uniform(0.15, 0.35)
        for place in np.arange(0, length, 1 / rate):
            add(wave, second + place, np.sin(np.pi * (place + 0.01) / (length + 0.02)) * ring)
    return wave


def engine(choices: Choices, samples: int) -> Samples:
    """An idling motor: unequal cylinders fire into a dull exhaust."""
    rng = choices.rng
    wave = 0.1 * noise(rng, samples, 60, 1_200)
    exhaust = together(ping(choices.held_out(90, 220), 0.012), 0.4 * ping(choices.held_out(300, 800), 0.004))
    cylinders = rng.uniform(0.6, 1.0, 4)
    for index, second in enumerate(regular(rng, choices.held_out(18, 55), samples, jitter=0.06)):
        add(wave, second, cylinders[index % 4] * exhaust)
    return wave


def siren(choices: Choices, samples: int) -> Samples:
    """A horn that wails up and down."""
    cycle = times(samples) / choices.held_out(0.8, 3.5) + choices.rng.uniform()
    rise = (1 - np.cos(2 * np.pi * cycle)) / 2
    hertz = choices.uniform(450, 650) * choices.uniform(1.8, 2.6) ** rise
    return tone(choices.of_part({"train": ("triangle", "saw"), "test": ("square",)}), hertz)


def telephone(choices: Choices, samples: int) -> Samples:
    """A bell of two gongs, struck in turn, with pauses."""
    rng = choices.rng
    hertz = choices.held_out(900, 1_900)
    ratios = 1.0, choices.uniform(1.15, 1.3)
    gongs = [together(ping(ratio * hertz, 0.06), 0.5 * ping(2.76 * ratio * hertz, 0.03)) for ratio in ratios]
    wave = np.zeros(samples)
    period, ringing = choices.uniform(1.2, 2.0), choices.uniform(0.5, 0.7)
    start = rng.uniform(0, period)
    for index, second in enumerate(regular(rng, choices.held_out(16, 28), samples)):
        if (second + start) % period < ringing * period:
            add(wave, second, gongs[index % 2])
    return wave


def clock(choices: Choices, samples: int) -> Samples:
    """Tick and tock, the second one lower, at a steady rate."""
    rng = choices.rng
    tick = ping(choices.held_out(1_600, 4_000), choices.uniform(0.003, 0.010))
    tock = choices.uniform(0.6, 0.9) * ping(choices.held_out(1_200, 3_000), choices.uniform(0.003, 0.010))
    wave = np.zeros(samples)
    for index, second in enumerate(regular(rng, choices.held_out(1.5, 4.5), samples, jitter=0.01)):
        add(wave, second, (tick, tock)[index % 2])
    return wave


def footsteps(choices: Choices, samples: int) -> Samples:
    """Steps on gravel: each a crunch of many small stones."""
    rng = choices.rng
    wave = np.zeros(samples)
    for second in regular(rng, choices.held_out(1.4, 2.8), samples, jitter=0.06):
        length = rng.uniform(0.10, 0.22)
        for _ in range(int(length * choices.held_out(250, 700))):
            add(wave, second + length * rng.beta(2, 3), rng.exponential(0.4) * ping(rng.uniform(700, 5_000), 0.0015))
    return wave


def bubbles(choices: Choices, samples: int) -> Samples:
    """Bubbles in water: short sines that rise."""
    rng = choices.rng
    wave = np.zeros(samples)
    centre = choices.held_out(450, 1_300)
    for second in poisson(rng, choices.held_out(5, 22), samples):
        hertz = centre * 2.0 ** rng.uniform(-0.7, 0.7)
        add(wave, second, rng.uniform(0.2, 1.0) * ping(hertz, 14 / hertz, rise=rng.uniform(0.3, 1.0)))
    return wave


TEXTURES: dict[str, Callable[[Choices, int], Samples]] = {
    "rain": rain,
    "wind": wind,
    "surf": surf,
    "fire": fire,
    "crickets": crickets,
    "frogs": frogs,
    "engine": engine,
    "siren": siren,
    "telephone": telephone,
    "clock": clock,
    "footsteps": footsteps,
    "bubbles": bubbles,
}


# Notes, rhythms, and clips


PITCH_WAVEFORMS: dict[Part, tuple[str, ...]] = {
    "train": ("saw", "triangle", "pulse-quarter"),
    "test": ("square", "organ", "pulse-tenth"),
}
PITCHES = tuple(range(52, 64))  # MIDI keys: 165 to 311 Hz, closer together than mel bands


def key_hertz(key: float) -> float:
    """The frequency of a MIDI key in Hz; key 69 has 440 Hz."""
    return float(440 * 2 ** ((key - 69) / 12))


def pitch(choices: Choices, label: int, samples: int) -> Samples:
    """A tone at the pitch of ``PITCHES[label]``, up to 15 cents out of tune."""
    length = int(choices.uniform(0.9, 1.7) * SAMPLE_RATE)
    hertz = key_hertz(PITCHES[label] + choices.uniform(-0.15, 0.15))
    envelope = fade(length, choices.uniform(0.01, 0.2), choices.uniform(0.1, 0.4)) * np.exp(
        -choices.uniform(0, 2) * times(length)
    )
    return placed(choices, envelope * tone(choices.of_part(PITCH_WAVEFORMS), np.full(length, hertz)), samples)


RHYTHMS = ("x.x.x.x.", "xx..xx..", "xxxx....", "x..x.xx.", "xxx...x.", "xx.x.x..")  # four strokes each
STROKES: dict[Part, tuple[str, ...]] = {"train": ("ping", "hiss"), "test": ("thud", "click")}


def stroke(choices: Choices, kind: str) -> Samples:
    """One stroke of a rhythm, of a kind that STROKES names. Shape: -> (any length,)."""
    if kind == "ping":
        return ping(choices.uniform(700, 1_800), 0.015)
    if kind == "thud":
        return ping(choices.uniform(120, 300), 0.025)
    length, band = (0.05, (2_000, 7_000)) if kind == "hiss" else (0.01, (500, 3_000))
    count = int(length * SAMPLE_RATE)
    return np.exp(-5 * np.arange(count) / count) * noise(choices.rng, count, *band)


def rhythm(choices: Choices, label: int, samples: int) -> Samples:
    """The pattern ``RHYTHMS[label]`` of eight steps, about a second long, over and over."""
    sound = stroke(choices, choices.of_part(STROKES))
    step = choices.uniform(0.115, 0.135)
    wave = np.zeros(samples)
    for index, second in enumerate(np.arange(choices.uniform(0, step), samples / SAMPLE_RATE, step)):
        if RHYTHMS[label][index % 8] == "x":
            add(wave, float(second), choices.uniform(0.7, 1.0) * sound)
    return wave


def placed(choices: Choices, wave: Samples, samples: int) -> Samples:
    """A sound at a random place of a clip of ``samples``, or a random stretch of a sound that is longer."""
    spare = samples - len(wave)
    before = int(choices.rng.integers(abs(spare) + 1))
    return np.pad(wave, (before, spare - before)) if spare >= 0 else wave[before : before + samples]


def in_noise(choices: Choices, wave: Samples) -> Samples:
    """The clip of a sound: in noise of a random colour 10 to 30 dB below it, at -35 to -15 dB RMS.

    Shape: (T,), at any level, even silent -> (T,), in [-1, 1].
    """
    background = tilted_noise(choices.rng, len(wave), choices.uniform(0, 1.5))
    wave = wave / max(float(wave.std()), 1e-9) + 10 ** (-choices.uniform(10, 30) / 20) * background
    wave = wave / wave.std() * 10 ** (choices.uniform(-35, -15) / 20)
    return wave / max(1.0, float(np.abs(wave).max()))
