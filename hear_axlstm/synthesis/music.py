"""Music by the fluidsynth program: notes -> a MIDI file -> the recorded instruments of a General MIDI SoundFont.

The corpus for training plays TimGM6mb. FluidR3_GM, whose instruments are other recordings, is kept for probing.
"""

from __future__ import annotations

import math
import os
import struct
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from hear_axlstm.audio import Wave, to_wave
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.errors import AudioError, ConfigError
from hear_axlstm.synthesis.programs import run_program

PROGRAM = "fluidsynth"
RENDER_RATE = 32_000  # Hz: the program does not filter what its instruments hold above half of this
TIMEOUT = 300.0  # seconds for one call, in which it plays some hours
GAIN = 0.5  # a dozen loud notes at once stay within [-1, 1]
DRUM_CHANNEL = 9
MELODIC_CHANNELS = [channel for channel in range(16) if channel != DRUM_CHANNEL]
NOTE_OFF, NOTE_ON, CONTROL, PROGRAM_CHANGE = 0x80, 0x90, 0xB0, 0xC0
ALL_SOUND_OFF = 120

SOUNDFONT = "TimGM6mb.sf2"
SOUNDFONT_FOLDERS = (
    Path("/usr/share/sounds/sf2"),
    Path("/usr/share/soundfonts"),
    Path("/usr/local/share/soundfonts"),
    Path("/opt/homebrew/share/soundfonts"),
)


@dataclass(frozen=True, kw_only=True)
class Note:
    """start, duration: seconds. key: 0 to 127, 69 is 440 Hz. velocity: 1 to 127. program: General MIDI, from 0 to 127.

    drum: the key chooses an instrument of the General MIDI drum map, and the program the kit, 0 the standard one.
    Raises ConfigError on a value out of range.
    """

    start: float
    duration: float
    key: int
    velocity: int
    program: int
    drum: bool = False

    def __post_init__(self) -> None:
        if not (0 <= self.start < math.inf and 0 < self.duration < math.inf):
            raise ConfigError(f"start is {self.start} and duration {self.duration}; expected 0 s or more, and more than 0 s")
        for name, value, low in (("key", self.key, 0), ("velocity", self.velocity, 1), ("program", self.program, 0)):
            if not low <= value <= 127:
                raise ConfigError(f"{name} is {value}; expected {low} to 127")


def midi_bytes(notes: Sequence[Note], silent_from: float | None = None) -> bytes:
    """A Standard MIDI File of format 0 whose tick is 1 ms. Overlapping notes of one key and program share one end.

    silent_from: the second from which nothing may ring on.
    Raises ConfigError when the notes have more than 15 programs, or more than one drum kit: what 16 channels hold.
    """
    instruments = sorted({(note.drum, note.program) for note in notes})
    kits = sum(drum for drum, _ in instruments)
    if kits > 1 or len(instruments) - kits > len(MELODIC_CHANNELS):
        raise ConfigError(
            f"the notes have {len(instruments) - kits} programs and {kits} drum kits; expected at most 15 and 1, what a "
            "MIDI file has channels for: play them in several"
        )
    melodic = iter(MELODIC_CHANNELS)
    channels = {(drum, program): DRUM_CHANNEL if drum else next(melodic) for drum, program in instruments}
    events = []  # (tick, message)
    for note in notes:
        channel = channels[note.drum, note.program]
        start = round(1_000 * note.start)
        end = max(start + 1, round(1_000 * (note.start + note.duration)))
        events.append((start, bytes((NOTE_ON | channel, note.key, note.velocity))))
        events.append((end, bytes((NOTE_OFF | channel, note.key, 0))))
    if silent_from is not None:
        events += [
            (round(1_000 * silent_from), bytes((CONTROL | channel, ALL_SOUND_OFF, 0))) for channel in channels.values()
        ]
    track = b"".join(bytes((0, PROGRAM_CHANGE | channel, program)) for (_, program), channel in channels.items())
    now = 0
    for tick, message in sorted(events):  # at one tick, ends come before starts
        track += _variable_length(tick - now) + message
        now = tick
    track += b"\x00\xff\x2f\x00"  # end of track
    header = struct.pack(">4sIHHH", b"MThd", 6, 0, 1, 500)  # 500 ticks a quarter note, of which a second has two
    return header + struct.pack(">4sI", b"MTrk", len(track)) + track


def _variable_length(number: int) -> bytes:
    """A MIDI number: seven bits a byte, the highest first, in which all but the last byte have the top bit set."""
    encoded = [number & 0x7F]
    while number := number >> 7:
        encoded.append(0x80 | number & 0x7F)
    return bytes(reversed(encoded))


def find_soundfont(path: Path | None) -> Path:
    """``path``, or TimGM6mb where systems keep SoundFonts; FluidR3_GM, kept for probing, must be asked for by its path.

    Raises ConfigError when there is none, or it is not a SoundFont.
    """
    if path is None:
        path = next((found for folder in SOUNDFONT_FOLDERS if (found := folder / SOUNDFONT).is_file()), None)
        if path is None:
            raise ConfigError(
                f"no {SOUNDFONT} in {', '.join(map(str, SOUNDFONT_FOLDERS))}; install it (Debian: apt install "
                "timgm6mb-soundfont), or name a General MIDI SoundFont (--soundfont)"
            )
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; expected a SoundFont (.sf2)")
    with open(path, "rb") as file:
        start = file.read(12)
    if start[:4] != b"RIFF" or start[8:] != b"sfbk":  # the program would go on with another SoundFont
        raise ConfigError(f"{path} is not a SoundFont; expected a .sf2 file")
    return path


def play(notes: Sequence[Note], soundfont: Path, seconds: float) -> Wave:
    """The notes as instruments play them, dry, up to ``seconds``. Shape: -> (16,000 * seconds,), float32.

    Raises ConfigError when fluidsynth is not installed, ``soundfont`` is none, or the notes do not fit into a MIDI file;
    AudioError when the program fails.
    """
    soundfont = find_soundfont(soundfont)
    length = round(seconds * SAMPLE_RATE)
    with tempfile.TemporaryDirectory(prefix="hear-axlstm-") as folder:
        midi, wav = Path(folder, "notes.mid"), Path(folder, "notes.wav")
        midi.write_bytes(midi_bytes([note for note in notes if note.start < seconds], silent_from=seconds))
        arguments = ["-n", "-i", "-q", "-f", os.devnull, "-R", "0", "-C", "0", "-g", str(GAIN), "-r", str(RENDER_RATE)]
        arguments += ["-o", "synth.dynamic-sample-loading=1"]  # of a SoundFont, read only the instruments that play
        arguments += ["-T", "wav", "-O", "float", "-F", str(wav), str(soundfont.absolute()), str(midi)]
        run_program(PROGRAM, arguments, timeout=TIMEOUT)
        try:
            samples, rate = soundfile.read(wav, dtype="float32")
        except soundfile.SoundFileError as error:
            raise AudioError(
                f"{PROGRAM} wrote no sound with {soundfont}; see whether it works: {PROGRAM} --version"
            ) from error
    music = to_wave(samples, rate, f"music with {soundfont.name}")[:length]
    return np.pad(music, (0, length - len(music)))


# Pieces


SCALES = (
    (0, 2, 4, 5, 7, 9, 11),  # major
    (0, 2, 3, 5, 7, 8, 10),  # minor
    (0, 2, 3, 5, 7, 8, 11),  # harmonic minor
    (0, 2, 3, 5, 7, 9, 10),  # Dorian
    (0, 1, 4, 5, 7, 8, 10),  # Phrygian dominant
    (0, 2, 4, 7, 9),  # pentatonic
    (0, 3, 5, 6, 7, 10),  # blues
    (0, 2, 4, 6, 8, 10),  # whole tones
    tuple(range(12)),
)
BASSES = range(32, 40)  # General MIDI programs
KEYBOARDS, PITCHED = range(0, 24), range(0, 120)  # all but the sound effects
KICK, SNARES, HATS, OTHER_DRUMS = 36, (37, 38, 39, 40), (42, 44, 46, 51), (41, 45, 47, 48, 49, 54, 56, 60, 62, 69, 76)
KITS = (0, 8, 16, 24, 25, 32, 40, 48)


@dataclass(frozen=True)
class Setting:
    """The tempo, metre, scale and chords that the parts of a piece share.

    beat: in seconds. bar: in beats. scale: semitones above the root, which is a MIDI key. chords: degrees of the scale, the
    lowest of each bar's chord, over and over.
    """

    seconds: float
    beat: float
    bar: int
    scale: tuple[int, ...]
    root: int
    chords: tuple[int, ...]

    @property
    def bars(self) -> int:
        """How many bars it takes to fill the piece, the last of them perhaps in part."""
        return int(self.seconds / (self.beat * self.bar)) + 1

    def key(self, degree: int, octave: int = 0) -> int:
        """The MIDI key of a degree of the scale, in any octave, brought into what instruments play."""
        up, step = divmod(degree, len(self.scale))
        key = self.root + 12 * (up + octave) + self.scale[step]
        while key < 21:
            key += 12
        while key > 108:
            key -= 12
        return key

    def chord(self, bar: int) -> int:
        """The degree of the scale that the chord of a bar stands on."""
        return self.chords[bar % len(self.chords)]


@dataclass(frozen=True)
class Event:
    """A note before it has an instrument: onset and length in beats, a key, and how loud in its part, about 1."""

    onset: float
    length: float
    key: int
    accent: float = 1.0


def melody(rng: np.random.Generator, setting: Setting) -> Iterator[Event]:
    """One note after the other, mostly to neighbours on the scale, with rests."""
    lengths = rng.choice((0.25, 0.5, 1.0, 1.5, 2.0), size=3)
    octave, degree, onset = int(rng.integers(-1, 3)), 0, 0.0
    while onset < setting.bars * setting.bar:
        length = float(rng.choice(lengths))
        if rng.random() > 0.15 or onset == 0:
            yield Event(onset, length * rng.uniform(0.5, 1), setting.key(degree, octave), rng.uniform(0.7, 1.2))
        degree = int(np.clip(degree + rng.integers(-3, 4), -7, 14))
        onset += length


def chords(rng: np.random.Generator, setting: Setting) -> Iterator[Event]:
    """Three or four tones at once, held through the bar or struck on its beats."""
    tones, octave = int(rng.integers(3, 5)), int(rng.integers(-1, 1))
    strikes = int(rng.choice((1, 2, setting.bar)))
    length = setting.bar / strikes
    strum = rng.uniform(0, 0.1)
    for bar in range(setting.bars):
        for strike in range(strikes):
            for tone in range(tones):
                onset = bar * setting.bar + strike * length + strum * tone
                yield Event(onset, length * 0.95, setting.key(setting.chord(bar) + 2 * tone, octave))


def arpeggio(rng: np.random.Generator, setting: Setting) -> Iterator[Event]:
    """The tones of the bar's chord in one order, over and over."""
    order = rng.permutation(int(rng.integers(3, 7)))
    step, octave = float(rng.choice((0.25, 1 / 3, 0.5))), int(rng.integers(0, 2))
    per_bar = round(setting.bar / step)
    for index in range(setting.bars * per_bar):
        degree = setting.chord(index // per_bar) + 2 * int(order[index % len(order)])
        yield Event(index * step, step * 1.2, setting.key(degree, octave), rng.uniform(0.8, 1.1))


def bass(rng: np.random.Generator, setting: Setting) -> Iterator[Event]:
    """The chord's lowest tone, two octaves down, in a rhythm that every bar repeats."""
    halves = np.flatnonzero(rng.random(2 * setting.bar) < 0.5)
    onsets = [0.0, *(half / 2 for half in halves if half)]
    ends = [*onsets[1:], float(setting.bar)]
    for bar in range(setting.bars):
        for onset, end in zip(onsets, ends, strict=True):
            degree = setting.chord(bar) + int(rng.choice((0, 0, 0, 4)))
            yield Event(bar * setting.bar + onset, 0.9 * (end - onset), setting.key(degree, -2), rng.uniform(0.9, 1.1))


def drums(rng: np.random.Generator, setting: Setting) -> Iterator[Event]:
    """A pattern of kick, snare, hi-hat and perhaps something else, a bar long."""
    quarters = 4 * setting.bar
    sounds = [(KICK, 4, 0.15), (int(rng.choice(SNARES)), 8, 0.05), (int(rng.choice(HATS)), int(rng.choice((1, 2, 4))), 0.1)]
    if rng.random() < 0.4:
        sounds.append((int(rng.choice(OTHER_DRUMS)), 16, 0.15))
    for key, every, extra in sounds:
        shift = 4 if key in SNARES else 0
        pattern = [index % every == shift % every or rng.random() < extra for index in range(quarters)]
        for bar in range(setting.bars):
            for index in np.flatnonzero(pattern):
                yield Event(bar * setting.bar + index / 4, 0.25, key, rng.uniform(0.7, 1.2))


def sparse(rng: np.random.Generator, setting: Setting) -> Iterator[Event]:
    """One to five notes at any time, long or short, with silence around them."""
    beats = setting.seconds / setting.beat
    for _ in range(int(rng.integers(1, 6))):
        onset = rng.uniform(0, 0.8 * beats)
        yield Event(onset, rng.uniform(0.2, 1) * (beats - onset), setting.key(int(rng.integers(-7, 21))))


Part = Callable[[np.random.Generator, Setting], Iterator[Event]]
# (part, its programs, whether it is drums)
PARTS: tuple[tuple[Part, Sequence[int], bool], ...] = (
    (melody, PITCHED, False),
    (melody, PITCHED, False),
    (chords, KEYBOARDS, False),
    (chords, PITCHED, False),
    (arpeggio, PITCHED, False),
    (bass, BASSES, False),
    (drums, KITS, True),
)
NOTE_SECONDS = (0.8, 4.0)  # from a single note to the next
KEYS, DRUM_KEYS = (28, 97), (35, 82)  # of single notes
ALONE = 0.2  # the share of pieces that are one melody or a few notes of one instrument


def random_piece(rng: np.random.Generator, seconds: float) -> list[Note]:
    """One to six parts over a random tempo, metre, scale and chords; sometimes a melody or a few notes alone.

    Every note starts and ends within ``seconds``. The notes are in the order of the parts.
    """
    scale = SCALES[rng.integers(len(SCALES))]
    setting = Setting(
        seconds=seconds,
        beat=60 / rng.uniform(50, 190),
        bar=int(rng.choice((3, 4, 4, 4, 5))),
        scale=scale,
        root=int(rng.integers(54, 66)),
        chords=(0, *(int(degree) for degree in rng.integers(0, len(scale), size=rng.integers(0, 4)))),
    )
    if rng.random() < ALONE:
        parts = [((melody, sparse)[rng.integers(2)], PITCHED, False)]
    else:
        parts = [PARTS[index] for index in rng.permutation(len(PARTS))[: rng.integers(1, 7)]]
    notes = []
    for part, programs, drum in parts:
        program, loudness = int(rng.choice(programs)), rng.uniform(45, 110)
        for event in part(rng, setting):
            start = event.onset * setting.beat
            duration = min(event.length * setting.beat, seconds - start)
            if duration > 0:
                velocity = int(np.clip(loudness * event.accent, 1, 127))
                notes.append(
                    Note(start=start, duration=duration, key=event.key, velocity=velocity, program=program, drum=drum)
                )
    return notes


def single_notes(rng: np.random.Generator, seconds: float) -> list[Note]:
    """One note after the other, each of another instrument, key, loudness and length; one in eight is a drum."""
    notes: list[Note] = []
    start, kit = 0.0, int(rng.choice(KITS))
    while start < seconds and len(notes) < len(MELODIC_CHANNELS):
        drum = bool(rng.random() < 1 / 8)
        space = float(rng.uniform(*NOTE_SECONDS))
        length = min(rng.uniform(0.2, 1) * space, seconds - start)
        key = int(rng.integers(*(DRUM_KEYS if drum else KEYS)))
        program = kit if drum else int(rng.choice(PITCHED))
        notes.append(
            Note(start=start, duration=length, key=key, velocity=int(rng.integers(30, 128)), program=program, drum=drum)
        )
        start += space
    return notes
