"""The probe's tasks: small classification problems whose test clips differ from all others in what is held out."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from hear_axlstm.audio import Wave
from hear_axlstm.config import CHUNK_FRAMES, HOP, SAMPLE_RATE
from hear_axlstm.errors import AudioError, ConfigError
from hear_axlstm.evaluation.probe.texts import DIGITS, SENTENCES
from hear_axlstm.storage import sha256_of
from hear_axlstm.synthesis.held_out import (
    PARTS,
    PITCHES,
    RHYTHMS,
    TEXTURES,
    Choices,
    Part,
    Samples,
    fade,
    in_noise,
    noise,
    pitch,
    placed,
    rhythm,
    times,
    tone,
)
from hear_axlstm.synthesis.music import SOUNDFONT, SOUNDFONT_FOLDERS, Note, find_soundfont, play
from hear_axlstm.synthesis.speech import Voice, speak, variants

Program = Literal["espeak-ng", "fluidsynth"]

VERSION, MODE = "v1", "probe"  # ends of the folders' names; whoever changes a task's sound changes the version
PROBE_SOUNDFONT = "FluidR3_GM.sf2"  # other recordings than those that the training corpus plays


@dataclass(frozen=True)
class Task:
    """A classification problem.

    classes: names of the labels 0, 1, ... held_out: what test clips have and no other clip has. chunks: length of a
    clip, in the encoder's chunks of 2 s. make: choices, a label and a number of samples -> a sound at any level.
    needs: the program that makes the sound.
    """

    name: str
    classes: tuple[str, ...]
    held_out: str
    chunks: int
    make: Callable[[Choices, int, int], Samples]
    needs: Program | None = None

    @property
    def folder(self) -> str:
        """The name of its task folder, such as "pitch-v1-probe"."""
        return f"{self.name}-{VERSION}-{MODE}"

    @property
    def samples(self) -> int:
        """Samples of a clip: the most whose frames fill whole chunks, so that every step of an encoder counts."""
        return self.chunks * CHUNK_FRAMES * HOP - HOP

    def clip(self, seed: int, part: Part, index: int, soundfont: Path | None = None) -> Wave:
        """Clip ``index`` of a part: a sound of the label ``index % len(classes)`` in noise, the same for the same arguments.

        Shape: -> (T,), float32, 16 kHz, in [-1, 1]. Raises ConfigError when a program that it needs is not installed,
        AudioError when that fails.
        """
        rng = np.random.default_rng([seed, zlib.crc32(self.name.encode()), PARTS.index(part), index])
        choices = Choices(rng, part, soundfont)
        return in_noise(choices, self.make(choices, index % len(self.classes), self.samples)).astype(np.float32)


def held_out_soundfont() -> Path:
    """FluidR3_GM.sf2 where systems keep SoundFonts. Raises ConfigError, which says how to get it, when it is not there."""
    found = next((path for folder in SOUNDFONT_FOLDERS if (path := folder / PROBE_SOUNDFONT).is_file()), None)
    if found is None:
        raise ConfigError(
            f"{PROBE_SOUNDFONT} is not installed; install it (Debian: apt install fluid-soundfont-gm), or name another "
            f"General MIDI SoundFont than {SOUNDFONT} (--soundfont)"
        )
    return found


def is_held_out(soundfont: Path) -> bool:
    """Whether a SoundFont is another one than the training corpus plays: by name and, where that is installed, content."""
    if soundfont.name == SOUNDFONT:
        return False
    try:
        return sha256_of(soundfont) != sha256_of(find_soundfont(None))
    except ConfigError:
        return True


# Tones and textures


def texture(choices: Choices, label: int, samples: int) -> Samples:
    """The texture of this label, with parameters from its part's range."""
    return list(TEXTURES.values())[label](choices, samples)


CONTOURS: dict[str, tuple[float, float, float]] = {  # height at the start, in the middle and at the end
    "up": (0, 0.5, 1),
    "down": (1, 0.5, 0),
    "up-down": (0, 1, 0),
    "down-up": (1, 0, 1),
    "flat": (0.5, 0.5, 0.5),
}
CONTOUR_WAVEFORMS: dict[Part, tuple[str, ...]] = {"train": ("sine", "saw"), "test": ("square", "organ")}


def contour(choices: Choices, label: int, samples: int) -> Samples:
    """A glide over 1 to 1.6 octaves."""
    length = int(choices.uniform(1.5, 1.95) * SAMPLE_RATE)
    height = np.interp(np.linspace(0, 1, length), (0, 0.5, 1), list(CONTOURS.values())[label])
    hertz = choices.uniform(300, 450) * 2 ** (choices.uniform(1.0, 1.6) * height)
    return placed(choices, fade(length, 0.03, 0.05) * tone(choices.of_part(CONTOUR_WAVEFORMS), hertz), samples)


RATES = (1.5, 3.0, 6.0, 12.0, 24.0)  # Hz
CARRIERS: dict[Part, tuple[str, ...]] = {"train": ("saw", "high noise"), "test": ("square", "low noise")}


def modulation(choices: Choices, label: int, samples: int) -> Samples:
    """Tremolo of a tone or of noise, or vibrato of a tone."""
    hertz = RATES[label] * choices.uniform(0.93, 1.07)
    cycle = np.sin(2 * np.pi * (hertz * times(samples) + choices.uniform(0, 1)))
    carrier, pitch = choices.of_part(CARRIERS), choices.uniform(250, 700)
    if "noise" not in carrier and choices.uniform(0, 1) < 0.5:
        return tone(carrier, pitch * 2 ** (choices.uniform(0.2, 0.35) * cycle))
    level = 1 + choices.uniform(0.8, 0.95) * cycle
    if "noise" in carrier:
        low, high = (800, 6_000) if carrier == "high noise" else (200, 2_500)
        return level * noise(choices.rng, samples, low, high)
    return level * tone(carrier, np.full(samples, pitch))


ORDERS = ("high-low", "low-high", "noise-tone", "tone-noise", "soft-loud", "loud-soft")
ORDER_WAVEFORMS: dict[Part, tuple[str, ...]] = {"train": ("saw", "sine"), "test": ("square", "organ")}


def order(choices: Choices, label: int, samples: int) -> Samples:
    """Two sounds, one after the other, in the order that the label says."""
    lengths = [int(choices.uniform(0.5, 0.9) * SAMPLE_RATE) for _ in range(2)]
    waveform, hertz = choices.of_part(ORDER_WAVEFORMS), choices.uniform(250, 500)
    ratio, level = choices.uniform(1.5, 2.5), choices.uniform(0.15, 0.4)
    pieces = []
    for kind, length in zip(ORDERS[label].split("-"), lengths, strict=True):
        if kind == "noise":
            sound = noise(choices.rng, length, 300, 4_000)
        else:
            sound = tone(waveform, np.full(length, ratio * hertz if kind == "high" else hertz))
        pieces.append((level if kind == "soft" else 1.0) * fade(length, 0.02, 0.05) * sound / sound.std())
    return placed(choices, np.concatenate(pieces), samples)


# Speech


def speakers(part: Part) -> list[str]:
    """The voices of a part, none of which any training sound has. "iven" and "iven2" are in the same part."""
    family = {variant: variant.lower().rstrip("0123456789") for variant in variants("test")}
    chosen = sorted(set(family.values()))[PARTS.index(part) :: len(PARTS)]
    return [variant for variant in family if family[variant] in chosen]


def voice(choices: Choices, language: str, variant: str) -> Voice:
    """A variant of the voice of a language, at a random height and speed."""
    pitch, rate = (int(choices.rng.integers(*span)) for span in ((30, 71), (140, 201)))
    return Voice(language=language, variant=variant, pitch=pitch, rate=rate)


def digit(choices: Choices, label: int, samples: int) -> Samples:
    """One digit, spoken in English by one of the part's voices."""
    spoken = speak(DIGITS[label], voice(choices, "en-us", choices.of(speakers(choices.part))))
    return placed(choices, spoken.astype(np.float64), samples)


def passage(choices: Choices, language: str, variant: str, samples: int) -> Samples:
    """A stretch of a sentence; a short sentence is said again."""
    spoken = speak(choices.of(SENTENCES[language][choices.part]), voice(choices, language, variant))
    return placed(choices, np.tile(spoken, -(-samples // len(spoken))).astype(np.float64), samples)


def language(choices: Choices, label: int, samples: int) -> Samples:
    """Somebody speaks one of eight languages."""
    return passage(choices, list(SENTENCES)[label], choices.of(speakers(choices.part)), samples)


def speaker_count(choices: Choices, label: int, samples: int) -> Samples:
    """One to four people speak at once."""
    wave = np.zeros(samples)
    for variant in choices.rng.permutation(speakers(choices.part))[: label + 1]:
        spoken = passage(choices, "en-us", str(variant), samples)
        wave += 10 ** (choices.uniform(-3, 3) / 20) * spoken / spoken.std()
    return wave


# Music


INSTRUMENTS = {  # General MIDI programs, counted from 0
    "piano": 0,
    "vibraphone": 11,
    "church organ": 19,
    "nylon guitar": 24,
    "finger bass": 33,
    "violin": 40,
    "choir": 52,
    "trumpet": 56,
    "alto saxophone": 65,
    "clarinet": 71,
    "flute": 73,
    "sitar": 104,
}
WHOLE_TONES: dict[Part, tuple[int, ...]] = {"train": tuple(range(48, 72, 2)), "test": tuple(range(49, 73, 2))}  # keys
PLAYERS: dict[Part, tuple[str, ...]] = {
    "train": ("piano", "church organ", "violin", "choir", "alto saxophone", "sitar"),
    "test": ("vibraphone", "nylon guitar", "trumpet", "clarinet", "flute"),
}
DRUMS = {"kick": 36, "snare": 38, "clap": 39, "closed hi-hat": 42, "open hi-hat": 46, "tom": 45, "crash": 49, "cowbell": 56}
KITS: dict[Part, tuple[int, ...]] = {"train": (0, 8, 25), "test": (16, 24, 32)}  # programs of the drum channel


def played(choices: Choices, notes: list[Note], samples: int) -> Samples:
    """Notes on the clip's SoundFont, for the length of a clip. Raises AudioError when it has no such instrument."""
    assert choices.soundfont is not None, "tasks that need fluidsynth are given a SoundFont"
    wave = play(notes, choices.soundfont, samples / SAMPLE_RATE)
    if not wave.any():
        raise AudioError(f"{choices.soundfont.name} plays nothing for {notes[0]}; expected a General MIDI SoundFont")
    return wave.astype(np.float64)


def instrument(choices: Choices, label: int, samples: int) -> Samples:
    """A phrase of one to three notes, played on one instrument."""
    program, count = list(INSTRUMENTS.values())[label], int(choices.rng.integers(1, 4))
    start, length = choices.uniform(0, 0.3), choices.uniform(0.9, 1.5) / count
    notes = []
    for index in range(count):
        key, velocity = choices.of_part(WHOLE_TONES), int(choices.rng.integers(50, 115))
        notes.append(Note(start=start + index * length, duration=length, key=key, velocity=velocity, program=program))
    return played(choices, notes, samples)


def instrument_pitch(choices: Choices, label: int, samples: int) -> Samples:
    """One note, at the label's pitch, of an instrument of the part."""
    program, velocity = INSTRUMENTS[choices.of_part(PLAYERS)], int(choices.rng.integers(50, 115))
    start, length = choices.uniform(0, 0.4), choices.uniform(0.7, 1.4)
    return played(
        choices, [Note(start=start, duration=length, key=PITCHES[label], velocity=velocity, program=program)], samples
    )


def drum(choices: Choices, label: int, samples: int) -> Samples:
    """One to four strokes on a drum of one of the part's kits."""
    kit, key = choices.of_part(KITS), list(DRUMS.values())[label]
    notes = []
    for start in np.sort(choices.rng.uniform(0, 1.6, int(choices.rng.integers(1, 5)))):
        velocity = int(choices.rng.integers(40, 120))
        notes.append(Note(start=float(start), duration=0.2, key=key, velocity=velocity, program=kit, drum=True))
    return played(choices, notes, samples)


def _names(keys: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(f"{'C C# D D# E F F# G G# A A# B'.split()[key % 12]}{key // 12 - 1}" for key in keys)


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("pitch", _names(PITCHES), "waveforms", 1, pitch),
        Task("texture", tuple(TEXTURES), "ranges of the parameters", 2, texture),
        Task("contour", tuple(CONTOURS), "waveforms", 1, contour),
        Task("rhythm", RHYTHMS, "strokes", 2, rhythm),
        Task("modulation", tuple(f"{rate:g} Hz" for rate in RATES), "carriers", 1, modulation),
        Task("order", ORDERS, "waveforms", 1, order),
        Task("digit", DIGITS, "speakers", 1, digit, "espeak-ng"),
        Task("language", tuple(SENTENCES), "speakers and sentences", 2, language, "espeak-ng"),
        Task("speaker-count", ("1", "2", "3", "4"), "speakers and sentences", 2, speaker_count, "espeak-ng"),
        Task("instrument", tuple(INSTRUMENTS), "keys", 1, instrument, "fluidsynth"),
        Task("instrument-pitch", _names(PITCHES), "instruments", 1, instrument_pitch, "fluidsynth"),
        Task("drum", tuple(DRUMS), "drum kits", 1, drum, "fluidsynth"),
    )
}
