"""Clips: what a label means, what is held out, and that a clip depends on nothing but its number."""

import shutil

import numpy as np
import pytest

from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.errors import AudioError, ConfigError
from hear_axlstm.evaluation.probe import tasks
from hear_axlstm.evaluation.probe.tasks import (
    CARRIERS,
    CONTOUR_WAVEFORMS,
    CONTOURS,
    INSTRUMENTS,
    KITS,
    ORDER_WAVEFORMS,
    ORDERS,
    PLAYERS,
    PROBE_SOUNDFONT,
    RATES,
    TASKS,
    WHOLE_TONES,
    held_out_soundfont,
    is_held_out,
    speakers,
)
from hear_axlstm.evaluation.probe.texts import DIGITS, SENTENCES
from hear_axlstm.synthesis.held_out import (
    PARTS,
    PITCH_WAVEFORMS,
    PITCHES,
    RHYTHMS,
    STROKES,
    TEXTURES,
    Choices,
    key_hertz,
)
from hear_axlstm.synthesis.music import SOUNDFONT_FOLDERS
from hear_axlstm.synthesis.speech import variants

needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
FONT = next((path for folder in SOUNDFONT_FOLDERS if (path := folder / PROBE_SOUNDFONT).is_file()), None)
needs_music = pytest.mark.skipif(
    shutil.which("fluidsynth") is None or FONT is None, reason="fluidsynth or FluidR3_GM.sf2 is not installed"
)
PROCEDURAL = [task for task in TASKS.values() if task.needs is None]
RUNNABLE = [
    pytest.param(task, marks={None: (), "espeak-ng": needs_espeak, "fluidsynth": needs_music}[task.needs], id=task.name)
    for task in TASKS.values()
]


def sound(task, label, seed=0, part="train"):
    """A task's sound before noise is added."""
    return TASKS[task].make(Choices(np.random.default_rng(seed), part), label, TASKS[task].samples)


def centroid(wave, size=1_024):
    """Mean frequency of successive stretches that sound, in Hz."""
    frames = wave[: len(wave) // size * size].reshape(-1, size)
    power = np.abs(np.fft.rfft(frames * np.hanning(size))) ** 2
    power = power[power.sum(1) > 1e-2 * power.sum(1).max()]
    return power @ np.fft.rfftfreq(size, 1 / SAMPLE_RATE) / power.sum(1)


# Every task


@pytest.mark.parametrize("task", RUNNABLE)
def test_a_clip_fills_its_chunks_and_is_audible_and_not_clipped(task):
    for part in PARTS:
        for index in range(0, len(task.classes), 1 if task.needs is None else 5):
            clip = task.clip(0, part, index, FONT)
            assert clip.dtype == np.float32
            assert clip.shape == (task.samples,)
            assert (1 + len(clip) // 160) % 200 == 0
            assert -36 < 20 * np.log10(clip.std()) < -14
            assert np.abs(clip).max() <= 1


@pytest.mark.parametrize("task", RUNNABLE)
def test_a_clip_depends_on_seed_task_part_and_index_alone(task):
    clip = task.clip(3, "test", 5, FONT)
    task.clip(3, "test", 4, FONT)
    assert np.array_equal(task.clip(3, "test", 5, FONT), clip)
    others = task.clip(4, "test", 5, FONT), task.clip(3, "train", 5, FONT), task.clip(3, "test", 5 + len(task.classes), FONT)
    assert not any(np.array_equal(clip, other) for other in others)


def test_tasks_that_share_a_maker_would_not_share_clips():
    twin = tasks.Task("twin", TASKS["pitch"].classes, "", 1, TASKS["pitch"].make)
    assert not np.array_equal(twin.clip(0, "train", 0), TASKS["pitch"].clip(0, "train", 0))


def test_every_task_has_a_name_classes_and_something_held_out():
    for name, task in TASKS.items():
        assert name == task.name
        assert len(set(task.classes)) == len(task.classes) >= 4
        assert task.held_out
        assert task.folder == f"{name}-v1-probe"


# What is held out


@pytest.mark.parametrize(
    "values",
    [
        PITCH_WAVEFORMS,
        CONTOUR_WAVEFORMS,
        STROKES,
        CARRIERS,
        ORDER_WAVEFORMS,
        WHOLE_TONES,
        PLAYERS,
        KITS,
        *SENTENCES.values(),
    ],
)
def test_train_and_test_clips_share_none_of_what_is_held_out(values):
    assert set(values) == set(PARTS)
    assert not set(values["train"]) & set(values["test"])
    assert all(values.values())


def test_the_players_are_instruments():
    assert {name for names in PLAYERS.values() for name in names} <= set(INSTRUMENTS)


@needs_espeak
def test_speakers_are_held_out_of_training_and_of_each_other():
    train, test = speakers("train"), speakers("test")
    assert min(len(train), len(test)) >= 4  # so many speak at once
    families = [{name.lower().rstrip("0123456789") for name in part} for part in (train, test)]
    assert not families[0] & families[1]
    assert {*train, *test} == set(variants("test"))
    assert not {*train, *test} & set(variants("train"))


# What a label means


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("label", [0, 5, 11])
def test_a_pitch_is_that_of_its_key(part, label):
    for seed in range(4):
        wave = sound("pitch", label, seed, part)
        power = np.abs(np.fft.rfft(wave, 8 * len(wave))) ** 2
        hertz = np.fft.rfftfreq(8 * len(wave), 1 / SAMPLE_RATE)
        near = (hertz > 0.7 * key_hertz(PITCHES[0])) & (hertz < 1.4 * key_hertz(PITCHES[-1]))
        peak = hertz[near][power[near].argmax()]
        octaves = np.log2(peak / key_hertz(PITCHES[label]))
        assert 12 * abs(octaves - round(octaves)) < 0.3  # the organ's octave may be the louder one


def test_contours_go_where_they_say():
    for seed in range(3):
        rises = {}
        for label, name in enumerate(CONTOURS):
            heights = centroid(sound("contour", label, seed))
            middle = len(heights) // 2
            rises[name] = [
                np.sign(np.round(np.log2(b / a), 1))
                for a, b in ((heights[1], heights[middle]), (heights[middle], heights[-2]))
            ]
        assert rises == {"up": [1, 1], "down": [-1, -1], "up-down": [1, -1], "down-up": [-1, 1], "flat": [0, 0]}


def test_a_rhythm_has_the_gaps_of_its_pattern():
    for label, pattern in enumerate(RHYTHMS):
        wave = np.abs(sound("rhythm", label, part="test"))
        loud = np.flatnonzero(np.maximum.reduceat(wave, np.arange(0, len(wave), 80)) > 0.2 * wave.max()) * 80 / SAMPLE_RATE
        onsets = loud[np.diff(loud, prepend=-1) > 0.05]
        strokes = [index for index, step in enumerate(pattern * 2) if step == "x"]
        gaps = np.diff(onsets[:5])
        np.testing.assert_allclose(gaps / gaps.sum(), np.diff(strokes[:5]) / 8, atol=0.02)


def test_modulation_has_its_rate():
    for label, rate in enumerate(RATES):
        for seed in range(4):
            wave = sound("modulation", label, seed)
            level = np.sqrt((wave[: len(wave) // 160 * 160].reshape(-1, 160) ** 2).mean(1))
            curve = level if level.std() > 0.3 * level.mean() else centroid(wave, 160)  # tremolo, or vibrato
            power = np.abs(np.fft.rfft(curve - curve.mean())) ** 2
            assert np.fft.rfftfreq(len(curve), 0.01)[power.argmax()] == pytest.approx(rate, rel=0.2)


def test_orders_are_as_named():
    for label, name in enumerate(ORDERS):
        wave = sound("order", label, seed=1)
        sounding = np.trim_zeros(wave)
        eighth = len(sounding) // 8  # each sound lasts 5 to 9 of 14 parts
        first, second = sounding[: 2 * eighth], sounding[-2 * eighth :]
        if name in ("soft-loud", "loud-soft"):
            assert (first.std() < second.std()) == (name == "soft-loud")
        elif name in ("high-low", "low-high"):
            assert (np.median(centroid(first)) > np.median(centroid(second))) == (name == "high-low")
        else:
            powers = [np.abs(np.fft.rfft(part * np.hanning(len(part)))) ** 2 for part in (first, second)]
            flatness = [np.exp(np.log(power[100:1_000]).mean()) / power[100:1_000].mean() for power in powers]
            assert (flatness[0] > flatness[1]) == (name == "noise-tone")


def test_textures_are_the_classes_of_their_task():
    assert TASKS["texture"].classes == tuple(TEXTURES)


def test_every_language_has_sentences_for_both_parts():
    assert TASKS["language"].classes == tuple(SENTENCES)
    assert len(DIGITS) == 10
    texts = [text for parts in SENTENCES.values() for part in parts.values() for text in part]
    assert len(set(texts)) == len(texts)


# What the programs are asked for


@pytest.fixture
def recorded(monkeypatch):
    """Texts spoken and notes played, with noise in place of the programs' sound."""
    calls = []

    def speak(text, voice):
        calls.append((text, voice))
        return np.random.default_rng(len(calls)).standard_normal(20_000).astype(np.float32)

    def play(notes, soundfont, seconds):
        calls.append(notes)
        return np.random.default_rng(len(calls)).standard_normal(round(seconds * SAMPLE_RATE)).astype(np.float32)

    monkeypatch.setattr(tasks, "speak", speak)
    monkeypatch.setattr(tasks, "play", play)
    monkeypatch.setattr(tasks, "variants", lambda split: [f"{split}{letter}" for letter in "abcdefghij"])
    return calls


def test_digits_and_languages_are_spoken_by_voices_of_the_part(recorded):
    for index in range(20):
        TASKS["digit"].clip(0, "train", index)
        TASKS["language"].clip(0, "test", index)
    digits, languages = recorded[0::2], recorded[1::2]
    assert [text for text, _ in digits] == [*DIGITS, *DIGITS]
    assert [voice.language for _, voice in languages] == [list(SENTENCES)[index % 8] for index in range(20)]
    assert all(text in SENTENCES[voice.language]["test"] for text, voice in languages)
    spoke = [{voice.variant for _, voice in calls} for calls in (digits, languages)]
    assert not spoke[0] & spoke[1]
    assert all(variant.startswith("test") for variants in spoke for variant in variants)


def test_so_many_different_speakers_speak_at_once(recorded):
    for label in range(4):
        recorded.clear()
        TASKS["speaker-count"].clip(0, "train", label)
        assert len({voice.variant for _, voice in recorded}) == len(recorded) == label + 1


def test_notes_are_what_the_label_says(recorded, tmp_path):
    for part in PARTS:
        for index in range(12):
            recorded.clear()
            for name in ("instrument", "instrument-pitch", "drum"):
                TASKS[name].clip(0, part, index, tmp_path / "x.sf2")
            phrase, pitched, strokes = recorded
            assert {note.program for note in phrase} == {list(INSTRUMENTS.values())[index]}
            assert all(note.key in WHOLE_TONES[part] for note in phrase)
            assert [note.key for note in pitched] == [PITCHES[index]]
            assert pitched[0].program in [INSTRUMENTS[name] for name in PLAYERS[part]]
            assert {note.key for note in strokes} == {list(tasks.DRUMS.values())[index % 8]}
            assert all(note.drum and note.program in KITS[part] for note in strokes)
            assert all(0 <= note.start < 2 for note in [*phrase, *pitched, *strokes])


def test_a_soundfont_without_the_instrument_is_told(recorded, tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "play", lambda notes, soundfont, seconds: np.zeros(31_840, np.float32))
    with pytest.raises(AudioError, match=r"x\.sf2 plays nothing for Note"):
        TASKS["instrument"].clip(0, "train", 0, tmp_path / "x.sf2")


def test_the_soundfont_of_the_training_corpus_is_recognised(tmp_path, monkeypatch):
    renamed, other = tmp_path / "renamed.sf2", tmp_path / "other.sf2"
    (tmp_path / "TimGM6mb.sf2").write_bytes(b"RIFF    sfbk of training")
    renamed.write_bytes(b"RIFF    sfbk of training")
    other.write_bytes(b"RIFF    sfbk of others")
    monkeypatch.setattr("hear_axlstm.synthesis.music.SOUNDFONT_FOLDERS", [tmp_path])
    assert [is_held_out(path) for path in (tmp_path / "TimGM6mb.sf2", renamed, other)] == [False, False, True]
    monkeypatch.setattr("hear_axlstm.synthesis.music.SOUNDFONT_FOLDERS", [])
    assert is_held_out(renamed)


def test_the_probes_soundfont_is_found_or_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "SOUNDFONT_FOLDERS", [tmp_path])
    with pytest.raises(
        ConfigError, match=r"FluidR3_GM\.sf2 is not installed; install it \(Debian: apt install fluid-soundfont-gm"
    ):
        held_out_soundfont()
    (tmp_path / PROBE_SOUNDFONT).touch()
    assert held_out_soundfont() == tmp_path / PROBE_SOUNDFONT
