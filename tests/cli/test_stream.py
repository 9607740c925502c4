"""``hear-axlstm stream``: a row for each moment of the sound that comes, when it is certain, and nothing else on stdout."""

import fcntl
import io
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import termios
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from hear_axlstm import Stream, get_timestamp_embeddings, load_model, statistics
from hear_axlstm.audio import ffmpeg, read_audio
from hear_axlstm.config import SAMPLE_RATE, AxLSTMConfig, SSASTConfig
from hear_axlstm.encoder import Encoder
from hear_axlstm.weights.save import save_weights
from tests.conftest import noise
from tests.processes import wait_until

EQUAL = 1e-4  # what a stream promises in float32
SECOND = 25  # rows
MUCH = 10_000  # bytes that wait in a pipe for somebody who reads slowly
PROGRAM = [sys.executable, "-m", "hear_axlstm", "stream"]
GIVEN = ("--statistics", "-8,4")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("stream") / "small.safetensors"
    save_weights(Encoder(AxLSTMConfig(width=16, depth=2)), path, {"source": "random initial values"})
    return path


@pytest.fixture(scope="module")
def model(weights):
    return load_model(weights)


@pytest.fixture
def stream(run, weights):
    def stream(data, *options):
        return run("stream", "--model", weights, *options, input=data)

    return stream


def json_rows(data):
    rows = [json.loads(line) for line in data.splitlines()]
    return np.array([row["embedding"] for row in rows], np.float32), np.array([row["time_ms"] for row in rows])


def npy_rows(data):
    """Read from a pipe one by one, as a page of the documentation has it, and from a file by ``np.load``."""
    pipe, file, rows = io.BytesIO(data), io.BytesIO(data), []
    while pipe.tell() < len(data):
        rows.append(np.lib.format.read_array(SimpleNamespace(read=pipe.read)))
        np.testing.assert_array_equal(np.load(file), rows[-1])
    return np.array([row["embedding"] for row in rows]), np.array([row["time_ms"] for row in rows])


def wav(samples, rate=SAMPLE_RATE, subtype="PCM_16"):
    content = io.BytesIO()
    soundfile.write(content, samples, rate, format="WAV", subtype=subtype)
    return content.getvalue()


def endless(samples):
    """The same as FFmpeg writes it into a pipe, with lengths that it cannot know."""
    data = wav(samples)
    assert data[36:40] == b"data"
    return data[:40] + b"\xff" * 4 + data[44:]


@torch.no_grad()
def offline(data, model):
    """The rows of a sound in a file, and the statistics of that, as the option takes them."""
    wave = read_audio(io.BytesIO(data))
    embeddings, times = get_timestamp_embeddings(torch.from_numpy(wave)[None], model)
    mean, deviation = statistics([wave], SAMPLE_RATE)
    return embeddings[0].numpy(), times[0].numpy(), f"{float(mean)!r},{float(deviation)!r}"


@pytest.mark.parametrize(("format", "read"), [("json", json_rows), ("npy", npy_rows)])
@pytest.mark.parametrize(("rate", "channels"), [(SAMPLE_RATE, 1), (44_100, 2)])
def test_rows_are_the_timestamp_embeddings_of_the_sound(stream, model, format, read, rate, channels):
    data = wav(noise(round(2.3 * rate), channels).numpy() * np.linspace(0.1, 1, round(2.3 * rate))[:, None], rate)
    expected, times, measured = offline(data, model)
    result = stream(data, "--statistics", measured, "--format", format)
    assert result.exit_code == 0, result.output
    embeddings, own_times = read(result.stdout_bytes)
    np.testing.assert_allclose(embeddings, expected, rtol=0, atol=EQUAL)
    np.testing.assert_allclose(own_times, times, rtol=0, atol=0)
    assert result.stderr.splitlines() == [
        f"stdin: 16 bits, {channels} channel{'s' * (channels > 1)}, {rate:,} Hz; small: a row every 40 ms, 42.5 ms behind "
        f"the {'resampled ' * (rate != SAMPLE_RATE)}sound",
        f"2.3 s heard, {len(times)} rows written",
    ]


def test_every_number_of_a_line_is_exact(stream, model):
    sound = noise(20_000).numpy()
    lines, arrays = (stream(wav(sound), *GIVEN, "--format", format).stdout_bytes for format in ("json", "npy"))
    for one, other in zip(json_rows(lines), npy_rows(arrays), strict=True):
        np.testing.assert_array_equal(one, other)
    assert max(len(number) for number in lines.split(b"[")[1].split(b"]")[0].split(b", ")) <= 15


@pytest.mark.parametrize("raw", ["s16le", "f32le"])
def test_samples_without_a_header_are_read_as_they_are_said_to_be(stream, raw):
    sound = np.round(noise(40_000, 2).numpy() * 32_767) / 32_768
    data = (sound * 32_768).astype("<i2") if raw == "s16le" else sound.astype("<f4")
    result = stream(data.tobytes(), *GIVEN, "--raw", raw, "--rate", "32000", "--channels", "2")
    expected = stream(wav(sound, 32_000), *GIVEN)
    np.testing.assert_allclose(json_rows(result.stdout)[0], json_rows(expected.stdout)[0], rtol=0, atol=EQUAL)
    at_once = stream(np.zeros(SAMPLE_RATE, "<i2").tobytes(), *GIVEN, "--raw", "s16le")
    assert "16 bits, 1 channel, 16,000 Hz" in at_once.stderr


@pytest.mark.skipif(not ffmpeg.is_there(), reason="needs the program ffmpeg")
@pytest.mark.parametrize(
    ("how", "options"),
    [
        (["-f", "wav"], []),
        (["-f", "wav", "-c:a", "pcm_f32le"], []),
        (["-f", "wav", "-rf64", "always"], []),
        (["-f", "s16le"], ["--raw", "s16le", "--rate", "22050", "--channels", "2"]),
    ],
)
def test_what_ffmpeg_writes_into_a_pipe_is_read(stream, tmp_path, how, options):
    soundfile.write(tmp_path / "a.flac", noise(22_050, 2).numpy(), 22_050)
    program = [shutil.which("ffmpeg"), "-v", "error", "-i", tmp_path / "a.flac"]
    data = subprocess.run([*program, *how, "-"], check=True, capture_output=True).stdout
    found, expected = stream(data, *GIVEN, *options), stream(wav(soundfile.read(tmp_path / "a.flac")[0], 22_050), *GIVEN)
    np.testing.assert_allclose(json_rows(found.stdout)[0], json_rows(expected.stdout)[0], rtol=0, atol=EQUAL)


@pytest.mark.parametrize("statistics", ["running", "first"])
def test_statistics_may_be_learnt(stream, model, statistics):
    sound = noise(40_000).numpy()
    live = Stream(model, statistics=statistics, seconds=0.7)
    expected = torch.cat([live.push(np.float32(np.int16(sound * 32_768)) / 32_768).embeddings, live.flush().embeddings])
    result = stream(wav(np.int16(sound * 32_768)), "--statistics", statistics, "--seconds", "0.7")
    np.testing.assert_allclose(json_rows(result.stdout)[0], expected, rtol=0, atol=EQUAL)


def test_statistics_of_sounds_are_measured_and_told(stream, tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(30_000).numpy(), SAMPLE_RATE)
    mean, deviation = statistics([tmp_path])
    result = stream(wav(noise(20_000).numpy()), "--statistics", tmp_path)
    assert result.stderr.splitlines()[0] == f"{tmp_path}: --statistics {mean:.6g},{deviation:.6g}"
    given = stream(wav(noise(20_000).numpy()), "--statistics", f"{mean},{deviation}", "-q")
    assert given.stderr == ""
    np.testing.assert_array_equal(json_rows(result.stdout)[0], json_rows(given.stdout)[0])


def test_an_encoder_that_needs_whole_chunks_says_so(run, tmp_path, caplog):
    save_weights(Encoder(SSASTConfig(width=16, depth=1, heads=2)), tmp_path / "a.safetensors", {"source": "random"})
    result = run("stream", "--model", tmp_path / "a.safetensors", *GIVEN, input=wav(noise(40_000).numpy()))
    assert "embeddings come every 2 seconds" in caplog.text
    assert "a row every 40 ms, 2002.5 ms behind the sound" in result.stderr
    assert len(json_rows(result.stdout)[0]) == 63
    caplog.clear()
    quiet = run("stream", "--model", tmp_path / "a.safetensors", *GIVEN, "-q", input=wav(noise(40_000).numpy()))
    assert (quiet.stdout, quiet.stderr, caplog.text) == (result.stdout, "", "")


# what is bad


def certain(model, samples):
    """The rows of what is certain when this much was heard."""
    return len(Stream(model, statistics=(-8, 4)).push(samples).times)


NAN = noise(40_000).numpy()
NAN[30_000] = np.nan
HALF = (noise(30_000).numpy() * 32_768).astype("<i2").tobytes() + b"\1"


@pytest.mark.parametrize(
    ("data", "options", "heard", "said"),
    [
        (NAN.tobytes(), ["--raw", "f32le"], 30_000, "sample 30,000 is NaN or infinite"),
        (HALF, ["--raw", "s16le"], 30_000, "ends in the middle of a sample"),
        (wav(noise(30_000).numpy())[:-1_000], [], 29_500, "ends after 59,000 of the 60,000 bytes of sound that its header"),
        (wav(noise(30_000).numpy()) * 2, [], 30_000, "its header promises less than there is"),
        (noise(3_000).numpy().tobytes(), [], 0, "is no WAV"),
        (b"", [], 0, "nothing came"),
        (b"", ["--raw", "s16le"], 0, "0 samples at 16 kHz; expected 201 or more: too short to embed"),
        (bytes(400), ["--raw", "s16le"], 0, "200 samples at 16 kHz"),
    ],
    ids=["NaN", "half a sample", "cut", "joined", "no WAV", "nothing", "no samples", "too short"],
)
def test_what_came_before_is_out_and_one_line_says_what_is_bad(stream, model, data, options, heard, said):
    result = stream(data, *GIVEN, *options, "-q")
    assert result.exit_code == 1
    [line] = result.stderr.splitlines()
    assert line.startswith(f"error: stdin: {said}")
    assert len(json_rows(result.stdout)[0]) == (certain(model, noise(heard).numpy()) if heard else 0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--rate", "44100"], "--rate and --channels are for --raw samples"),
        (["--raw", "s16le", "--rate", "0"], "stdin: is at 0 Hz; expected 1,000 to 1,000,000 Hz"),
        (["--raw", "s16le", "--channels", "0"], "stdin: has 0 channels"),
        (
            ["--statistics", "nothing"],
            "--statistics is 'nothing'; expected running, first, MEAN,DEVIATION, or a path to sounds",
        ),
        (["--statistics", ""], "--statistics is ''; expected running"),
        (["--statistics", "1,-1"], "statistics is (1.0, -1.0)"),
        (["--statistics", "nan,1"], "statistics is (nan, 1.0)"),
        (["--device", "abacus"], "device"),
    ],
)
def test_options_that_cannot_be_carried_out(stream, options, said):
    result = stream(b"", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {said}")


def test_nobody_types_sound():
    ours, theirs = os.openpty()
    for stdin, said in ((theirs, "is a terminal"), (None, "is closed")):
        closed = {"preexec_fn": lambda: os.close(0)} if stdin is None else {}
        result = subprocess.run(PROGRAM, stdin=stdin, capture_output=True, text=True, **closed)
        assert result.returncode == 2
        assert result.stderr.startswith(f"error: stdin {said}; expected sound from a pipe or a file, as in `ffmpeg")
    os.close(ours)
    os.close(theirs)


# while it goes on


def started(weights, *options, **streams):
    command = [*PROGRAM, "--model", str(weights), *GIVEN, *options]
    return subprocess.Popen(
        command, **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    )


def ended(process):
    """The rest of what it writes, when it has ended."""
    rest, told = process.stdout.read(), process.stderr.read()
    process.wait()
    return rest, told


def test_rows_come_while_the_input_is_open(weights):
    """Also from a pipe that does not wait, as some programs leave it."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    process, data = started(weights, stdin=reader), endless(noise(SAMPLE_RATE + 1_000).numpy())
    sound = os.fdopen(writer, "wb", buffering=0)
    sound.write(data[: 44 + 2 * SAMPLE_RATE])
    rows = [process.stdout.readline() for _ in range(SECOND - 1)]
    assert process.poll() is None
    sound.write(data[44 + 2 * SAMPLE_RATE :])
    rows.append(process.stdout.readline())
    assert process.poll() is None
    sound.close()
    os.close(reader)
    rest, told = ended(process)
    assert process.returncode == 0, told
    assert json_rows(b"".join(rows) + rest)[1].tolist() == [15 + 40 * row for row in range(27)]


def test_ctrl_c_is_the_end_of_the_sound(weights):
    process = started(weights)
    process.stdin.write(wav(noise(SAMPLE_RATE).numpy())[:-1])
    process.stdin.flush()
    rows = b"".join(process.stdout.readline() for _ in range(SECOND - 1))
    process.send_signal(signal.SIGINT)
    rest, told = ended(process)
    assert process.returncode == 0, told
    assert len(json_rows(rows + rest)[0]) == SECOND
    assert told.splitlines()[1:] == [b"1.0 s heard, 25 rows written"]


@pytest.mark.parametrize("reader", ["quick", "slow"])
def test_whoever_has_read_enough_ends_an_endless_sound_quietly(weights, reader):
    zeros = os.open("/dev/zero", os.O_RDONLY)
    process = started(weights, "--raw", "s16le", "-q", stdin=zeros)
    os.close(zeros)
    assert process.stdout.readline().startswith(b'{"time_ms": 15.0, ')
    if reader == "slow":
        wait_until(lambda: unread(process.stdout) > MUCH, process)
    process.stdout.close()
    assert (process.wait(), process.stderr.read()) == (0, b"")


def unread(pipe):
    """How many bytes are in a pipe."""
    return struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0]


def test_rows_that_cannot_be_written_are_a_failure(weights):
    zeros, full = os.open("/dev/zero", os.O_RDONLY), os.open("/dev/full", os.O_WRONLY)
    process = started(weights, "--raw", "s16le", "-q", stdin=zeros, stdout=full)
    _, told = process.communicate()
    assert (process.returncode, told.splitlines()) == (
        1,
        [b"error: stdout cannot be written (No space left on device): its output is lost"],
    )
    os.close(zeros)
    os.close(full)
