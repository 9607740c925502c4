"""Endlessly varied sound from a seed, in plain torch: clip ids (B,) -> waveforms (B, T).

events      when something sounds, how loud, at which pitch: 1 to 8 in a clip, at regular or random times
source      voiced | fm | struck | noise | sweep | pulses, each for the clips that drew it
clip        1 to 3 sources at random levels, a room, an equaliser, background noise, a level
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.errors import ConfigError
from hear_axlstm.synthesis.draws import Draws

MAX_SECONDS = 60.0
CONTROL = 160  # samples from one value of a slow contour to the next: 10 ms
TOP = 7_600.0  # Hz: no partial lies above
EVENTS = 8
FFT, FFT_HOP = 512, 128  # for gains that vary over time and frequency


@dataclass(frozen=True)
class Timeline:
    """The times in s of a clip's samples, (T,), and of its slow contours, (C,), every 10 ms."""

    seconds: Tensor
    control: Tensor

    @classmethod
    def of(cls, samples: int, device: torch.device) -> Timeline:
        """The timeline of a clip with this number of samples at 16 kHz."""
        points = -(-samples // CONTROL) + 1
        return cls(
            torch.arange(samples, device=device) / SAMPLE_RATE,
            torch.arange(points, device=device) * (CONTROL / SAMPLE_RATE),
        )

    @property
    def samples(self) -> int:
        """The number of samples T of the clip."""
        return len(self.seconds)

    @property
    def duration(self) -> float:
        """The length of the clip in seconds."""
        return self.samples / SAMPLE_RATE

    def smooth(self, contour: Tensor) -> Tensor:
        """Slow contour (B, C) -> (B, T), linear in between."""
        size = (contour.shape[-1] - 1) * CONTROL + 1
        fine = F.interpolate(contour.unsqueeze(1), size=size, mode="linear", align_corners=True)
        return fine[:, 0, : self.samples]

    def wander(self, draws: Draws, per_second: float) -> Tensor:
        """A random curve through normal values, about ``per_second`` of them. Shape: (B, C)."""
        knots = 2 + math.ceil(per_second * self.duration)
        values = draws.normal(knots).unsqueeze(1)
        return F.interpolate(values, size=len(self.control), mode="linear", align_corners=True)[:, 0]


@dataclass(frozen=True)
class Events:
    """When something sounds. All (B, EVENTS), in seconds; onsets ascend. level: amplitude. Later ones may be too late."""

    onset: Tensor
    length: Tensor
    level: Tensor

    @classmethod
    def draw(cls, draws: Draws, duration: float) -> Events:
        """One long sound, a regular beat, or random times; at a density that does not depend on the clip's length."""
        kind = draws.uniform(0, 1, 1)
        gap = draws.log_uniform(0.08, 0.9, 1) * max(1.0, duration / 2)
        jitter = torch.where(kind < 0.65, draws.uniform(0, 0.08, 1), 1.0)
        gaps = gap * (1 + jitter * draws.uniform(-0.9, 0.9, EVENTS))
        first = draws.uniform(-0.2, 0.5, 1) * gap
        onset = first + gaps.cumsum(1) - gaps[:, :1]
        once = kind < 0.3
        onset = torch.where(once, onset + torch.arange(EVENTS, device=onset.device) * 1e3, onset)
        share = draws.uniform(0.2, 1.1, 1)
        length = torch.where(once, duration * draws.uniform(0.1, 1.2, 1), gaps * share)
        return cls(onset, length, 10 ** (draws.uniform(-12, 0, EVENTS) / 20))

    def envelope(self, draws: Draws, time: Timeline) -> Tensor:
        """Attack, plateau or decay, release of each event; the loudest at every moment. Shape: (B, T)."""
        attack = draws.log_uniform(0.001, 0.12, 1)
        release = draws.log_uniform(0.005, 0.3, 1)
        decay = torch.where(draws.chance(0.5, 1), draws.log_uniform(0.05, 1.0, 1), 1e3)
        envelope = torch.zeros(len(self.onset), time.samples, device=self.onset.device)
        for event in range(EVENTS):
            since = time.seconds - self.onset[:, event, None]
            rising = (since / attack).clamp(0, 1)
            falling = -since.clamp(min=0) / decay - (since - self.length[:, event, None]).clamp(min=0) / release
            envelope = envelope.maximum(self.level[:, event, None] * rising * falling.exp())
        return envelope

    def current(self, time: Timeline, values: Tensor) -> Tensor:
        """At every control time the value (B, EVENTS) of the event that began last. Shape: (B, C)."""
        return values.gather(1, self._index(time))

    def since(self, time: Timeline) -> Tensor:
        """Seconds from the last onset, 0 before the first. Shape: (B, C)."""
        return (time.control - self.onset.gather(1, self._index(time))).clamp(min=0)

    def _index(self, time: Timeline) -> Tensor:
        begun = (self.onset.unsqueeze(1) <= time.control[:, None]).sum(-1)
        return (begun - 1).clamp(min=0)


def melody(draws: Draws, low: float, high: float) -> Tensor:
    """Pitches of the events in Hz: a base and steps of up to an octave, or none. Shape: (B, EVENTS)."""
    base = draws.log_uniform(low, high, 1)
    reach = torch.where(draws.chance(0.35, 1), 0.0, draws.uniform(1, 12, 1))
    steps = draws.uniform(-1, 1, EVENTS) * reach
    steps = torch.where(draws.chance(0.5, 1), steps.round(), steps)
    return (base * 2 ** (steps / 12)).clamp(low / 2, TOP)


def pitch_contour(draws: Draws, events: Events, time: Timeline, low: float, high: float) -> Tensor:
    """Frequency in Hz with glides, vibrato and drift. Shape: (B, C)."""
    octaves = events.current(time, melody(draws, low, high)).log2()
    glide = torch.where(draws.chance(0.5, EVENTS), 0.0, draws.uniform(-2, 2, EVENTS))
    vibrato = torch.where(draws.chance(0.5, 1), 0.0, draws.log_uniform(0.003, 0.12, 1))
    rate = draws.uniform(3, 9, 1)
    wobble = vibrato * (2 * math.pi * (rate * time.control + draws.uniform(0, 1, 1))).sin()
    drift = draws.log_uniform(0.003, 0.08, 1) * time.wander(draws, 4)
    octaves = octaves + events.current(time, glide) * events.since(time).clamp(max=0.7) + wobble + drift
    return (2**octaves).clamp(20, TOP)


def phase(frequency: Tensor) -> Tensor:
    """Cycles since the start, modulo one. Summed in float64: an hour of samples would cost float32 its pitch.

    Shape: Hz (B, T) -> (B, T).
    """
    return (frequency.double() / SAMPLE_RATE).cumsum(-1).frac().float()


def sine(cycles: Tensor) -> Tensor:
    """A sine at these phases, in cycles. Shape: (B, T) -> (B, T)."""
    return (2 * math.pi * cycles).sin()


def pulse_train(cycles: Tensor, partials: Tensor) -> Tensor:
    """Sum of cos(2 pi k cycles), k = 1 .. partials, in closed form, at the power of one sine. Shape: (B, T), (B, 1)."""
    half = math.pi * cycles
    top, bottom = ((2 * partials + 1) * half).sin(), half.sin()
    flat = bottom.abs() < 1e-4
    kernel = torch.where(flat, 2 * partials + 1, top / torch.where(flat, 1.0, bottom))
    return (kernel - 1) / (2 * partials.sqrt())


def shape_spectrum(signal: Tensor, gain_db: Tensor) -> Tensor:
    """Apply a gain that varies over time and frequency. Shape: (B, T), dB (B, 257, any number of moments) -> (B, T)."""
    window = torch.hann_window(FFT, device=signal.device)
    spectrum = torch.stft(signal, FFT, FFT_HOP, window=window, return_complex=True)
    gain = F.interpolate(gain_db, size=spectrum.shape[-1], mode="linear", align_corners=True)
    shaped = spectrum * 10 ** (gain.clamp(-80, 40) / 20)
    return torch.istft(shaped, FFT, FFT_HOP, window=window, length=signal.shape[-1])


def bins(draws: Draws) -> Tensor:
    """Centres in Hz of the 257 bins of ``shape_spectrum``, (257, 1); the lowest counts as 20 Hz."""
    return torch.linspace(0, SAMPLE_RATE / 2, FFT // 2 + 1, device=draws.device).clamp(min=20)[:, None]


def voiced(draws: Draws, time: Timeline) -> Tensor:
    """Pulses and breath through moving resonances, as in a throat, a horn or a string. Shape: (B, T)."""
    events = Events.draw(draws, time.duration)
    frequency = pitch_contour(draws, events, time, 60, 900)
    cycles = phase(time.smooth(frequency))
    partials = (TOP / frequency.amax(1, keepdim=True)).floor().clamp(min=1)
    source = pulse_train(cycles, partials)
    odd = torch.where(draws.chance(0.3, 1), draws.uniform(0, 1, 1), 0.0)  # towards a clarinet's odd partials
    source = source - odd * pulse_train((cycles + 0.5).frac(), partials)
    breath = torch.where(draws.chance(0.6, 1), draws.log_uniform(0.003, 1.0, 1), 0.0)
    hiss = (events.current(time, draws.uniform(0, 1, EVENTS)) < 0.15).float()  # some events are breath alone
    unvoiced = time.smooth(hiss * torch.where(draws.chance(0.4, 1), 1.0, 0.0))
    source = source * (1 - unvoiced) + draws.normal(time.samples) * (breath + unvoiced)

    hertz = bins(draws)
    gain = -draws.uniform(3, 15, 1, 1) * (hertz / 200).clamp(min=1).log2()  # dB an octave
    gain = gain - draws.uniform(0, 12, 1, 1) * events.since(time)[:, None] * (hertz / 400).log2().clamp(min=0)
    resonances = torch.zeros_like(gain)
    for centre, spread in ((500.0, 1.0), (1500.0, 0.8), (2600.0, 0.4), (3700.0, 0.3)):
        targets = centre * 2 ** (spread * draws.uniform(-1, 1, EVENTS))
        moving = 2 ** (0.15 * time.wander(draws, 6)) * _eased(events.current(time, targets))
        width = draws.log_uniform(60, 350, 1, 1)
        resonances = resonances + (1 / (1 + ((hertz - moving[:, None]) / width) ** 2))
    strength = torch.where(draws.chance(0.75, 1, 1), draws.uniform(10, 30, 1, 1), 0.0)
    shaped = shape_spectrum(source, gain + strength * resonances)
    return shaped * events.envelope(draws, time)


def _eased(contour: Tensor) -> Tensor:
    """Steps become glides of 70 ms. Shape: (B, C) -> (B, C)."""
    padded = F.pad(contour.unsqueeze(1), (3, 3), mode="replicate")
    return F.avg_pool1d(padded, 7, stride=1)[:, 0]


def fm(draws: Draws, time: Timeline) -> Tensor:
    """Frequency modulation with one or two modulators: bells, brass, electric pianos, metal. Shape: (B, T)."""
    events = Events.draw(draws, time.duration)
    frequency = pitch_contour(draws, events, time, 60, 2_000)
    carrier = phase(time.smooth(frequency))
    whole = draws.pick([0.5, 1, 1, 2, 3, 4], 2)
    ratio = torch.where(draws.chance(0.5, 2), whole, draws.log_uniform(0.2, 7, 2))
    index = draws.log_uniform(0.2, 8, 2) * torch.tensor([1.0, 0.4], device=draws.device)
    fading = (-events.since(time) / draws.log_uniform(0.05, 2, 1)).exp()
    # Carson's rule bounds the width of the spectrum: 2 (index + 1) times the modulator.
    room = ((TOP - frequency) / (ratio.amax(1, keepdim=True) * frequency)).clamp(min=0)
    cycles = carrier
    for k in range(2):
        depth = time.smooth(fading * torch.minimum(index[:, k, None], room))
        modulator = phase(time.smooth(frequency * ratio[:, k, None]))
        cycles = cycles + depth * sine(modulator) / (2 * math.pi)
    return sine(cycles) * events.envelope(draws, time)


def struck(draws: Draws, time: Timeline) -> Tensor:
    """Decaying modes of strings, membranes, bars and nothing in particular, struck or plucked. Shape: (B, T)."""
    modes = 16
    order = torch.arange(1, modes + 1, device=draws.device)
    stretched = order * (1 + draws.log_uniform(1e-6, 3e-3, 1) * order**2).sqrt()
    bar = ((2 * order + 1) ** 2 / 9.0).expand(len(draws), -1)
    membrane = torch.tensor(
        [1, 1.594, 2.136, 2.296, 2.653, 2.918, 3.156, 3.5, 3.6, 3.652, 4.06, 4.154, 4.601, 4.61, 4.832, 4.903],
        device=draws.device,
    ).expand(len(draws), -1)
    anything = draws.uniform(0, 1.5, modes).exp().sort(1).values * draws.log_uniform(1, 3, 1)
    kinds = torch.stack([stretched, bar, membrane, anything], dim=1)
    ratios = kinds[torch.arange(len(draws), device=draws.device), draws.integers(0, 4)]
    frequency = draws.log_uniform(60, 2_500, 1) * ratios
    level = order ** -draws.uniform(0, 1.5, 1) * draws.uniform(0.1, 1, modes) * (frequency < TOP)
    halving = draws.log_uniform(0.01, 0.8, 1) * (frequency / frequency[:, :1]) ** -draws.uniform(0, 1.2, 1)
    burst = torch.zeros(len(draws), time.samples, device=draws.device)
    for k in range(modes):
        tone = sine(frequency[:, k, None] * time.seconds + draws.uniform(0, 1, 1))
        burst = burst + level[:, k, None] * (-time.seconds / halving[:, k, None]).exp2() * tone
    knock = draws.log_uniform(0.01, 2, 1) * (-time.seconds / draws.log_uniform(0.0005, 0.02, 1)).exp()
    return convolve(burst + knock * draws.normal(time.samples), _impulses(Events.draw(draws, time.duration), time))


def _impulses(events: Events, time: Timeline) -> Tensor:
    """One sample at every onset. Shape: (B, T)."""
    index = (events.onset * SAMPLE_RATE).round().long()
    inside = (index >= 0) & (index < time.samples)
    out = torch.zeros(len(index), time.samples, device=index.device)
    return out.scatter_add(1, index.clamp(0, time.samples - 1), events.level * inside)


def convolve(signal: Tensor, response: Tensor) -> Tensor:
    """Causal convolution, cut to the signal's length. Shape: (B, T), (B, R) -> (B, T)."""
    size = signal.shape[-1] + response.shape[-1]
    product = torch.fft.rfft(signal, size) * torch.fft.rfft(response, size)
    return torch.fft.irfft(product, size)[..., : signal.shape[-1]]


def noise(draws: Draws, time: Timeline) -> Tensor:
    """White noise under a random smooth gain over time and frequency, in beats or flutter: wind, rain, breath, engines.

    Shape: (B, T).
    """
    events = Events.draw(draws, time.duration)
    rows, columns = 12, 3 + math.ceil(3 * time.duration)
    ground = draws.normal(1, rows, 1) * draws.uniform(0, 15, 1, 1, 1)
    change = draws.normal(1, rows, columns) * draws.uniform(0, 10, 1, 1, 1)
    field = F.interpolate(ground + change, size=(FFT // 2 + 1, 4 * columns), mode="bicubic", align_corners=True)[:, 0]
    shaped = shape_spectrum(draws.normal(time.samples), field - draws.uniform(-3, 9, 1, 1) * (bins(draws) / 500).log2())
    flutter = sine(draws.log_uniform(0.5, 60, 1) * time.seconds + draws.uniform(0, 1, 1))
    depth = torch.where(draws.chance(0.5, 1), draws.uniform(0, 1, 1), 0.0)
    steady = draws.chance(0.4, 1)
    return shaped * (1 + depth * flutter) * torch.where(steady, 1.0, events.envelope(draws, time))


def sweep(draws: Draws, time: Timeline) -> Tensor:
    """Tones that run from one frequency to another: birds, sirens, whistles. Shape: (B, T)."""
    events = Events.draw(draws, time.duration)
    start = draws.log_uniform(150, 6_500, EVENTS)
    end = draws.log_uniform(150, 6_500, EVENTS)
    same = draws.chance(0.6, 1)  # one call, repeated
    start, end = (torch.where(same, x[:, :1], x) for x in (start, end))
    course = (events.since(time) / events.current(time, events.length).clamp(min=1e-3)).clamp(max=1)
    course = course ** draws.log_uniform(0.4, 2.5, 1)
    trill = torch.where(draws.chance(0.4, 1), draws.uniform(0, 0.5, 1), 0.0)
    trill = trill * (2 * math.pi * draws.log_uniform(4, 50, 1) * time.control).sin()
    octaves = torch.lerp(events.current(time, start).log2(), events.current(time, end).log2(), course) + trill
    cycles = phase(time.smooth((2**octaves).clamp(60, TOP)))
    second = torch.where(draws.chance(0.5, 1), draws.uniform(0, 0.7, 1), 0.0)
    overtone = second * sine((2 * cycles).frac()) * (time.smooth(octaves) < math.log2(TOP / 2))
    return (sine(cycles) + overtone) * events.envelope(draws, time)


def pulses(draws: Draws, time: Timeline) -> Tensor:
    """Trains of short clicks through a resonance or two: insects, frogs, motors, clocks. Shape: (B, T)."""
    rate = draws.log_uniform(2, 90, 1) * 2 ** (draws.log_uniform(0.01, 0.6, 1) * time.wander(draws, 2))
    cycles = phase(time.smooth(rate)) + draws.uniform(0, 1, 1)
    clicks = (cycles.frac().diff(dim=1, prepend=torch.ones_like(cycles[:, :1])) < 0).float()
    clicks = clicks * (1 + draws.uniform(0, 1, 1) * draws.uniform(-1, 1, time.samples))
    short = time.seconds[: SAMPLE_RATE // 5]
    click = torch.zeros(len(draws), len(short), device=draws.device)
    for _ in range(3):
        halving = draws.log_uniform(0.0003, 0.03, 1)
        click = click + draws.uniform(0, 1, 1) * (-short / halving).exp2() * sine(draws.log_uniform(80, 6_000, 1) * short)
    train = convolve(clicks, click)
    steady = draws.chance(0.5, 1)
    return train * torch.where(steady, 1.0, Events.draw(draws, time.duration).envelope(draws, time))


SOURCES: tuple[Callable[[Draws, Timeline], Tensor], ...] = (voiced, fm, struck, noise, sweep, pulses)
WEIGHTS = (0.34, 0.12, 0.18, 0.16, 0.1, 0.1)  # of the sources, in this order
LAYERS = (1.0, 0.5, 0.2)  # how often a clip has a first, a second and a third source


def loudness(signal: Tensor) -> Tensor:
    """Root mean square, never zero. Shape: (B, T) -> (B, 1)."""
    return signal.square().mean(-1, keepdim=True).sqrt().clamp(min=1e-8)


def mixture(draws: Draws, time: Timeline) -> Tensor:
    """One to three sources at levels within 20 dB. Shape: (B, T)."""
    total = torch.zeros(len(draws), time.samples, device=draws.device)
    edges = torch.tensor(WEIGHTS, device=draws.device).cumsum(0)[:-1]
    for layer, share in enumerate(LAYERS):
        present, kind = draws.chance(share), torch.bucketize(draws.uniform(0, 1), edges)
        level = 10 ** (draws.uniform(-20, 0, 1) / 20)
        for index, source in enumerate(SOURCES):
            chosen = (present & (kind == index)).nonzero().flatten()
            if len(chosen):
                signal = source(draws.fork(layer * len(SOURCES) + index, chosen), time)
                total[chosen] += level[chosen] * signal / loudness(signal)
    return total


def room(draws: Draws, signal: Tensor) -> Tensor:
    """Reverberation in four of ten clips: noise that dies away, faster at high frequencies. Shape: (B, T) -> (B, T)."""
    length = SAMPLE_RATE
    seconds = torch.arange(length, device=draws.device) / SAMPLE_RATE
    t60 = draws.log_uniform(0.08, 1.5, 1)
    tail = draws.normal(length) * 10 ** (-3 * seconds / t60)
    dark = 10 ** (-3 * seconds / (t60 * draws.uniform(0.2, 0.9, 1)))
    # A first difference is what is bright in the tail: it dies first.
    tail = tail - 0.5 * (1 - dark) * tail.diff(dim=1, prepend=tail[:, :1])
    wet = 10 ** (draws.uniform(-25, 3, 1) / 20) * draws.chance(0.4, 1)
    late = convolve(signal, tail / tail.norm(dim=1, keepdim=True))
    return signal + wet * late


def equalise(draws: Draws, signal: Tensor) -> Tensor:
    """A microphone's or a channel's colour: a random smooth curve over frequency. Shape: (B, T) -> (B, T)."""
    curve = draws.normal(10) * draws.uniform(0, 8, 1)
    size = 2 * ((signal.shape[-1] + 1) // 2)
    spectrum = torch.fft.rfft(signal, size)
    gain = F.interpolate(curve.unsqueeze(1), size=spectrum.shape[-1], mode="linear", align_corners=True)[:, 0]
    return torch.fft.irfft(spectrum * 10 ** (gain / 20), size)[..., : signal.shape[-1]]


def synthesize(clips: Tensor, seed: int, seconds: float = 2.0) -> Tensor:
    """Clip number i of a seed, the same in every batch and, to rounding, on every device.

    Shape: clips, ids (B,), int64, on the device that is to work -> (B, T), float32 in [-1, 1], T = 16,000 * seconds.

    Raises ConfigError when ``seconds`` is not between 0.1 and 60.

    >>> synthesize(torch.arange(3), seed=0, seconds=0.5).shape
    torch.Size([3, 8000])
    """
    if not 0.1 <= seconds <= MAX_SECONDS:
        raise ConfigError(f"seconds is {seconds}; expected 0.1 to {MAX_SECONDS:.0f}: join clips for longer sound")
    with torch.no_grad(), torch.autocast(clips.device.type, enabled=False):
        draws = Draws(clips, seed)
        time = Timeline.of(round(SAMPLE_RATE * seconds), clips.device)
        sound = equalise(draws, room(draws, mixture(draws, time)))
        sound = sound / loudness(sound)
        colour = -draws.uniform(-2, 6, 1, 1) * (bins(draws) / 500).log2()
        background = shape_spectrum(draws.normal(time.samples), colour.expand(-1, -1, 2))
        sound = sound + 10 ** (draws.uniform(-70, -8, 1) / 20) * background / loudness(background)
        peak = 10 ** (draws.uniform(-30, -1, 1) / 20)
        return peak * sound / sound.abs().amax(1, keepdim=True).clamp(min=1e-8)
