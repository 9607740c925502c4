"""The sounds of a synthesised suite's tasks: choices, a label's index and a length -> waves (T,), float64, 16 kHz."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.synthesis.held_out import (
    PITCHES,
    TEXTURES,
    Choices,
    Samples,
    add,
    key_hertz,
    noise,
    ping,
    pitch,
    placed,
    regular,
    rhythm,
    tilted_noise,
    times,
    together,
    tone,
)

Label = str | int  # numbers where HEAR has numbers: of keys, and of people
Make = Callable[[Choices, int, int], Samples]

WAVEFORMS = ("saw", "square", "triangle", "pulse-quarter", "organ")
VOWELS = ((750, 1_200), (280, 2_300), (300, 800), (480, 1_900), (500, 950), (620, 1_700))  # Hz of two resonances


def stroke(choices: Choices, label: int, samples: int) -> Samples:
    """A drum or a gong, one for each label."""
    hertz = 110 * 1.6**label * choices.uniform(0.95, 1.05)
    hit = together(ping(hertz, choices.uniform(0.04, 0.08)), 0.5 * ping(2.3 * hertz, 0.02))
    wave = np.zeros(samples)
    add(wave, choices.uniform(0, 0.2), hit)
    return wave


def tonic(choices: Choices, label: int, samples: int) -> Samples:
    """A struck tone, three semitones above that of the label before."""
    hertz = key_hertz(47 + 3 * label + choices.uniform(-0.1, 0.1))
    return np.exp(-5 * times(samples)) * tone(choices.of(WAVEFORMS[:3]), np.full(samples, hertz))


def voice(choices: Choices, vowels: Sequence[int], samples: int) -> Samples:
    """Somebody says vowels, one after the other."""
    wave = np.zeros(samples)
    said = [together(ping(low, 0.008), 0.6 * ping(high, 0.005)) for low, high in (VOWELS[vowel] for vowel in vowels)]
    pulses = regular(choices.rng, choices.uniform(95, 230), samples, jitter=0.02)
    for second, grain in zip(pulses, np.arange(len(pulses)) * len(said) // len(pulses), strict=True):
        add(wave, float(second), said[grain])
    return wave


def vowel(choices: Choices, label: int, samples: int) -> Samples:
    """One vowel, said in syllables by one person."""
    beat = np.sin(np.pi * choices.uniform(2, 4) * times(samples)) ** 2
    return (0.2 + beat) * voice(choices, [label], samples)


def command(choices: Choices, label: int, samples: int) -> Samples:
    """Silence; an unknown word of three vowels; or a word of two vowels, one word for each label."""
    if label == 0:
        return np.zeros(samples)
    if label == 1:
        return voice(choices, choices.rng.permutation(len(VOWELS))[:3].tolist(), samples)
    return voice(choices, divmod(3 * label, len(VOWELS)), samples)


def language(choices: Choices, label: int, samples: int) -> Samples:
    """Syllables of the two vowels of a language, at its pace."""
    return voice(choices, [label, (label + 2) % len(VOWELS)] * (2 + label), samples)


def crowd(choices: Choices, label: int, samples: int) -> Samples:
    """People who speak at once, as many as the label says, each with other vowels."""
    voices = [voice(choices, choices.rng.integers(len(VOWELS), size=3).tolist(), samples) for _ in range(label)]
    return sum(voices, 0.05 * tilted_noise(choices.rng, samples, 1.0))


def texture(names: Sequence[str]) -> Make:
    """A maker whose labels are the textures of these names."""
    return lambda choices, label, samples: TEXTURES[names[label]](choices, samples)


def shot(choices: Choices, label: int, samples: int) -> Samples:
    """A bang, duller from label to label, as from farther away."""
    length = int(0.4 * SAMPLE_RATE)
    bang = np.exp(-12 * times(length)) * noise(choices.rng, length, 60, 6_000 * 0.6**label)
    return placed(choices, bang, samples)


def groove(choices: Choices, label: int, samples: int) -> Samples:
    """A rhythm over a bass, both chosen by the label."""
    bass = tone(WAVEFORMS[label], np.full(samples, key_hertz(36 + 4 * label)))
    return rhythm(choices, label, samples) + 0.3 * bass


def music_or_speech(choices: Choices, label: int, samples: int) -> Samples:
    """Speech with label 1, music with label 0."""
    return (
        vowel(choices, choices.of(range(len(VOWELS))), samples) if label else groove(choices, choices.of(range(5)), samples)
    )


def hive(choices: Choices, label: int, samples: int) -> Samples:
    """A buzz of bees, higher where the hive has a queen."""
    buzz = tone("saw", np.full(samples, (180 + 220 * label) * choices.uniform(0.9, 1.1)))
    return buzz + noise(choices.rng, samples, 200, 2_000)


def office(choices: Choices, label: int, samples: int) -> Samples:
    """A tone or a noise that lasts from the first sample to the last."""
    hertz = 250 * 1.32**label
    if label % 2:
        return noise(choices.rng, samples, hertz, 1.3 * hertz)
    return tone("triangle", np.full(samples, hertz * choices.uniform(0.98, 1.02)))


def note(choices: Choices, label: int, samples: int) -> Samples:
    """A struck note of a piano, a semitone higher from label to label."""
    return np.exp(-2 * times(samples)) * tone("saw", np.full(samples, key_hertz(60 + label)))


@dataclass(frozen=True)
class Imitation:
    """One task's imitation: its labels and the maker of their sounds.

    labels: the vocabulary, sorted as HEAR's are; fewer than the real ones where these are many. make: one of the functions
    above. extra: metadata that only this task has.
    """

    labels: tuple[Label, ...]
    make: Make
    extra: Mapping[str, Any] | None = None


_ESC = ("crickets", "engine", "fire", "frogs", "rain", "siren", "telephone", "wind")
_FSD = ("bubbles", "engine", "fire", "rain", "siren", "surf", "wind")
_VOCAL = ("bubbles", "clock", "footsteps", "siren", "wind")
_COMMANDS = ("_silence_", "_unknown_", "down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes")
_OFFICE = "clearthroat cough doorslam drawer keyboard keys knock laughter pageturn phone speech".split()
_HIVE = Imitation(("NOQUEEN", "QUEEN"), hive)
_MAESTRO = {
    "use_scoring_for_early_stopping": False,
    "evaluation_params": {
        "event_postprocessing_grid": {"median_filter_ms": [150], "min_duration": [50]},
        "task_specific_param_grid": {"max_epochs": [50], "check_val_every_n_epoch": [1]},
    },
}

IMITATIONS: dict[str, Imitation] = {  # by task_name
    "beijing_opera": Imitation(("Bangu", "Daluo", "Naobo", "Xiaoluo"), stroke),
    "mridangam_stroke": Imitation(("bheem", "cha", "dheem", "dhin", "num", "ta"), stroke),
    "mridangam_tonic": Imitation(("B", "C", "C#", "D", "D#", "E"), tonic),
    "nsynth_pitch": Imitation(PITCHES, pitch),
    "tfds_crema_d": Imitation(("ANG", "DIS", "FEA", "HAP", "NEU", "SAD"), vowel),
    "libricount": Imitation(tuple(range(5)), crowd),
    "speech_commands": Imitation(_COMMANDS, command),
    "vox_lingua_top10": Imitation(("de", "en", "es", "fr", "it"), language),
    "esc50": Imitation(_ESC, texture(_ESC)),
    "fsd50k": Imitation(_FSD, texture(_FSD)),
    "beehive_states_fold0": _HIVE,
    "beehive_states_fold1": _HIVE,
    "dcase2016_task2": Imitation(tuple(_OFFICE), office),
    "gunshot_triangulation": Imitation(tuple(f"gun {number}" for number in range(1, 8)), shot),
    "maestro": Imitation(tuple(range(60, 72)), note, _MAESTRO),
    "tfds_gtzan": Imitation(("blues", "classical", "disco", "jazz", "metal"), groove),
    "tfds_gtzan_music_speech": Imitation(("music", "speech"), music_or_speech),
    "vocal_imitation": Imitation(_VOCAL, texture(_VOCAL)),
}
