"""Speech: which voices there are, what they read, and what espeak-ng makes of it."""

import re
import shutil

import numpy as np
import pytest

from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.errors import AudioError, ConfigError
from hear_axlstm.synthesis import programs
from hear_axlstm.synthesis.speech import (
    ATTEMPTS,
    Voice,
    list_languages,
    random_speech,
    random_text,
    random_voice,
    speak,
    variants,
)

needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
VOICE = Voice(language="gmw/en-US", variant="adam", pitch=50, rate=175)


def rng(seed=0):
    return np.random.default_rng(seed)


# Voices


@pytest.mark.usefixtures("fake_espeak")
def test_languages_are_the_voice_files_even_where_two_share_a_code():
    assert list_languages() == ["gmw/af", "sit/cmn", "gmw/en-US", "eu", "poz/mi", "sit/yue", "sit/yue-Latn-jyutping"]


@pytest.mark.usefixtures("fake_espeak")
def test_variants_are_human_and_those_of_a_family_stay_together():
    train, test = variants("train"), variants("test")
    assert train == ["adam", "Storm", "klatt", "klatt2"]
    assert test == ["Mr serious", "iven", "iven2"]


@pytest.mark.usefixtures("fake_espeak")
def test_a_random_voice_is_one_of_its_split():
    voices = [random_voice(rng(seed), "test") for seed in range(30)]
    assert {voice.variant for voice in voices} == set(variants("test"))
    assert {voice.language for voice in voices} == set(list_languages())
    assert random_voice(rng(3), "test") == voices[3]
    with pytest.raises(ConfigError, match="split is 'valid'; expected one of 'train', 'test'"):
        random_voice(rng(), "valid")


@pytest.mark.parametrize("options", [{"pitch": 100}, {"pitch": -1}, {"rate": 79}, {"rate": 451}])
def test_a_voice_out_of_range_is_refused(options):
    with pytest.raises(ConfigError, match="expected"):
        Voice(**{"language": "en", "variant": "adam", "pitch": 50, "rate": 175, **options})


# Texts


def test_a_text_has_as_many_words_as_asked_for_in_sentences_with_pauses():
    text = random_text(rng(), 200)
    pauses = re.findall(r"<break time='(\d+)ms'/>", text)
    words = re.sub(r"<.*?>", "", text).split()
    assert len(words) == 200
    assert len(pauses) > 20
    assert text.endswith(".")
    assert len(set(words)) > 150
    assert re.fullmatch(r"\[\[[a-zSN']+\]\]|[a-z]+", words[0])  # never a number, which some languages do not read
    assert all(re.fullmatch(r"(\[\[[a-zSN']+\]\]|[a-z]+|\d+)[,.?!]?", word) for word in words)
    assert any(word.strip(".,!?").isdigit() for word in words)
    assert random_text(rng(), 200) == text
    assert random_text(rng(1), 200) != text
    with pytest.raises(ConfigError, match="words is 0"):
        random_text(rng(), 0)


# The program, stood in for

ONE_VOICE = """
import os, signal

def crash():
    os.kill(os.getpid(), signal.SIGSEGV)

def half_a_second():
    header = (b"RIFF", 22_086, b"WAVE", b"fmt ", 16, 1, 1, 22_050, 44_100, 2, 16, b"data", 22_050)
    sys.stdout.buffer.write(struct.pack("<4sI4s4sIHHIIHH4sI", *header) + struct.pack("<h", 9_000) * 11_025)

if "--voices" in sys.argv:
    print(" 5  af              --/M      Afrikaans          gmw/af")
elif "--voices=variant" in sys.argv:
    print(" 5  variant         --/M      Adam               !v/adam")
"""


def test_text_goes_in_by_stdin_and_comes_out_at_16_khz(fake_espeak):
    text = "12 <break time='9ms'/> \N{SNOWMAN} -v $(false)"
    wave = speak(text, VOICE)
    assert fake_espeak()[-1] == {
        "arguments": "-v gmw/en-US+adam -p 50 -s 175 -b 1 -m --stdin --stdout".split(),
        "stdin": text,
    }
    assert wave.dtype == np.float32
    assert len(wave) == pytest.approx(300 * len(text) * SAMPLE_RATE / 22_050, abs=1)
    assert np.abs(wave).max() == pytest.approx(9_000 / 32_768, rel=0.1)


def test_a_clip_is_one_call_and_exactly_as_long_as_asked_for(fake_espeak):
    long, longer = random_speech(rng(), "train", 0.5), random_speech(rng(), "train", 2.5)
    assert len(fake_espeak()) == 2 + 2  # the two tables are read once
    assert (long.shape, longer.shape) == ((8_000,), (40_000,))
    assert long.dtype == np.float32


def test_a_short_text_is_filled_with_silence(installed):
    installed("espeak-ng", ONE_VOICE + "else: half_a_second()")
    wave = random_speech(rng(), "train", 3.0)
    assert wave.shape == (48_000,)
    assert np.all(wave[100:6_500] > 0.2)
    assert not wave[9_500:].any()


def test_another_voice_is_tried_when_the_program_crashes(installed):
    calls = installed(
        "espeak-ng", ONE_VOICE + f"elif len(open(calls.name).readlines()) < 2 + {ATTEMPTS}: crash()\nelse: half_a_second()"
    )
    assert random_speech(rng(), "train", 1.0).any()
    spoken = {call["stdin"] for call in calls() if call["stdin"]}
    assert len(spoken) == ATTEMPTS


def test_a_program_that_crashes_every_time_is_told(installed):
    calls = installed("espeak-ng", ONE_VOICE + "else: crash()")
    with pytest.raises(AudioError, match=r"espeak-ng ended with exit code -\d+ \(it said nothing\)"):
        random_speech(rng(), "train", 1.0)
    assert len(calls()) == 2 + ATTEMPTS


@pytest.mark.usefixtures("fake_espeak")
def test_what_cannot_be_spoken_is_told():
    with pytest.raises(ConfigError, match="no variant 'nobody'"):
        speak("1", Voice(language="en", variant="nobody", pitch=50, rate=175))
    with pytest.raises(AudioError, match=r"exit code 1 \(Error: The specified espeak-ng voice does not exist.\)"):
        speak("1", Voice(language="xx", variant="adam", pitch=50, rate=175))
    with pytest.raises(AudioError, match=r"gave no sound for .* expected a text with something to read"):
        speak("", VOICE)


def test_a_missing_program_names_its_packages(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    for attempt in (list_languages, lambda: variants("train"), lambda: speak("1", VOICE)):
        with pytest.raises(
            ConfigError, match=r"espeak-ng is not on the PATH; .* apt install espeak-ng; macOS: brew install"
        ):
            attempt()


def test_a_program_without_voices_is_told(installed):
    installed("espeak-ng", "")
    with pytest.raises(ConfigError, match="lists no voices"):
        list_languages()


def test_a_program_that_hangs_is_ended(installed):
    installed("espeak-ng", "import time; time.sleep(60)")
    with pytest.raises(AudioError, match=r"did not end within 0\.2 s"):
        programs.run_program("espeak-ng", [], timeout=0.2)


def test_versions(installed, fake_espeak):
    assert programs.program_version("espeak-ng") == "espeak-ng 1.99"
    installed("fluidsynth", "print('hello')")
    assert programs.program_version("fluidsynth") == "fluidsynth of unknown version"


# The program itself


@needs_espeak
def test_training_and_held_out_voices_share_no_variant():
    train, test = set(variants("train")), set(variants("test"))
    assert not train & test
    assert {name.rstrip("0123456789") for name in train}.isdisjoint(name.rstrip("0123456789") for name in test)
    assert min(len(train), len(test)) > 15
    assert len(list_languages()) > 80


@needs_espeak
def test_every_language_reads_invented_words():
    for language in list_languages():
        wave = speak("[[bak'emi Sal'u]]", Voice(language=language, variant="adam", pitch=50, rate=300))
        assert 0.2 < len(wave) / SAMPLE_RATE < 3, language
        assert np.abs(wave).max() > 0.02, language


@needs_espeak
def test_the_same_seed_gives_the_same_speech_and_another_seed_another():
    first, again, other = (random_speech(rng(seed), "train", 2.0) for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == (32_000,)
    assert np.abs(first).max() > 0.1


@needs_espeak
def test_a_slow_rate_takes_longer_and_a_variant_with_a_space_in_its_name_speaks():
    slow, fast = (speak("12 34 56", Voice(language="de", variant="Mr serious", pitch=50, rate=rate)) for rate in (100, 200))
    assert len(slow) > 1.5 * len(fast)


@needs_espeak
def test_an_unknown_language_is_told():
    with pytest.raises(AudioError, match="voice does not exist"):
        speak("1", Voice(language="xx", variant="adam", pitch=50, rate=175))
