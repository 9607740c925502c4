"""Files and arrays -> mono 16 kHz."""

import numpy as np
import pytest
import soundfile

from hear_axlstm.audio import audio_seconds, files, read_audio, to_wave
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.errors import AudioError
from tests.conftest import tone


def peak_hertz(wave):
    return np.abs(np.fft.rfft(wave * np.hanning(len(wave)))).argmax() * SAMPLE_RATE / len(wave)


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("wav", {}),
        ("wav", {"subtype": "PCM_24"}),
        ("wav", {"subtype": "FLOAT"}),
        ("flac", {}),
        ("aiff", {}),
        ("ogg", {"subtype": "VORBIS"}),
        ("opus", {"format": "OGG", "subtype": "OPUS"}),
        ("mp3", {}),
    ],
)
@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_tone_survives_any_format_rate_and_channel_count(tmp_path, suffix, options, rate, channels):
    path = tmp_path / f"tone.{suffix}"
    soundfile.write(path, np.repeat(tone(1_000, 1.5, rate)[:, None], channels, axis=1), rate, **options)
    wave = read_audio(path)
    assert (wave.dtype, wave.ndim) == (np.float32, 1)
    assert len(wave) == pytest.approx(1.5 * SAMPLE_RATE, abs=2_000)  # lossy formats pad
    assert audio_seconds(path) == pytest.approx(len(wave) / SAMPLE_RATE, abs=0.01)
    assert peak_hertz(wave) == pytest.approx(1_000, abs=2)
    assert np.abs(wave[2_000:-2_000]).max() == pytest.approx(0.5, abs=0.1)


def test_channels_are_averaged(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.stack([tone(440, 1), -tone(440, 1)], axis=1), SAMPLE_RATE, subtype="FLOAT")
    assert np.abs(read_audio(tmp_path / "a.wav")).max() < 1e-6


def test_16_khz_samples_are_not_touched(tmp_path):
    wave = tone(440, 1)
    soundfile.write(tmp_path / "a.wav", wave, SAMPLE_RATE, subtype="FLOAT")
    assert np.array_equal(read_audio(tmp_path / "a.wav"), wave)


def test_decoding_in_blocks_gives_the_same_samples(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 200_000), 44_100)
    whole = read_audio(tmp_path / "a.wav")
    monkeypatch.setattr(files, "BLOCK_SECONDS", 1)
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav"), whole, rtol=0, atol=1e-7)


def test_a_broken_file_names_itself_and_the_cause(tmp_path):
    for name, content, reason in [
        ("empty.wav", b"", "the file is empty"),
        ("text.mp3", b"hi " * 99, "cannot be decoded"),
    ]:
        (tmp_path / name).write_bytes(content)
        for function in (read_audio, audio_seconds):
            with pytest.raises(AudioError, match=f"{name}: {reason}"):
                function(tmp_path / name)
    with pytest.raises(AudioError, match=r"absent\.wav: no such file"):
        read_audio(tmp_path / "absent.wav")
    soundfile.write(tmp_path / "short.wav", np.zeros(100), SAMPLE_RATE)
    with pytest.raises(AudioError, match=r"short\.wav: 100 samples at 16 kHz; expected 201"):
        read_audio(tmp_path / "short.wav")
    soundfile.write(tmp_path / "nan.wav", np.full(1_000, np.nan), SAMPLE_RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"nan\.wav: holds NaN"):
        read_audio(tmp_path / "nan.wav")


def test_arrays_of_several_kinds():
    wave = tone(440, 1)
    assert np.array_equal(to_wave(wave, SAMPLE_RATE, "x"), wave)
    assert np.array_equal(to_wave(np.stack([wave, wave], axis=1), SAMPLE_RATE, "x"), wave)
    np.testing.assert_allclose(to_wave((wave * 32_768).astype(np.int16), SAMPLE_RATE, "x"), wave, atol=4e-5)
    assert peak_hertz(to_wave(tone(440, 1, 48_000), 48_000, "x")) == pytest.approx(440, abs=1)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((9, 16_000)), r"has shape \(9, 16000\); expected \(n_samples,\) or \(n_samples, channels\)"),
        (np.zeros((2, 2, 2)), "has shape"),
        (np.zeros(300, dtype=np.uint8), "is uint8"),
        (np.zeros(300, dtype=complex), "is complex128"),
        (np.zeros(200), "too short"),
        (np.full(300, np.inf), "NaN or infinity"),
    ],
)
def test_bad_arrays_say_what_was_expected(samples, message):
    with pytest.raises(AudioError, match=f"x: .*{message}"):
        to_wave(samples, SAMPLE_RATE, "x")


def test_tags_of_an_mp3_print_nothing_and_change_nothing(tmp_path, capfd):
    """A comment without a description, on which libmpg123 prints a note that names no file."""
    soundfile.write(tmp_path / "plain.mp3", tone(440, 3), SAMPLE_RATE)
    comment = b"COMM\0\0\0\x08\0\0\0engabcd"
    tag = b"ID3\3\0\0\0\0\0" + bytes([len(comment)]) + comment
    (tmp_path / "tagged.mp3").write_bytes(tag + (tmp_path / "plain.mp3").read_bytes())
    np.testing.assert_array_equal(read_audio(tmp_path / "tagged.mp3"), read_audio(tmp_path / "plain.mp3"))
    assert audio_seconds(tmp_path / "tagged.mp3") == audio_seconds(tmp_path / "plain.mp3")
    assert capfd.readouterr().err == ""
