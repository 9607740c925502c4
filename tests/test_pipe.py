"""Sound from a pipe: equal to the same sound in a file, however it comes, and named where it is bad."""

import io
import struct

import numpy as np
import pytest
import soundfile

from hear_axlstm.audio import read_audio
from hear_axlstm.audio.pipe import RAW, SoundPipe
from hear_axlstm.audio.wav import DOUBT, Header
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.errors import AudioError
from tests.conftest import noise, tone

RESAMPLED = 1e-6  # blocks of other sizes are resampled by the same filter, in float32
SUBTYPES = ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"]
EXTENSIBLE_END = bytes.fromhex("000000001000800000aa00389b71")


class Pipe:
    """Bytes that come in pieces of a few sizes, and cannot seek."""

    def __init__(self, data, *sizes):
        self.data, self.sizes, self.turn = data, sizes or (1 << 16,), 0

    def read(self, most):
        size = min(most, self.sizes[self.turn % len(self.sizes)])
        self.turn += 1
        piece, self.data = self.data[:size], self.data[size:]
        return piece


def wav(samples, rate=SAMPLE_RATE, subtype="PCM_16", format="WAV"):
    content = io.BytesIO()
    soundfile.write(content, samples, rate, format=format, subtype=subtype)
    return content.getvalue()


def chunk(name, content, length=None):
    return name + struct.pack("<I", len(content) if length is None else length) + content + bytes(len(content) % 2)


def fmt(kind=1, channels=1, rate=SAMPLE_RATE, bits=16, block=None, more=b""):
    block = channels * bits // 8 if block is None else block
    return chunk(b"fmt ", struct.pack("<HHIIHH", kind, channels, rate, rate * block, block, bits) + more)


def riff(*chunks, kind=b"RIFF"):
    return kind + struct.pack("<I", 0xFFFFFFFF) + b"WAVE" + b"".join(chunks)


def heard(data, *sizes, header=None):
    return np.concatenate([*SoundPipe(Pipe(data, *sizes), header).blocks(), np.zeros(0, np.float32)])


def heard_before(data, header=None):
    """All samples that came before the error, and what that says."""
    blocks = []
    with pytest.raises(AudioError) as raised:
        blocks.extend(SoundPipe(Pipe(data, 1_000), header).blocks())
    return np.concatenate([*blocks, np.zeros(0, np.float32)]), str(raised.value)


PCM = noise(3_001).numpy()
SAMPLES = (PCM * 32_768).astype("<i2").tobytes()
EXACT = (PCM * 32_768).astype("<i2").astype(np.float32) / 32_768


@pytest.mark.parametrize("subtype", SUBTYPES)
@pytest.mark.parametrize(("rate", "channels"), [(SAMPLE_RATE, 1), (44_100, 2), (8_000, 3)])
def test_a_pipe_sounds_like_a_file(subtype, rate, channels):
    data = wav(noise(30_001, channels).numpy(), rate, subtype)
    expected = read_audio(io.BytesIO(data))
    for sizes in ((), (7, 4_096, 1)):
        np.testing.assert_allclose(heard(data, *sizes), expected, rtol=0, atol=0 if rate == SAMPLE_RATE else RESAMPLED)


@pytest.mark.parametrize("format", ["WAVEX", "RF64"])
def test_other_headers_of_the_kind_are_read(format):
    data = wav(noise(30_001, 2).numpy(), format=format)
    np.testing.assert_array_equal(heard(data), read_audio(io.BytesIO(data)))


def test_a_header_and_a_sample_may_be_cut_at_every_byte():
    data = wav(noise(500, 2).numpy(), subtype="PCM_24")
    expected = read_audio(io.BytesIO(data))
    for first in range(1, 70):
        np.testing.assert_array_equal(heard(data, first, 1, 10_000), expected)


def test_a_block_comes_as_soon_as_its_samples_did():
    pipe = Pipe(riff(fmt(), chunk(b"data", SAMPLES)), 1, 1, 3)
    blocks = SoundPipe(pipe).blocks()
    before = len(pipe.data)
    assert len(next(blocks)) == 0
    assert [len(next(blocks)), len(pipe.data)] == [1, before - 2]


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_resampling_holds_back_little(rate):
    came, given = 0, 0
    for block in SoundPipe(Pipe(bytes(2 * rate), 2 * (rate // 100)), Header(RAW["s16le"], rate, 1)).blocks():
        came, given = came + rate // 100, given + len(block)
        assert came / rate - given / SAMPLE_RATE < 0.12
    assert given == SAMPLE_RATE


@pytest.mark.parametrize(("raw", "dtype"), [("s16le", "<i2"), ("f32le", "<f4")])
def test_samples_without_a_header(raw, dtype):
    values = np.round(noise(20_000, 2).numpy() * 32_767)
    stored = values.astype(dtype) if raw == "s16le" else (values / 32_768).astype(dtype)
    mono = heard(stored.tobytes(), 5, 999, header=Header(RAW[raw], SAMPLE_RATE, 2))
    np.testing.assert_array_equal(mono, (values / 32_768).astype(np.float32).mean(1))


@pytest.mark.parametrize(
    "unknown", [0, (1 << 32) - 1, 1 << 31, (1 << 31) - 1, 0x7FFFFF00, 0x7FFFF000, 0x7FFF0000, (1 << 32) - 37]
)
def test_a_length_that_the_writer_could_not_know_is_none(unknown):
    np.testing.assert_array_equal(heard(riff(fmt(), chunk(b"data", SAMPLES, unknown))), EXACT)


@pytest.mark.parametrize("unknown", [0, (1 << 64) - 1, (1 << 63) - 1])
def test_a_length_of_64_bits_may_be_unknown_too(unknown):
    sizes = chunk(b"ds64", struct.pack("<QQQI", 0, unknown, 0, 0))
    np.testing.assert_array_equal(heard(riff(sizes, fmt(), chunk(b"data", SAMPLES, 0xFFFFFFFF), kind=b"RF64")), EXACT)


def test_a_length_of_64_bits_counts():
    sizes = chunk(b"ds64", struct.pack("<QQQI", 0, len(SAMPLES), 0, 0))
    data = riff(sizes, fmt(), chunk(b"data", SAMPLES, 0xFFFFFFFF), chunk(b"LIST", b"INFO"), kind=b"RF64")
    np.testing.assert_array_equal(heard(data), EXACT)


def test_other_chunks_are_passed_over():
    others = chunk(b"LIST", b"INFO1"), chunk(b"junk", bytes(100_000))
    data = riff(others[0], fmt(more=b"\0\0"), *others, chunk(b"data", SAMPLES), *others) + b"\0" * 1_000
    np.testing.assert_array_equal(heard(data), EXACT)


def test_chunks_follow_an_odd_number_of_bytes():
    samples = bytes(range(1, 202)) * 3
    for after in (chunk(b"id3 ", bytes(9_001)), chunk(b"id3 ", bytes(9_001)) + chunk(b"LIST", b"INFO")):
        assert len(heard(riff(fmt(bits=24), chunk(b"data", samples), after), 7)) == 201
    assert "promises less" in heard_before(riff(fmt(bits=24), chunk(b"data", samples), bytes(9_000)))[1]


@pytest.mark.parametrize("begins", [wav(PCM), wav(PCM, format="RF64"), wav(PCM, format="FLAC"), b"ID3\4" + bytes(100)])
def test_a_header_is_no_sample(begins):
    before, said = heard_before(begins, Header(RAW["s16le"], SAMPLE_RATE, 1))
    assert not len(before)
    assert said.startswith("has a header (it begins with b'")
    assert "leave --raw out" in said


def test_the_zero_that_makes_the_number_of_bytes_even_is_no_sample():
    samples = np.arange(3 * 301, dtype=np.uint8).tobytes()
    data = riff(fmt(bits=24), chunk(b"data", samples, 0x7FFFF000))
    assert len(heard(data)) == 301
    assert "the last 1 byte of 3" in heard_before(data[:-1] + b"\1")[1]


def test_what_ends_before_the_header_promises_is_cut():
    before, said = heard_before(riff(fmt(), chunk(b"data", SAMPLES, len(SAMPLES) + 10)))
    np.testing.assert_array_equal(before, EXACT)
    assert said == "ends after 6,002 of the 6,012 bytes of sound that its header promises; get it again"


def test_a_length_far_from_what_cannot_be_known_is_believed():
    assert "ends after" in heard_before(riff(fmt(), chunk(b"data", SAMPLES, (1 << 31) - DOUBT - 1)))[1]


@pytest.mark.parametrize("length", [0xFFFFFFFF, 6_003])
def test_half_a_sample_at_the_end(length):
    before, said = heard_before(riff(fmt(), chunk(b"data", SAMPLES, length)) + b"\1")
    np.testing.assert_array_equal(before, EXACT)
    assert said.startswith("ends in the middle of a sample: the last 1 byte of 2, the channels together")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_named_when_all_before_it_came(bad):
    samples = np.stack([PCM, PCM], 1)
    samples[1_777, 1] = bad
    before, said = heard_before(samples.tobytes(), Header(RAW["f32le"], SAMPLE_RATE, 2))
    np.testing.assert_array_equal(before, PCM[:1_777])
    assert said == "sample 1,777 is NaN or infinite; expected finite samples in [-1, 1]"


def test_what_is_too_large_for_float32_is_infinite():
    assert "sample 0 is NaN or infinite" in heard_before(riff(fmt(3, bits=64), chunk(b"data", struct.pack("<d", 1e300))))[1]
    assert (
        "sample 0 is NaN or infinite"
        in heard_before(np.full((9, 2), 3e38, "<f4").tobytes(), Header(RAW["f32le"], 16_000, 2))[1]
    )


@pytest.mark.parametrize(
    "after",
    [b"RIFF" + bytes(9_000), chunk(b"data", bytes(9_000)), bytes(range(1, 9)) * 1_000],
    ids=["another WAV", "more samples", "no chunk"],
)
def test_sound_that_follows_what_the_header_promises(after):
    before, said = heard_before(riff(fmt(), chunk(b"data", SAMPLES)) + after)
    np.testing.assert_array_equal(before, EXACT)
    assert said.startswith("its header promises less than there is")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "nothing came"),
        (b"ID3\4" + bytes(100), r"is no WAV \(it begins with b'ID3\\x04'\); .* --raw"),
        (b"RIF", "is no WAV"),
        (b"RIFX\0\0\0\0WAVE", "is no WAV"),
        (riff(), "ends before the first sample"),
        (riff(fmt())[:-5], "cut or damaged"),
        (riff(chunk(b"fmt ", bytes(14)), chunk(b"data", SAMPLES)), "cut or damaged"),
        (riff(chunk(b"fmt ", bytes(16), 1 << 20)), "1,048,576 bytes of 'fmt '"),
        (riff(chunk(b"junk", bytes(16), 1 << 20)), "ends before the first sample"),
        (riff(fmt(), bytes(8), chunk(b"data", SAMPLES)), "is the name of no chunk"),
        (riff(chunk(b"data", SAMPLES)), "does not say how samples are coded"),
        (riff(fmt(channels=0, block=2), chunk(b"data", SAMPLES)), "has 0 channels"),
        (riff(fmt(rate=0), chunk(b"data", SAMPLES)), "is at 0 Hz"),
        (riff(fmt(rate=2_000_000), chunk(b"data", SAMPLES)), "is at 2,000,000 Hz; expected 1,000 to 1,000,000 Hz"),
        (riff(fmt(block=3), chunk(b"data", SAMPLES)), "3 bytes for 1 channel of 16 bits; expected 2: `ffmpeg"),
        (riff(fmt(channels=2, block=2), chunk(b"data", SAMPLES)), "2 bytes for 2 channels of 16 bits; expected 4"),
        (riff(fmt(bits=24, block=4), chunk(b"data", SAMPLES)), "4 bytes for 1 channel of 24 bits"),
        (riff(fmt(7, bits=8), chunk(b"data", SAMPLES)), "8 bits in coding 0x7; expected 8, 16, .* `ffmpeg -i IN -f wav -`"),
        (riff(fmt(0x55, bits=0, block=1), chunk(b"data", SAMPLES)), "0 bits in coding 0x55"),
        (riff(fmt(0xFFFE, more=b"\0\0"), chunk(b"data", SAMPLES)), "16 bits in coding 0xfffe"),
        (riff(fmt(0xFFFE, more=bytes(8) + b"\7\0" + EXTENSIBLE_END), chunk(b"data", SAMPLES)), "16 bits in coding 0x7"),
    ],
)  # fmt: skip
def test_a_header_that_cannot_be_true(data, said):
    with pytest.raises(AudioError, match=said):
        SoundPipe(Pipe(data, 3))


def test_an_interrupt_while_it_waits_ends_the_sound_there():
    class Interrupted(Pipe):
        def read(self, most):
            if len(self.data) < 10_001:
                raise KeyboardInterrupt
            return super().read(most)

    sound = tone(440, 1.0, 44_100)
    data = wav(sound, 44_100)
    mono = np.concatenate([*SoundPipe(Interrupted(data, 999)).blocks()])
    assert abs(len(mono) / SAMPLE_RATE - (len(data) - 10_000) / 2 / 44_100) < 0.02
