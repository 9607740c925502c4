"""Recordings too long to be held: their embedding is that of the whole."""

import numpy as np
import pytest
import soundfile
import torch

import hear_axlstm
from hear_axlstm.audio import read_audio
from hear_axlstm.config import AxLSTMConfig, SSASTConfig
from hear_axlstm.embedder import Embedder
from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import AudioError
from hear_axlstm.files import decode, long
from hear_axlstm.files.long import embed_long
from tests.conftest import noise, tone
from tests.tolerances import BATCH_MATES, BATCH_MATES_FLOAT64

EDGES = [201, 400, 31_999, 32_000, 32_160, 95_800, 96_000, 96_001, 96_159, 96_160, 100_000, 192_201]


@pytest.fixture
def model() -> Embedder:
    return Embedder(Encoder(AxLSTMConfig(width=16, depth=1)).eval().double())


@pytest.fixture(params=[10**9, 0], ids=["held", "decoded twice"])
def pieces(request, monkeypatch):
    """Pieces of three chunks, so that short sounds have several."""
    monkeypatch.setattr(long, "PIECE_CHUNKS", 3)
    monkeypatch.setattr(long, "HELD_FRAMES", request.param)


def in_blocks(wave, largest=50_000):
    """A decoder that gives the wave in blocks of uneven lengths, the same ones each time."""

    def decode():
        lengths, start = np.random.default_rng(0), 0
        while start < len(wave):
            stop = start + int(lengths.integers(1, largest))
            yield wave[start:stop]
            start = stop

    return decode


def close(ours, whole):
    assert ours.shape == tuple(whole.shape)
    assert np.abs(ours - whole.numpy()).max() < BATCH_MATES_FLOAT64


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("samples", EDGES)
def test_scene(model, samples):
    audio = noise(1, samples) * torch.linspace(0, 1, samples)
    embedding, times = embed_long(in_blocks(audio[0].numpy()), model)
    assert times is None
    with torch.no_grad():
        close(embedding, model(audio)[0])


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("samples", EDGES)
def test_timestamps(model, samples):
    audio = noise(1, samples) * torch.linspace(0, 1, samples)
    embedding, times = embed_long(in_blocks(audio[0].numpy()), model, timestamps=True)
    with torch.no_grad():
        whole, centres = model.timestamps(audio)
    close(embedding, whole[0])
    close(times, centres[0])


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("timestamps", [False, True], ids=["scene", "timestamps"])
def test_layers_of_another_family(timestamps):
    model, audio = Embedder(Encoder(SSASTConfig(width=16, depth=1, heads=2)).eval().double()), noise(1, 100_000)
    embedding, _ = embed_long(in_blocks(audio[0].numpy()), model, timestamps=timestamps, layers=[0, -1])
    with torch.no_grad():
        whole = model.timestamps(audio, layers=[0, -1])[0] if timestamps else model(audio, layers=[0, -1])
    close(embedding, whole[:, 0])


def test_float32():
    model, audio = hear_axlstm.load_model(), noise(1, 200_000)
    embedding, _ = embed_long(in_blocks(audio[0].numpy()), model)
    with torch.no_grad():
        assert np.abs(embedding - model(audio)[0].numpy()).max() < BATCH_MATES


def test_silence_and_blocks_of_one_sample(model):
    embedding, _ = embed_long(in_blocks(np.zeros(1_000, np.float32), largest=2), model)
    with torch.no_grad():
        close(embedding, model(torch.zeros(1, 1_000))[0])


@pytest.mark.usefixtures("pieces")
def test_samples_that_overflow_are_refused(model):
    model = model.float()
    with pytest.raises(AudioError, match="too large to analyse"):
        embed_long(in_blocks(np.full(1_000, 1e30, np.float32)), model)


def test_a_recording_that_grows_meanwhile_is_refused(model, monkeypatch):
    monkeypatch.setattr(long, "HELD_FRAMES", 0)
    lengths = iter([50_000, 60_000])
    with pytest.raises(AudioError, match="changed while it was read"):
        embed_long(lambda: [noise(next(lengths)).numpy()], model)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_long_file_is_embedded_beside_others(model, tmp_path, monkeypatch, workers):
    monkeypatch.setattr(decode, "LONGEST_SECONDS", 5.0)
    for name, seconds in ("short", 1.0), ("long", 9.0), ("also-long", 6.0):
        soundfile.write(tmp_path / f"{name}.flac", tone(440, seconds, 8_000), 8_000)
    (tmp_path / "none.wav").write_bytes(b"nothing")
    result = hear_axlstm.embed([tmp_path], model, workers=workers)
    assert result.embedded == ["also-long.flac", "long.flac", "short.flac"]
    assert list(result.failures) == ["none.wav"]
    for name, embedding in result[result.ok]:
        with torch.no_grad():
            close(embedding, model(torch.tensor(read_audio(tmp_path / name))[None])[0])


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("level", [1e-6, 1e-7])
def test_what_hardly_differs_from_silence_in_float32(level):
    """The deviation is near the last digits of the mean, which must not be added to what it is subtracted from."""
    model = Embedder(Encoder(SSASTConfig(width=16, depth=1, heads=2)).eval())
    audio = level * noise(1, 100_000)
    with torch.no_grad():
        whole = model(audio)[0]
    embedding, _ = embed_long(in_blocks(audio[0].numpy()), model)
    assert np.abs(embedding - whole.numpy()).max() < BATCH_MATES
