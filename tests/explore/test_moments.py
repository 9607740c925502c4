"""One sound's moments: what they are, how similar they are, averaged where they are many, as pictures and as a page."""

import json
import re
import sys

import numpy as np
import pytest
import soundfile
import torch

import hear_axlstm
from hear_axlstm import Embedder, Encoder, get_timestamp_embeddings, moments
from hear_axlstm.config import SAMPLE_RATE, AxLSTMConfig
from hear_axlstm.errors import AudioError, ConfigError
from hear_axlstm.explore import moments as room
from hear_axlstm.explore import moments_page, spectrogram
from hear_axlstm.frontend import log_mel, mel_filters
from tests.conftest import tone
from tests.explore.conftest import HOSTILE

CLOSE = {"atol": 1e-5, "rtol": 0}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Embedder(Encoder(AxLSTMConfig(width=16, depth=2)))


@pytest.fixture(scope="module")
def wave():
    """Two tones, and the first again: 3 s."""
    return np.concatenate([tone(400, 1), tone(3_000, 1), tone(400, 1)]) + 0.01 * np.random.default_rng(0).normal(size=48_000)


@pytest.fixture(scope="module")
def shown(wave, model):
    return moments(wave, model, sample_rate=SAMPLE_RATE)


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_it_is_what_the_encoder_sees(shown, wave, model):
    clip = torch.from_numpy(wave.astype(np.float32))[None]
    embeddings, times = get_timestamp_embeddings(clip, model)
    np.testing.assert_allclose(shown.wave, wave, **CLOSE)
    np.testing.assert_allclose(shown.log_mel, log_mel(clip)[0], **CLOSE)
    np.testing.assert_allclose(shown.embeddings, embeddings[0].detach(), **CLOSE)
    np.testing.assert_allclose(shown.times, times[0])
    assert (len(shown), shown.step, shown.seconds) == (75, 0.04, 3.0)
    np.testing.assert_allclose((shown.edges[:-1] + shown.edges[1:]) / 2, shown.times / 1000, atol=1e-6)
    assert "75 moments of sound, every 40 ms" in repr(shown)


def test_moments_of_one_tone_are_alike(shown):
    found = shown.similarity
    assert (found.shape, found.dtype) == ((75, 75), np.float32)
    assert np.array_equal(found, found.T)
    assert np.array_equal(np.diag(found), np.ones(75))
    assert np.abs(found).max() <= 1
    first, other, again = slice(3, 22), slice(28, 47), slice(55, 72)
    assert found[first, again].mean() > 0.1
    assert found[first, other].mean() < 0


def test_similarity_is_the_cosine_without_the_mean():
    rows = np.random.default_rng(0).normal(5, 1, (6, 4)).astype(np.float32)
    own = rows - rows.mean(0)
    expected = own @ own.T / np.outer(*[np.linalg.norm(own, axis=1)] * 2)
    np.testing.assert_allclose(room.similarity(rows), expected, atol=1e-5)
    assert room.similarity(np.ones((3, 4), np.float32)).tolist() == np.eye(3).tolist()


@pytest.mark.parametrize("samples", [201, 300, 641, 32_000])
def test_the_shortest_sounds_have_a_moment(samples, model, tmp_path):
    shown = moments((np.random.default_rng(0).uniform(-1, 1, samples), SAMPLE_RATE), model)
    assert len(shown) == len(shown.similarity) >= 1
    assert np.isfinite(shown.similarity).all()
    for name in ("a.png", "a.html"):
        shown.draw(tmp_path / name)


def test_silence_can_be_shown(model, tmp_path):
    shown = moments((np.zeros(16_000), SAMPLE_RATE), model)
    assert np.isfinite(shown.similarity).all()
    shown.draw(tmp_path / "silence.png")
    assert set(data_of(shown.to_html())) >= {"wave", "mel"}


def test_of_many_moments_neighbours_are_averaged(wave, model, shown, monkeypatch):
    monkeypatch.setattr(room, "MOST", 20)
    few = moments(wave, model, sample_rate=SAMPLE_RATE)
    assert (len(few), few.step) == (19, 0.16)
    np.testing.assert_allclose(few.embeddings[0], shown.embeddings[:4].mean(0), **CLOSE)
    np.testing.assert_allclose(few.embeddings[-1], shown.embeddings[72:].mean(0), **CLOSE)
    np.testing.assert_allclose(few.times[:2], [75, 235])
    assert few.log_mel.shape == shown.log_mel.shape


@pytest.mark.parametrize("most", [1, 7, 10, 100])
def test_fewer_rows_are_means(most):
    rows = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    found = spectrogram.fewer(rows, most)
    each = -(-10 // most)
    np.testing.assert_allclose(found, [rows[at : at + each].mean(0) for at in range(0, 10, each)], **CLOSE)
    low, high = spectrogram.envelope(rows[:, 0], most).T
    assert len(low) <= most
    assert (low.min(), high.max()) == (rows[:, 0].min(), rows[:, 0].max())


def test_a_frequency_lies_in_its_band():
    peaks = mel_filters().argmax(0) * 40  # Hz of the bin in which a band is loudest
    for band in (20, 40, 60, 79):
        assert spectrogram.band_of(float(peaks[band])) == pytest.approx(band + 0.5, abs=0.5)


def test_a_log_mel_is_drawn_in_seconds_and_hz(shown):
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    image = spectrogram.draw_log_mel(axes, shown.log_mel, start_seconds=2.0, vmin=-1)
    assert image.get_extent() == pytest.approx([1.995, 1.995 + 0.01 * len(shown.log_mel), 0, 80])
    assert image.get_clim()[0] == -1
    assert [label.get_text() for label in axes.get_yticklabels()] == ["250", "500", "1,000", "2,000", "4,000"]
    np.testing.assert_allclose(image.get_array(), shown.log_mel.T)
    with pytest.raises(ConfigError, match=r"log_mel has shape \(80, 301\)"):
        spectrogram.draw_log_mel(axes, shown.log_mel.T)


@pytest.mark.parametrize(("name", "begins"), [("a.png", b"\x89PNG"), ("a.SVG", b"<?xml"), ("a.pdf", b"%PDF")])
def test_pictures_by_suffix(shown, tmp_path, name, begins):
    shown.draw(tmp_path / name)
    first = (tmp_path / name).read_bytes()
    assert first.startswith(begins)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_equal_sounds_make_equal_pictures(shown, tmp_path):
    for name in ("a.png", "b.png"):
        shown.draw(tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_page_holds_the_sound_and_its_numbers(shown):
    data = data_of(shown.to_html())
    assert (data["seconds"], data["heard"], data["step"]) == (3.0, 3.0, 0.04)
    upper = np.frombuffer(moments_page.base64.b64decode(data["similarity"]), np.uint8) / data["steps"] * 2 - 1
    np.testing.assert_allclose(upper, shown.similarity[np.triu_indices(75)], atol=0.005)
    address = re.search('src="data:audio/flac;base64,([^"]*)"', shown.to_html())[1]
    sound, rate = soundfile.read(moments_page.io.BytesIO(moments_page.base64.b64decode(address)))
    assert rate == SAMPLE_RATE
    np.testing.assert_allclose(sound, shown.wave, atol=1e-4)


def test_of_a_long_sound_a_page_holds_the_beginning_and_says_so(shown, monkeypatch):
    whole = shown.to_html()
    monkeypatch.setattr(moments_page, "HEARD_SECONDS", 2)
    page = shown.to_html()
    assert "It plays the first 2 s alone" in page
    assert data_of(page)["heard"] == 2
    assert len(page) < len(whole)


def test_what_is_too_loud_plays_softer():
    assert np.abs(moments_page.loud_enough(np.array([-4.0, 2.0], np.float32))).max() == 1
    assert moments_page.loud_enough(np.array([-0.5, 0.2], np.float32)).min() == -0.5


@pytest.mark.filterwarnings("error")
def test_a_hostile_name_stays_text(model, tmp_path):
    path = tmp_path / f"{HOSTILE.replace('/', '_')} $x^2_{{ \u9ce5.wav"
    soundfile.write(path, tone(500, 0.5), SAMPLE_RATE)
    shown = moments(path, model)
    page = shown.to_html()
    assert "<img" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    shown.draw(tmp_path / "a.png")
    shown.draw(tmp_path / "a.html")
    assert (tmp_path / "a.html").read_text() == page


@pytest.mark.parametrize("name", ["a.wav", "png", "a"])
def test_other_suffixes_are_refused(shown, tmp_path, name):
    with pytest.raises(ConfigError, match=r"expected a picture, .png, .svg or .pdf, or a page, .html"):
        shown.draw(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_embedded_is_named(model, tmp_path):
    with pytest.raises(AudioError, match=r"absent.wav: no such file"):
        moments(tmp_path / "absent.wav", model)
    with pytest.raises(AudioError, match="sound: 100 samples at 16 kHz; expected 201 or more"):
        moments((np.zeros(100), SAMPLE_RATE), model)
    with pytest.raises(ConfigError, match="model is a dict; expected a name"):
        moments((np.zeros(1_000), SAMPLE_RATE), {})


@pytest.mark.parametrize(("package", "name"), [("matplotlib", "a.png"), ("jinja2", "a.html")])
def test_what_is_missing_is_said(shown, tmp_path, monkeypatch, package, name):
    for module in [one for one in sys.modules if one.partition(".")[0] == package]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=re.escape("pip install 'hear-axlstm[explore]'")):
        shown.draw(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_the_model_may_be_a_name(random_weights, wave):
    shown = hear_axlstm.moments((wave[:8_000], SAMPLE_RATE), random_weights("ssast-tiny"))
    assert shown.weights.startswith("ssast-tiny ")
