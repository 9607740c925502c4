"""What is given as samples in memory: each is taken with its right value, or refused with what it is and the way."""

import io
import subprocess
import sys
import tempfile
from contextlib import suppress
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from hear_axlstm.audio import sound_seconds, to_wave
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.errors import AudioError
from hear_axlstm.files import decode, embed
from tests.conftest import tone

RATE = SAMPLE_RATE
WAVE = tone(440, 0.5)


def taken(samples, rate=RATE):
    seconds = sound_seconds(samples, rate, "it")
    wave = to_wave(samples, rate, "it")
    assert wave.dtype == np.float32
    assert seconds == pytest.approx(len(wave) / RATE, abs=1e-3)
    return wave


def content(kind="WAV", rate=RATE, **options):
    file = io.BytesIO()
    soundfile.write(file, tone(440, 0.5, rate), rate, format=kind, **options)
    return file.getvalue()


negative = torch.complex(torch.zeros(len(WAVE)), -torch.from_numpy(WAVE)).conj().imag


@pytest.mark.parametrize(
    ("samples", "tolerance"),
    [
        (WAVE.tolist(), 0),
        (tuple(WAVE.tolist()), 0),
        ([[value, value] for value in WAVE.tolist()], 0),
        (WAVE.astype(np.float64), 0),
        (WAVE.astype(">f4"), 0),
        (WAVE.astype(np.float16), 1e-3),
        (WAVE[:, None], 0),
        (np.repeat(WAVE, 3)[::3], 0),
        (np.ma.masked_array(WAVE), 0),
        ((WAVE * 2**7).astype(np.int8), 1e-2),
        ((WAVE * 2**15).astype(np.int16), 1e-4),
        ((WAVE * 2**15).astype(">i2"), 1e-4),
        ((WAVE * 2.0**31).astype(np.int32), 1e-6),
        (torch.from_numpy(WAVE), 0),
        (torch.from_numpy(WAVE).clone().requires_grad_(), 0),
        (torch.from_numpy(WAVE).clone().requires_grad_() * 1, 0),
        (torch.nn.Parameter(torch.from_numpy(WAVE)), 0),
        (torch.from_numpy(WAVE).half(), 1e-3),
        (torch.from_numpy(WAVE).bfloat16(), 3e-3),
        ((torch.from_numpy(WAVE) * 2**15).to(torch.int16), 1e-4),
        (negative, 0),
        (torch.stack([torch.from_numpy(WAVE)] * 2).T, 0),
        ((WAVE, RATE), 0),
        ((torch.from_numpy(WAVE), float(RATE)), 0),
        ((WAVE, np.int64(RATE)), 0),
        ({"array": WAVE, "sampling_rate": RATE, "path": None}, 0),
        ({"raw": WAVE, "sampling_rate": RATE}, 0),
        ({"array": torch.from_numpy(WAVE), "sampling_rate": torch.tensor(RATE)}, 0),
        ({"array": None, "raw": WAVE, "sampling_rate": RATE}, 0),
        ({"audio": {"array": WAVE, "sampling_rate": RATE}}, 0),
        ({"audio": WAVE}, 0),
        ({"audio": content(subtype="FLOAT"), "label": 1}, 0),
        ({"audio": {"bytes": content(subtype="FLOAT"), "path": None}}, 0),
        ({"bytes": content(subtype="FLOAT")}, 0),
        ({"bytes": content(subtype="FLOAT"), "path": "gone.wav"}, 0),
        (content(subtype="FLOAT"), 0),
        (bytearray(content("FLAC")), 1e-4),
        (memoryview(content("FLAC")), 1e-4),
        (io.BytesIO(content(subtype="FLOAT")), 0),
    ],
    ids=lambda value: None if isinstance(value, int | float) else type(value).__name__,
)
def test_what_is_taken_has_the_right_value(samples, tolerance):
    assert negative.is_neg()
    np.testing.assert_allclose(taken(samples), WAVE, rtol=0, atol=tolerance)


def test_a_rate_that_comes_with_the_samples_goes_before_the_one_given():
    fast = tone(440, 0.5, 48_000)
    expected = to_wave(fast, 48_000, "it")
    for samples in ((fast, 48_000), {"array": fast, "sampling_rate": 48_000}, content(rate=48_000, subtype="FLOAT")):
        np.testing.assert_allclose(taken(samples, 8_000), expected, rtol=0, atol=1e-6)


def test_open_files_are_taken_and_stay_open():
    with tempfile.TemporaryFile() as file:
        file.write(content(subtype="FLOAT"))
        np.testing.assert_array_equal(taken(file), WAVE)
        np.testing.assert_array_equal(taken(file), WAVE)


BAD = [
    (np.zeros(0), "0 samples at 16 kHz; expected 201 or more"),
    ([], "0 samples"),
    (np.zeros((600, 0)), r"has shape \(600, 0\)"),
    (np.zeros((0, 2)), r"has shape \(0, 2\)"),
    (np.zeros((9, 600)), r"has shape \(9, 600\); expected \(n_samples,\) or .*; for a batch pass list\(batch\)"),
    (torch.zeros(8, 199), r"has shape \(8, 199\); expected"),
    ([[0.0] * 600] * 2, r"has shape \(2, 600\); expected"),
    (np.zeros((600, 2, 1)), r"has shape \(600, 2, 1\)"),
    (0.5, "a single number"),
    (torch.tensor(1.0), "a single number"),
    (None, "is None; expected a sound"),
    ([None] * 600, "a list that holds no numbers"),
    (["0.5"] * 600, "a list that holds no numbers"),
    ([[0.1], [0.1, 0.2]], "a list that gives no array"),
    (np.array([0.5] * 600, object), "holds no numbers"),
    (np.zeros(600, [("left", "f4")]), "holds no numbers"),
    (np.zeros(600, "datetime64[s]"), "holds no numbers"),
    ({0.1, 0.2}, "a set that holds no numbers"),
    (iter([0.1]), "that holds no numbers"),
    (np.zeros(600, bool), "is bool"),
    (np.zeros(600, complex), "is complex128"),
    (torch.zeros(600, dtype=torch.complex64), "is complex64"),
    (np.zeros(600, np.uint8), "is uint8; expected .*int16"),
    (np.zeros(600, np.uint16), "is uint16"),
    (np.zeros(600, np.int64), r"is int64; expected .*x\.astype\(np\.int16\)"),
    ([0, 1, -2] * 200, "is int64"),
    (torch.zeros(600, dtype=torch.long), "is int64"),
    (np.full(600, np.nan), "NaN or infinity"),
    (np.full(600, 1e300), "NaN or infinity"),
    (np.ma.masked_array(WAVE, WAVE > 0.4), "NaN or infinity"),
    (torch.zeros(600, device="meta"), "a Tensor that gives no array"),
    (torch.zeros(600).to_sparse(), "a Tensor that gives no array"),
    ([torch.zeros(600, requires_grad=True)] * 2, "gives no array|has shape"),
    ((WAVE, 0), "is at 0 Hz; expected 1,000 to 1,000,000 Hz"),
    ((WAVE, float("nan")), "is at nan Hz"),
    ((WAVE, 16), "is at 16 Hz"),
    ((WAVE, "high"), r"a tuple \(ndarray, str\); expected \(samples, rate\)"),
    ({"array": WAVE, "sampling_rate": None}, "is at None Hz"),
    ({"array": WAVE}, "a dict of array; expected array and sampling_rate, or bytes"),
    ({"audio": None}, "a dict of audio; expected"),
    ({"audio": "https://here.org/a.wav"}, "its path is an address, and none is fetched that stands in a row"),
    ({"bytes": None, "path": "memory://a.wav"}, "its path is an address"),
    ({"bytes": None, "path": None}, "a dict of bytes, path; expected"),
    ({"bytes": None, "path": "gone.wav"}, "no such file"),
    (b"", "the file is empty"),
    (b"text" * 99, "cannot be decoded"),
    (io.BytesIO(), "the file is empty"),
    (io.StringIO("text"), "a StringIO that is text"),
]


@pytest.mark.parametrize(("samples", "message"), BAD, ids=map(str, range(len(BAD))))
def test_what_is_refused_says_what_it_is(samples, message):
    with pytest.raises(AudioError, match=f"^it: .*{message}"):
        to_wave(samples, RATE, "it")
    with suppress(AudioError):  # it need not look at values
        sound_seconds(samples, RATE, "it")


def test_a_file_that_is_closed_says_so():
    file = io.BytesIO(content())
    file.close()
    for function in (to_wave, sound_seconds):
        with pytest.raises(AudioError, match=r"^it: is a BytesIO that is text, closed or cannot be read; pass bytes"):
            function(file, RATE, "it")


@pytest.mark.parametrize("kind", [subprocess.PIPE, "raw", "reader"])
def test_a_pipe_is_read_whole(kind, tmp_path, model):
    """It is read once, though ``embed`` asks for the duration before it decodes."""
    (tmp_path / "a.wav").write_bytes(content("WAV", subtype="FLOAT"))

    class Reader:
        def __init__(self, file):
            self.read = file.read

    for consume in (lambda pipe: to_wave(pipe, None, "it"), lambda pipe: embed([pipe], model).matrix[0]):
        with subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.stdout.buffer.write(open('a.wav', 'rb').read())"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            bufsize=0 if kind == "raw" else -1,
        ) as process:
            found = consume(Reader(process.stdout) if kind == "reader" else process.stdout)
        np.testing.assert_array_equal(found, consume(tmp_path / "a.wav"))


@pytest.mark.parametrize("samples", [30, 201, 4_000])
def test_channels_come_first_in_a_pair_with_a_tensor_however_short(samples):
    """As ``torchaudio.load`` gives them. An array of NumPy, as soundfile gives it, has them last, unless it is long."""
    left, right = WAVE[:samples], WAVE[1_000 : 1_000 + samples]
    expected = to_wave(((left + right) / 2, RATE), name="it", pad=True)
    for pair in (
        (torch.from_numpy(np.stack([left, right])), RATE),
        (RATE, torch.from_numpy(np.stack([left, right]))),
        (np.stack([left, right], axis=1), RATE),
        (torch.from_numpy(np.stack([left, right], axis=1)), RATE),
    ):
        np.testing.assert_allclose(to_wave(pair, name="it", pad=True), expected, atol=1e-7)


def test_what_is_short_and_may_be_anything_is_refused():
    for pair in ((np.zeros((2, 30), np.float32), RATE), (torch.zeros(9, 400), RATE)):
        with pytest.raises(AudioError, match=r"has shape \(\d, \d+\); expected"):
            to_wave(pair)
    with pytest.raises(AudioError, match=r"^sound: is at None Hz; .*; pass sample_rate, or \(samples, rate\)"):
        to_wave(WAVE)
    with pytest.raises(AudioError, match=r"^sound: is a object; expected samples with their rate, a path, bytes or an open"):
        to_wave(object())


class Decoder:
    """Any object of the kind: ``tests/doors/test_datasets.py`` has those of torchcodec and datasets."""

    def __init__(self, data, rate, seconds=None):
        self.data, self.sample_rate = data, rate
        self.metadata = SimpleNamespace(duration_seconds=seconds)

    def get_all_samples(self):
        if self.data is None:
            raise RuntimeError("no stream\nat all")
        return SimpleNamespace(data=self.data, sample_rate=self.sample_rate)


def test_a_decoder_is_asked_for_all_its_samples():
    stereo = torch.from_numpy(np.stack([WAVE, WAVE]))
    for sound in (Decoder(stereo, RATE), Decoder(stereo, RATE, 0.5), {"audio": Decoder(stereo, RATE)}):
        np.testing.assert_array_equal(taken(sound, 8_000), WAVE)
    np.testing.assert_array_equal(taken(Decoder(stereo, RATE).get_all_samples(), 8_000), WAVE)
    with pytest.raises(AudioError, match=r"^it: cannot be decoded \(Decoder: no stream\); replace the file"):
        to_wave(Decoder(None, RATE), name="it")


@pytest.mark.parametrize("rate", [0, -1, 999, 2e6, float("nan"), float("inf"), "16000", None, True])
def test_a_rate_that_no_sound_has_is_refused(rate):
    for function in (to_wave, sound_seconds):
        with pytest.raises(AudioError, match=r"^it: is at .* Hz"):
            function(WAVE, rate, "it")


@pytest.mark.parametrize("bits", [16, 24])
def test_int32_of_fewer_bits_gets_a_warning(caplog, bits):
    samples = (WAVE * 2.0 ** (bits - 1)).astype(np.int32)
    to_wave(samples, RATE, "it")
    assert caplog.text.count("it: is int32 with a peak of") == 1
    caplog.clear()
    to_wave(np.zeros(600, np.int32), RATE, "it")
    to_wave((WAVE * 2.0**31).astype(np.int32), RATE, "it")
    assert not caplog.text


def test_floats_that_hold_integers_get_a_warning(caplog):
    to_wave(WAVE * 32_768, RATE, "it")
    assert caplog.text.count("it: peaks at 16384; expected samples in [-1, 1]") == 1
    caplog.clear()
    to_wave(WAVE * 4, RATE, "it")  # loud, or not normalised, as resampled and mixed sounds are
    assert not caplog.text


def taken_otherwise(samples):
    """Whether ``embed`` understands more than ``to_wave``: bytes may be a path, and a row's sound is under "audio"."""
    return isinstance(samples, bytes) or (isinstance(samples, dict) and "audio" in samples)


def test_a_bad_array_is_one_failure_and_the_others_are_embedded(model):
    items = [WAVE, *(samples for samples, _ in BAD if not taken_otherwise(samples)), 0.5 * WAVE]
    result = embed(items, model, sample_rate=RATE)
    good = ["0", str(len(items) - 1)]
    assert result.embedded == good
    assert sorted(result.failures, key=int) == [str(index) for index in range(1, len(items) - 1)]
    expected = embed([WAVE, 0.5 * WAVE], model, sample_rate=RATE)
    np.testing.assert_allclose(result[result.ok].embeddings, expected.embeddings, rtol=0, atol=1e-6)


def test_a_long_recording_that_is_far_too_loud_gets_the_same_warning(model, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(decode, "LONGEST_SECONDS", 1.0)
    for name, scale in (("loud.wav", 32_768), ("fine.wav", 1)):
        soundfile.write(tmp_path / name, np.tile(WAVE, 1 + 3 * RATE // len(WAVE)) * scale, RATE, subtype="FLOAT")
    result = embed([tmp_path], model)
    assert len(result.embedded) == 2
    assert caplog.text.count("peaks at 16384; expected samples in [-1, 1]") == 1
    assert "loud.wav: " in caplog.text
