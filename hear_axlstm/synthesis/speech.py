"""Speech by the espeak-ng program: about 130 languages and accents, 90 voices, any text.

Its voices come from one formant synthesiser and form one family. Those for training and those held out never meet.
"""

from __future__ import annotations

import io
import math
import re
import zlib
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import soundfile

from hear_axlstm.audio import Wave, to_wave
from hear_axlstm.config import SAMPLE_RATE, check_choice
from hear_axlstm.errors import AudioError, ConfigError
from hear_axlstm.synthesis.programs import find_program, run_program

Split = Literal["train", "test"]

PROGRAM = "espeak-ng"
TIMEOUT = 60.0  # seconds for one call; a minute of speech takes it a tenth of a second
HELD_OUT = 3  # one in three families of variants is for testing
NOT_HUMAN = re.compile("robo|announcer|demonic|fast", re.IGNORECASE)
PITCHES, RATES = (0, 99), (80, 450)  # what the program takes
WORDS = 0.75  # the share of words that the rate promises: made-up words and pauses are long, and most clips are filled
TRACTS = (0.87, 1.15)  # playing faster shortens the vocal tract and raises the pitch
ATTEMPTS = 4  # the program crashes on some languages' numbers: espeak-ng 1.51 on Greenlandic
# Mnemonics of phonemes that every language has, or replaces by its own.
CONSONANTS = "p b t d k g m n l r s f v z j w S N".split()
VOWELS = "a e i o u".split()
ENDINGS, ENDING_CHANCES = (",", ".", "?", "!"), (0.35, 0.4, 0.15, 0.1)


@dataclass(frozen=True, kw_only=True)
class Voice:
    """A voice of the program: its language and accent, its speaker, its pitch and its speed.

    language: one of ``list_languages()``, or a code such as "en-us". variant: one of ``variants(...)``.
    pitch: 0 to 99, 50 is the variant's own. rate: 80 to 450 words a minute, 175 is the program's default.
    Raises ConfigError on a pitch or rate out of range.
    """

    language: str
    variant: str
    pitch: int
    rate: int

    def __post_init__(self) -> None:
        for name, value, (low, high) in (("pitch", self.pitch, PITCHES), ("rate", self.rate, RATES)):
            if not low <= value <= high:
                raise ConfigError(f"{name} is {value}; expected {low} to {high}")


def list_languages() -> list[str]:
    """The languages and accents by the program's voice files, such as "gmw/en-US"; two of them may share a language code.

    Raises ConfigError when espeak-ng is not installed.
    """
    return list(_listing(find_program(PROGRAM), "--voices"))


def variants(split: Split) -> list[str]:
    """The human-like variants of the voices for training, or those held out.

    A variant's name decides, without its number: klatt and klatt2 stay together, and other versions of the program agree.
    Raises ConfigError when espeak-ng is not installed.
    """
    check_choice("split", split, Split)
    names = [name.removeprefix("!v/") for name in _listing(find_program(PROGRAM), "--voices=variant")]
    return [name for name in names if not NOT_HUMAN.search(name) and _is_held_out(name) == (split == "test")]


def _is_held_out(variant: str) -> bool:
    family = variant.lower().rstrip("0123456789")
    return zlib.crc32(family.encode()) % HELD_OUT == 0


@cache
def _listing(program: str, option: str) -> tuple[str, ...]:
    """The fifth column, file names that may hold a space, of a table by the program at this path."""
    table = run_program(PROGRAM, [option], timeout=TIMEOUT).decode("utf-8", "replace")
    rows = re.findall(r"^ *\d+ +\S+ +\S+ +\S+ +(\S.*?) *(?:\(.*)?$", table, re.MULTILINE)
    if not rows:
        raise ConfigError(
            f"{program} {option} lists no voices; install espeak-ng's data (Debian: apt install espeak-ng-data)"
        )
    return tuple(dict.fromkeys(rows))


def speak(text: str, voice: Voice) -> Wave:
    """A voice that reads a text. Shape: -> (n_samples,), float32, 16 kHz.

    Digits are read in the voice's language, [[...]] as phoneme mnemonics, and <...> as SSML.
    Raises ConfigError when espeak-ng is not installed or does not know the variant, AudioError when it gives no sound.
    """
    return to_wave(*_speak(text, voice), f"speech by {voice}")


def _speak(text: str, voice: Voice) -> tuple[Wave, int]:
    """The samples that the program gives, and their rate in Hz."""
    if f"!v/{voice.variant}" not in _listing(find_program(PROGRAM), "--voices=variant"):  # the program would speak without
        raise ConfigError(f"espeak-ng has no variant {voice.variant!r}; espeak-ng --voices=variant lists them")
    arguments = ["-v", f"{voice.language}+{voice.variant}", "-p", str(voice.pitch), "-s", str(voice.rate)]
    wav = run_program(PROGRAM, [*arguments, "-b", "1", "-m", "--stdin", "--stdout"], stdin=text.encode(), timeout=TIMEOUT)
    try:
        samples, rate = soundfile.read(io.BytesIO(wav), dtype="float32")
    except soundfile.SoundFileError as error:
        raise AudioError(
            f"espeak-ng gave no sound for {voice} and {text!r}; expected a text with something to read"
        ) from error
    return samples, rate


def random_voice(rng: np.random.Generator, split: Split) -> Voice:
    """Any language, with a variant of the split, at any pitch, from slow to fast. Raises ConfigError without espeak-ng."""
    return Voice(
        language=str(rng.choice(list_languages())),
        variant=str(rng.choice(variants(split))),
        pitch=int(rng.integers(0, 100)),
        rate=int(rng.integers(110, 280)),
    )


def random_text(rng: np.random.Generator, words: int) -> str:
    """Numbers and made-up words in sentences with pauses between them: every language can read it, none has a meaning.

    Raises ConfigError unless ``words`` is 1 or more.
    """
    if words < 1:
        raise ConfigError(f"words is {words}; expected 1 or more")
    text = [_invented_word(rng)]  # some languages do not read digits
    left = int(rng.integers(1, 9))  # of this sentence
    while len(text) < words:
        left -= 1
        if left == 0:
            pause = int(rng.integers(0, 700))
            text[-1] += f"{rng.choice(ENDINGS, p=ENDING_CHANCES)} <break time='{pause}ms'/>"
            left = int(rng.integers(1, 9))
        text.append(_number(rng) if rng.random() < 0.2 else _invented_word(rng))
    return " ".join(text) + "."


def _number(rng: np.random.Generator) -> str:
    return str(rng.integers(0, 10 ** int(rng.integers(1, 5))))


def _invented_word(rng: np.random.Generator) -> str:
    """One to four syllables, mostly as phonemes, else as Latin letters, which some languages spell out."""
    syllables = int(rng.choice(4, p=(0.25, 0.4, 0.25, 0.1))) + 1
    as_phonemes = rng.random() < 0.8
    stressed = int(rng.integers(0, syllables))
    word = ""
    for index in range(syllables):
        opening = "" if rng.random() < 0.15 else rng.choice(CONSONANTS)
        closing = rng.choice(CONSONANTS) if rng.random() < 0.25 else ""
        mark = "'" if as_phonemes and index == stressed else ""
        word += f"{opening}{mark}{rng.choice(VOWELS)}{closing}"
    return f"[[{word}]]" if as_phonemes else word.lower()


def random_speech(rng: np.random.Generator, split: Split, seconds: float) -> Wave:
    """One voice that speaks ``random_text`` throughout, its vocal tract somewhat longer or shorter than the variant's.

    Shape: -> (16,000 * seconds,), float32. The same ``rng`` and version of the program give the same samples.
    Raises ConfigError when espeak-ng is not installed, AudioError when it fails for several voices in a row.
    """
    length = round(seconds * SAMPLE_RATE)
    for attempt in range(ATTEMPTS):
        voice = random_voice(rng, split)
        tract = rng.uniform(*TRACTS)
        text = random_text(rng, math.ceil(WORDS * voice.rate / 60 * seconds))
        try:
            samples, rate = _speak(text, voice)
            speech = to_wave(samples, round(rate * tract), f"speech by {voice}")[:length]
            break
        except AudioError:
            if attempt == ATTEMPTS - 1:
                raise
    return np.pad(speech, (0, length - len(speech)))
