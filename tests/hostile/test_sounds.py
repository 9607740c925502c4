"""Files that are not what their headers say, files that are no files, and every coding that libsndfile writes."""

import io
import os
import re
import socket
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import soxr

from hear_axlstm.audio import MAX_RATE, MIN_RATE, audio_blocks, audio_seconds, native_blocks, read_audio
from hear_axlstm.audio.parts import find_parts
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.errors import AudioError
from tests.conftest import tone

RATE = SAMPLE_RATE
WRITTEN = sorted((kind, coding) for kind in soundfile.available_formats() for coding in soundfile.available_subtypes(kind))


def sound(seconds=2.0, rate=RATE, channels=1, seed=0):
    """A tone in noise, so that no part is like another."""
    wave = tone(440, seconds, rate)[:, None]
    return wave + np.random.default_rng(seed).uniform(-0.1, 0.1, (len(wave), channels)).astype(np.float32)


def written(samples, kind="WAV", rate=RATE, **options):
    content = io.BytesIO()
    soundfile.write(content, samples, rate, format=kind, **options)
    return content.getvalue()


def decoded(content):
    """What libsndfile gives for a good file, mono, at 16 kHz."""
    samples, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    mono = samples.mean(axis=1)
    return mono if rate == RATE else soxr.resample(mono, rate, RATE)


def mp3(seconds=3.0, seed=0, rate=RATE, mode="VARIABLE", channels=1):
    return written(sound(seconds, rate, channels, seed), "MP3", rate, bitrate_mode=mode)


def without_head(content):
    """An MP3 less its first frame, which says how long it is."""
    return content[content.index(content[:2], 40) :]


def put(content, place, *values):
    changed = bytearray(content)
    changed[place : place + len(values)] = values
    return bytes(changed)


def same(wave, expected, but=0):
    """Equal, but for some samples at the end. libsndfile's MPEG decoder rounds otherwise after it has sought."""
    assert abs(len(wave) - len(expected)) <= but
    length = min(len(wave), len(expected)) - but
    np.testing.assert_allclose(wave[:length], expected[:length], rtol=0, atol=1e-6)


@pytest.fixture
def read(tmp_path):
    """Read content as a file, and as an open one: both give the same, and the duration."""

    def get(content):
        (tmp_path / "sound").write_bytes(content)
        wave = read_audio(tmp_path / "sound")
        np.testing.assert_array_equal(read_audio(io.BytesIO(content), "it"), wave)
        assert audio_seconds(tmp_path / "sound") == pytest.approx(len(wave) / RATE, abs=0.2)
        return wave

    return get


def refused(content, message, tmp_path):
    (tmp_path / "odd.snd").write_bytes(content)
    with pytest.raises(AudioError, match=rf"odd\.snd: .*({message})"):
        read_audio(tmp_path / "odd.snd")


# Every coding


@pytest.mark.parametrize(("kind", "coding"), WRITTEN)
def test_what_libsndfile_writes_is_read(tmp_path, kind, coding):
    path = tmp_path / f"a.{kind.lower()}"
    for rate in (16_000, 8_000, 44_100):  # some codings have one rate alone
        try:
            soundfile.write(path, sound(1.0, rate), rate, format=kind, subtype=coding)
            break
        except soundfile.SoundFileError:
            path.unlink(missing_ok=True)
    else:
        pytest.skip("libsndfile says that it can, and cannot")
    if kind == "RAW":
        with pytest.raises(AudioError, match="cannot be decoded"):
            read_audio(path)
        return
    wave = read_audio(path)
    slower = rate / soundfile.info(path).samplerate  # XI and WVE have one rate, and write it whatever they are given
    assert len(wave) == pytest.approx(slower * RATE, abs=700)
    assert audio_seconds(path) == pytest.approx(len(wave) / RATE, abs=0.05)
    assert slower * np.abs(np.fft.rfft(wave)).argmax() * RATE / len(wave) == pytest.approx(440, abs=20)


def test_a_text_is_no_sound_whatever_its_suffix(tmp_path):
    for name in ("a.au", "a.snd", "a.mp3", "a.vox"):
        (tmp_path / name).write_bytes(b"text that is no sound " * 99)
        with pytest.raises(AudioError, match=r"Format not recognised.*convert it"):
            read_audio(tmp_path / name)


# MPEG


@pytest.mark.parametrize("mode", ["VARIABLE", "CONSTANT"])
def test_of_a_cut_mp3_what_is_there_is_read(read, mode):
    whole = mp3(mode=mode)
    wave = read(whole[: len(whole) // 2])
    assert len(wave) == pytest.approx(1.5 * RATE, abs=2_000)
    np.testing.assert_allclose(wave[:-1_200], decoded(whole)[: len(wave) - 1_200], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(read(whole[: len(whole) // 2]), wave)


@pytest.mark.parametrize("seconds", [0.3, 3.0])
def test_an_mp3_without_its_head_is_read_whole(read, seconds):
    whole = mp3(seconds)
    wave = read(without_head(whole))
    begins = 1_105  # what the coder puts before the sound
    same(wave[begins:][: round(seconds * RATE)], decoded(whole))


def test_an_mp3_whose_head_is_taken_for_sound_is_read_whole(read):
    """The decoder knows the head by the zeros in it, and guesses the length without one."""
    whole = mp3()
    assert len(decoded(whole)) <= len(read(put(whole, 11, whole[11] ^ 1))) < len(decoded(whole)) + 3 * 1_152


def test_an_mp3_whose_first_frame_is_blank_is_read_whole(read):
    whole = mp3()
    first = whole.index(whole[:2], 40)
    wave = read(whole[:first] + bytes(500) + whole[first + 500 :])
    assert len(wave) == pytest.approx(3 * RATE, abs=3_000)


@pytest.mark.parametrize("between", [b"", b"TAG" + bytes(125), b"ID3\x03\0\0\0\0\x02\0" + bytes(256)], ids=["", "v1", "v2"])
def test_joined_mp3s_are_read_whole(read, between):
    one, two = mp3(2.0), mp3(1.0, seed=1)
    same(read(one + between + two), np.concatenate([decoded(one), decoded(two)]))
    assert len(read(without_head(one) + between + without_head(two))) == pytest.approx(3 * RATE, abs=3_000)


def test_joined_mp3s_of_two_rates_are_read_whole(read):
    one, two = mp3(1.0), mp3(1.0, 1, 44_100, channels=2)
    expected = np.concatenate([decoded(one), decoded(two)])
    wave = read(one + two)
    assert len(wave) == pytest.approx(len(expected), abs=2)
    same(wave[:RATE], expected[:RATE])
    np.testing.assert_allclose(wave[RATE : RATE + 8_000], expected[RATE : RATE + 8_000], atol=1e-3)


@pytest.mark.parametrize("place", [8, 9, 10])
@pytest.mark.parametrize("bit", [1, 8, 128])
def test_a_wrong_count_in_an_mp3_is_not_believed(place, bit):
    content = mp3()
    place += max(content.find(b"Xing", 0, 60), content.find(b"Info", 0, 60))
    same(read_audio(io.BytesIO(put(content, place, content[place] ^ bit)), "it"), decoded(content), but=600)


def test_a_count_in_an_mp3_that_is_too_low_is_a_failure(tmp_path):
    content = mp3(20.0, channels=2, rate=44_100)
    place = max(content.find(b"Xing", 0, 60), content.find(b"Info", 0, 60)) + 8
    refused(put(content, place, 0, 0, 0, 99), "promises less than there is", tmp_path)


def test_an_mp3_may_begin_in_the_middle_of_a_frame_and_end_with_something_else(read):
    content = mp3()
    assert len(read(content[200:])) == pytest.approx(3 * RATE, abs=3_000)
    same(read(content + bytes(3_000)), decoded(content))
    same(read(b"junk" * 50 + content), decoded(content))


def test_an_mp3_with_a_hole_is_a_failure(tmp_path):
    content = mp3()
    refused(content[:5_000] + bytes(3_000) + content[5_000:], "damaged", tmp_path)


# FLAC and Ogg


def with_total(flac, total):
    return put(flac, 21, flac[21] & 0xF0 | total >> 32, *(total & 0xFFFFFFFF).to_bytes(4, "big"))


@pytest.mark.parametrize("total", [0, 2 * RATE + 5_000, 10**6, 2**36 - 1])
def test_a_flac_whose_total_is_missing_or_too_high_is_read(tmp_path, total):
    content = written(sound(), "FLAC")
    same(read_audio(io.BytesIO(with_total(content, total)), "it"), decoded(content))
    if total in (0, 2**36 - 1):
        assert audio_seconds(io.BytesIO(with_total(content, total))) == 2.0


def test_a_flac_with_more_than_its_total_is_a_failure(tmp_path):
    content = written(sound(9.0), "FLAC")
    refused(with_total(content, RATE), "promises less than there is", tmp_path)
    refused(content + written(sound(0.1), "FLAC"), "two FLAC streams", tmp_path)
    refused(content[: len(content) // 2], "lost sync", tmp_path)


def test_a_flac_may_end_with_a_tag(read):
    content = written(sound(), "FLAC")
    same(read(content + b"TAG" + bytes(125)), decoded(content))


@pytest.mark.parametrize("coding", ["VORBIS", "OPUS"])
def test_chained_ogg_streams_are_read_whole(tmp_path, coding):
    one, two = written(sound(), "OGG", subtype=coding), written(sound(1.0, seed=1, channels=2), "OGG", subtype=coding)
    for chain in ([one, two], [two, one], [one, one]):
        wave = read_audio(io.BytesIO(b"".join(chain)), "it")
        same(wave, np.concatenate([decoded(content) for content in chain]))
    cut = one[: len(one) * 2 // 3]
    same(read_audio(io.BytesIO(cut), "it"), decoded(cut))


def pages(content):
    """Where the pages of an Ogg file begin."""
    return [place.start() for place in re.finditer(b"OggS", content)]


def damages(content, start, end):
    """An Ogg file with one page damaged in each way, by its name."""
    return {
        "a flipped bit": put(content, start + 100, content[start + 100] ^ 1),
        "a lost mark": put(content, start, 0),
        "blank": content[:start] + bytes(end - start) + content[end:],
        "missing": content[:start] + content[end:],
        "cut inside": content[: start + 50] + content[start + 90 :],
    }


@pytest.mark.parametrize("coding", ["VORBIS", "OPUS"])
def test_an_ogg_file_with_a_damaged_page_is_a_failure(tmp_path, coding):
    content = written(sound(6.0), "OGG", subtype=coding)
    damaged = damages(content, *pages(content)[-3:-1])
    for changed in damaged.values():
        refused(changed, "page at byte|pages are damaged|samples are missing", tmp_path)
    refused(damaged["a flipped bit"] + content, "page at byte", tmp_path)


@pytest.mark.parametrize("coding", ["VORBIS", "OPUS"])
def test_an_ogg_file_may_be_cut_or_have_something_around_it(read, coding):
    content = written(sound(6.0), "OGG", subtype=coding)
    last = pages(content)[-1]
    for end in (b"", content[last : last + 50], bytes(100), b"TAG" + bytes(125), b"Ogg, and no page"):
        same(read(content[:last] + end), decoded(content[:last]))
    same(read(content + b"TAG" + bytes(125)), decoded(content))


def test_an_opus_file_whose_packets_outlast_its_pages_is_a_failure():
    """Its decoder then gives memory that nothing wrote."""
    content = written(sound(), "OGG", subtype="OPUS")
    assert find_parts(io.BytesIO(content), len(content), "OGG", 2 * RATE, RATE) == []
    with pytest.raises(AudioError, match=r"last page ends after 2\.0 s, its packets after 3\.0 s"):
        find_parts(io.BytesIO(content), len(content), "OGG", 3 * RATE, RATE)


# Lengths never written, or wrong


def with_lengths(wav, data, riff=None):
    place = wav.index(b"data")
    wav = put(wav, place + 4, *data.to_bytes(4, "little"))
    return wav if riff is None else put(wav, 4, *riff.to_bytes(4, "little"))


@pytest.mark.parametrize("data", [0, 2**31, 2**32 - 1, 2**32 - 16])
@pytest.mark.parametrize("riff", [0, 8, 36, 2**32 - 1, None])
def test_a_wav_whose_length_was_never_written_is_read(read, data, riff):
    content = written(sound(channels=2))
    same(read(with_lengths(content, data, riff)), decoded(content))


def test_a_wav_may_be_cut_or_empty_or_have_more_chunks(read, tmp_path):
    content = written(sound())
    half = len(content) // 2
    same(read(content[:half]), decoded(content)[: (half - 44) // 2])
    chunk = b"LIST" + (5_000).to_bytes(4, "little") + bytes(5_000)
    same(read(content + chunk), decoded(content))
    refused(with_lengths(content, 0)[:44] + chunk, "0 samples", tmp_path)
    refused(with_lengths(content, 1_000), "promises less than there is", tmp_path)


def test_a_wav_over_4_gb_is_read_past_its_length(tmp_path):
    content = written(sound(0.1, 192_000, 8), rate=192_000)[:44]
    size = 2**32 + 16 * 1_000_000  # the header holds what is over 4 GB
    with open(tmp_path / "long.wav", "wb") as file:
        file.write(with_lengths(content, size - 2**32, size - 2**32 + 36))
        file.truncate(44 + size)
    assert audio_seconds(tmp_path / "long.wav") == size / (192_000 * 16)
    blocks = native_blocks(tmp_path / "long.wav")
    lengths = [len(block) for (_, block), _ in zip(blocks, range(2), strict=False)]
    blocks.close()
    assert sum(lengths) > 1_000_000  # as many as the header says


@pytest.mark.parametrize("frames", [0, 1, 2**31])
@pytest.mark.parametrize("length", [0, 2**31, 2**32 - 1])
def test_an_aiff_whose_lengths_are_wrong_is_read(read, frames, length):
    content = written(sound(), "AIFF")
    wrong = put(content, content.index(b"SSND") + 4, *length.to_bytes(4, "big"))
    wrong = put(wrong, content.index(b"COMM") + 10, *frames.to_bytes(4, "big"))
    same(read(wrong), decoded(content))


@pytest.mark.parametrize("length", [0, 2**32 - 1])
def test_an_au_without_a_length_is_read(read, length):
    content = written(sound(), "AU")
    same(read(put(content, 8, *length.to_bytes(4, "big"))), decoded(content))


def test_an_rf64_without_lengths_is_read(read):
    content = written(sound(), "RF64")
    same(read(put(content, content.index(b"ds64") + 8, *bytes(24))), decoded(content))


def test_rates_that_no_sound_has_are_refused(tmp_path):
    content = written(sound())
    for rate in (1, MIN_RATE - 1, MAX_RATE + 1, 2**31 - 1):
        refused(put(content, 24, *rate.to_bytes(4, "little")), f"says {rate:,} Hz", tmp_path)
    for rate in (MIN_RATE, MAX_RATE):
        assert len(read_audio(io.BytesIO(put(content, 24, *rate.to_bytes(4, "little"))), "it"))


def test_more_samples_than_bytes_can_hold_are_refused(tmp_path):
    content = written(sound(0.1), "SDS")
    packets = (len(content) - 21) // 127
    cut = content[: 21 + 127 * (packets // 2)]
    assert len(read_audio(io.BytesIO(cut), "it")) == packets // 2 * 40
    content = written(sound(), "WAV", subtype="IMA_ADPCM")
    place = content.index(b"fact") + 8
    wave = read_audio(io.BytesIO(put(content, place, 255, 255, 255, 127)), "it")
    assert len(wave) == pytest.approx(2 * RATE, abs=1_000)


def test_many_channels_at_a_high_rate_take_bounded_memory(tmp_path):
    with soundfile.SoundFile(tmp_path / "wide.wav", "w", 192_000, 1_024, "PCM_U8") as file:
        for _ in range(6):
            file.write(np.full((16_384, 1_024), 0.25, np.float32))
    blocks = list(native_blocks(tmp_path / "wide.wav"))
    assert sum(len(block) for _, block in blocks) == 6 * 16_384
    assert max(len(block) for _, block in blocks) <= 32_768
    wave = read_audio(tmp_path / "wide.wav")
    assert len(wave) == pytest.approx(6 * 16_384 / 12, abs=2)
    assert wave[2_000:-2_000] == pytest.approx(0.25, abs=0.01)


def test_blocks_are_the_recording(tmp_path):
    samples = sound(130.0, 8_000)
    soundfile.write(tmp_path / "a.wav", samples, 8_000)
    blocks = list(audio_blocks(tmp_path / "a.wav"))
    assert max(map(len, blocks)) <= 60 * RATE
    np.testing.assert_array_equal(np.concatenate(blocks), read_audio(tmp_path / "a.wav"))


def test_a_float_file_may_not_hold_nan_nor_pass_unnoticed_when_far_too_loud(tmp_path, caplog):
    for kind in ("WAV", "AIFF"):
        samples = sound()
        samples[777] = np.nan
        refused(written(samples, kind, subtype="FLOAT"), "NaN or infinity", tmp_path)
    assert not caplog.records
    (tmp_path / "loud.wav").write_bytes(written(sound() * 32_768, subtype="FLOAT"))
    read_audio(tmp_path / "loud.wav")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "loud.wav: peaks at" in caplog.text


# What is no file


def test_what_is_no_regular_file_says_what_it_is_and_never_blocks(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    (tmp_path / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    here = os.getcwd()
    os.chdir(tmp_path)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.wav")
        os.chdir(here)
        for name, reason in [
            ("pipe.wav", "a named pipe; expected a regular file"),
            ("folder.wav", "a folder; expected"),
            ("socket.wav", "a socket; expected"),
            ("loop.wav", "a link that leads back to itself"),
            ("gone.wav", "no such file"),
            ("pipe.wav/a.wav", "no such file"),
            ("x" * 300 + ".wav", "a name that is too long"),
            ("/dev/null", "a device; expected"),
        ]:
            for function in (read_audio, audio_seconds):
                with pytest.raises(AudioError, match=reason):
                    function(tmp_path / name)


def test_a_file_that_may_not_be_read_says_so(tmp_path):
    soundfile.write(tmp_path / "a.wav", sound(), RATE)
    (tmp_path / "a.wav").chmod(0)
    program = (
        "import os, sys\n"
        "sys.path[:] = sys.argv[1:]\n"
        "from hear_axlstm.audio import read_audio\n"
        "if not os.getuid(): os.setuid(65534)  # root reads everything\n"
        "try: read_audio('a.wav')\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *sys.path], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("AudioError a.wav: permission denied"), done.stdout + done.stderr


def test_names_in_any_bytes_are_opened(tmp_path):
    path = tmp_path / os.fsdecode(b"m\xe4r.wav")
    path.write_bytes(written(sound()))
    assert len(read_audio(path)) == 2 * RATE


def test_no_file_stays_open(tmp_path):
    (tmp_path / "a.mp3").write_bytes(mp3() + mp3(seed=1))
    before = len(os.listdir("/proc/self/fd"))
    read_audio(tmp_path / "a.mp3")
    blocks = audio_blocks(tmp_path / "a.mp3")
    next(blocks)
    blocks.close()
    assert len(os.listdir("/proc/self/fd")) == before
