"""Music: MIDI files, SoundFonts, random pieces, and what fluidsynth makes of them."""

import shutil
import struct
from itertools import pairwise

import numpy as np
import pytest

from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.errors import AudioError, ConfigError
from hear_axlstm.synthesis import music
from hear_axlstm.synthesis.music import Note, find_soundfont, midi_bytes, play, random_piece, single_notes

SYSTEM_SOUNDFONT = next((f / music.SOUNDFONT for f in music.SOUNDFONT_FOLDERS if (f / music.SOUNDFONT).is_file()), None)
needs_fluidsynth = pytest.mark.skipif(
    shutil.which("fluidsynth") is None or SYSTEM_SOUNDFONT is None, reason="fluidsynth or TimGM6mb.sf2 is not installed"
)


def rng(seed=0):
    return np.random.default_rng(seed)


def note(start=0.0, duration=1.0, key=69, velocity=100, program=0, drum=False):
    return Note(start=start, duration=duration, key=key, velocity=velocity, program=program, drum=drum)


# MIDI files


def events(midi):
    """(tick, message) of a MIDI file's only track, read apart from how it is written."""
    assert midi[:14] == b"MThd" + struct.pack(">IHHH", 6, 0, 1, 500)
    assert midi[14:22] == b"MTrk" + struct.pack(">I", len(midi) - 22)
    found, now, at = [], 0, 22
    while at < len(midi):
        delta = 0
        while True:
            byte, at = midi[at], at + 1
            delta = delta << 7 | byte & 0x7F
            if byte < 0x80:
                break
        now += delta
        size = 3 if midi[at] == 0xFF or midi[at] >> 4 in (0x8, 0x9, 0xB) else 2
        found.append((now, midi[at : at + size].hex(" ")))
        at += size
    return found


def test_a_note_is_a_program_a_start_and_an_end():
    assert events(midi_bytes([note(start=0.5, duration=20, key=60, velocity=90, program=40)])) == [
        (0, "c0 28"),
        (500, "90 3c 5a"),
        (20_500, "80 3c 00"),
        (20_500, "ff 2f 00"),
    ]


def test_a_repeated_note_ends_before_it_starts_again_and_drums_have_their_channel():
    assert events(
        midi_bytes([note(duration=0.2), note(start=0.2, duration=1e-9), note(key=36, drum=True)], silent_from=3)
    ) == [
        (0, "c0 00"),
        (0, "c9 00"),
        (0, "90 45 64"),
        (0, "99 24 64"),
        (200, "80 45 00"),
        (200, "90 45 64"),
        (201, "80 45 00"),
        (1_000, "89 24 00"),
        (3_000, "b0 78 00"),
        (3_000, "b9 78 00"),
        (3_000, "ff 2f 00"),
    ]


def test_fifteen_programs_and_a_drum_kit_fit_and_no_more():
    full = [note(program=program) for program in range(15)] + [note(drum=True)]
    channels = {int(message[1], 16) for _, message in events(midi_bytes(full)) if message[0] == "9"}
    assert channels == set(range(16))
    with pytest.raises(ConfigError, match="have 16 programs and 1 drum kits; expected at most 15 and 1"):
        midi_bytes([*full, note(program=15)])
    with pytest.raises(ConfigError, match="have 15 programs and 2 drum kits"):
        midi_bytes([*full, note(program=8, drum=True)])


@pytest.mark.parametrize(
    "options",
    [{"start": -0.1}, {"duration": 0}, {"duration": float("inf")}, {"key": 128}, {"velocity": 0}, {"program": -1}],
)
def test_a_note_out_of_range_is_refused(options):
    with pytest.raises(ConfigError, match="expected"):
        note(**options)


# Pieces


@pytest.mark.parametrize("seconds", [0.3, 2.0, 10.0])
def test_pieces_stay_inside_their_seconds_and_their_channels(seconds):
    for seed in range(60):
        notes = random_piece(rng(seed), seconds)
        assert notes
        assert all(n.start + n.duration <= seconds + 1e-9 for n in notes)
        assert all(21 <= n.key <= 108 for n in notes)
        midi_bytes(notes)


def test_pieces_differ_from_a_note_alone_to_six_parts_and_follow_their_seed():
    pieces = [random_piece(rng(seed), 10.0) for seed in range(150)]
    parts = {len({(n.program, n.drum) for n in piece}) for piece in pieces}
    assert parts == set(range(1, 7))
    assert min(map(len, pieces)) < 3
    assert max(map(len, pieces)) > 200
    assert len({n.program for piece in pieces for n in piece if not n.drum}) > 80
    assert any(n.drum for piece in pieces for n in piece)
    assert random_piece(rng(7), 10.0) == pieces[7]


# SoundFonts


def test_the_training_soundfont_is_found_and_the_probing_one_never_by_itself(tmp_path, monkeypatch, fake_soundfont):
    monkeypatch.setattr(music, "SOUNDFONT_FOLDERS", (tmp_path / "absent", tmp_path))
    (tmp_path / "FluidR3_GM.sf2").write_bytes(fake_soundfont.read_bytes())
    with pytest.raises(ConfigError, match=r"no TimGM6mb\.sf2 in .* apt install timgm6mb-soundfont.*--soundfont"):
        find_soundfont(None)
    (tmp_path / "TimGM6mb.sf2").write_bytes(fake_soundfont.read_bytes())
    assert find_soundfont(None) == tmp_path / "TimGM6mb.sf2"
    assert find_soundfont(fake_soundfont) == fake_soundfont


def test_what_is_no_soundfont_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        find_soundfont(tmp_path / "absent.sf2")
    (tmp_path / "a.wav").write_bytes(b"RIFF1234WAVE")
    with pytest.raises(ConfigError, match="is not a SoundFont"):
        find_soundfont(tmp_path / "a.wav")


# The program, stood in for


def test_the_program_is_called_without_effects_and_its_sound_is_mono_at_16_khz(fake_fluidsynth, fake_soundfont):
    sound = play([note(), note(start=2.5)], fake_soundfont, 2.0)
    (call,) = fake_fluidsynth()
    assert "-R 0 -C 0" in " ".join(call["arguments"])
    assert call["arguments"][-2] == str(fake_soundfont)
    assert sound.dtype == np.float32
    assert sound.shape == (32_000,)
    np.testing.assert_allclose(sound[100:7_800], 6_000 / 32_768, atol=1e-3)
    assert not sound[16_100:].any()  # what the program did not fill
    assert play([note()], fake_soundfont, 0.25).shape == (4_000,)


def test_a_missing_program_names_its_packages(monkeypatch, tmp_path, fake_soundfont):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        ConfigError, match=r"fluidsynth is not on the PATH; .* apt install fluidsynth; .*brew install fluid-synth"
    ):
        play([note()], fake_soundfont, 1.0)


def test_a_program_that_writes_nothing_is_told(installed, fake_soundfont):
    installed("fluidsynth", "")
    with pytest.raises(AudioError, match="fluidsynth wrote no sound with"):
        play([note()], fake_soundfont, 1.0)


# The program itself


@needs_fluidsynth
def test_key_69_is_440_hz():
    sound = play([note(duration=2.0, program=79)], SYSTEM_SOUNDFONT, 3.0)  # an ocarina: hardly any overtones
    spectrum = np.abs(np.fft.rfft(sound[SAMPLE_RATE // 2 : 3 * SAMPLE_RATE // 2] * np.hanning(SAMPLE_RATE)))
    assert abs(12 * np.log2(spectrum.argmax() / 440)) < 1
    assert sound.shape == (48_000,)


@needs_fluidsynth
def test_notes_sound_when_they_start_and_not_before():
    sound = play([note(start=1.0, duration=0.5, program=13)], SYSTEM_SOUNDFONT, 2.0)
    onset = np.flatnonzero(np.abs(sound) > 0.01)[0] / SAMPLE_RATE
    assert 0.99 < onset < 1.06


@needs_fluidsynth
def test_the_same_seed_gives_the_same_music_and_another_seed_another():
    first, again, other = (play(random_piece(rng(seed), 2.0), SYSTEM_SOUNDFONT, 2.0) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == (32_000,)
    assert np.abs(first).max() > 0.01


@needs_fluidsynth
def test_a_silence_can_be_played():
    assert not play([], SYSTEM_SOUNDFONT, 0.5).any()


def test_single_notes_follow_each_other_without_meeting():
    for seed in range(20):
        notes = single_notes(rng(seed), 10.0)
        assert all(one.start + one.duration <= other.start for one, other in pairwise(notes))
        assert notes[-1].start + notes[-1].duration <= 10.0
        midi_bytes(notes)  # fits into a file
