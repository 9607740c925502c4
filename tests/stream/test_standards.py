"""What frames are standardised by while the whole sound is not there."""

import math

import numpy as np
import pytest
import soundfile
import torch

import hear_axlstm
from hear_axlstm.errors import AudioError, ConfigError
from hear_axlstm.frontend import log_mel
from hear_axlstm.stream import Statistics, Stream
from hear_axlstm.stream.standards import Standard, Tally
from tests.conftest import tone
from tests.stream.conftest import offline, own_statistics, rising
from tests.tolerances import STREAMED


def frames(count, seed=0):
    return np.random.default_rng(seed).normal(-5, 3, (count, 80))


def test_a_tally_has_the_mean_and_deviation_of_all_values():
    mel, tally = frames(100), Tally()
    for start in range(0, 100, 7):
        tally.add(mel[start : start + 7])
    assert tally.statistics == pytest.approx((mel.mean(), mel.std(ddof=1)))


def test_silence_has_no_deviation():
    tally = Tally()
    tally.add(np.full((1_000, 80), math.log(1.1920929e-07)))
    assert tally.statistics.deviation == 0.0
    assert not Standard("running", 1.0).push(np.full((50, 80), -15.942385)).any()


def test_running_statistics_are_an_exponential_average():
    """A frame that is ``seconds`` old counts 1/e of the present one."""
    mel, seconds = frames(300), 0.5
    found = Standard("running", seconds).push(mel)
    weights = np.exp(-0.01 * np.arange(299, -1, -1) / seconds)
    mean = (weights @ mel.mean(1)) / weights.sum()
    variance = (weights @ np.square(mel - mean).mean(1)) / weights.sum() * (80 * weights.sum() / (80 * weights.sum() - 1))
    np.testing.assert_allclose(found[-1], (mel[-1] - mean) / np.sqrt(variance), rtol=1e-7)
    standard = Standard("running", seconds)
    np.testing.assert_allclose(np.concatenate([standard.push(mel[:7]), standard.push(mel[7:])]), found, rtol=1e-12)


@pytest.mark.parametrize(("seconds", "count"), [(30.0, 100), (0.5, 50)])
def test_running_statistics_begin_with_the_first_second_or_fewer(seconds, count):
    """A frame alone has no deviation to speak of."""
    mel, standard = frames(300), Standard("running", seconds)
    assert len(standard.push(mel[: count - 1])) == 0
    found = np.concatenate([standard.push(mel[count - 1 : 150]), standard.push(mel[150:])])
    assert len(found) == 300
    tally = Tally(np.exp(-0.01 / seconds))
    tally.add(mel[:count])
    first = tally.statistics
    np.testing.assert_allclose(found[:count], (mel[:count] - first.mean) / first.deviation, rtol=1e-6)
    np.testing.assert_allclose(found[count:], tally.standardised(mel[count:]), rtol=1e-6)


def test_first_waits_for_its_seconds_and_keeps_what_it_learnt():
    mel, standard = frames(300), Standard("first", 1.0)
    assert len(standard.push(mel[:99])) == 0
    found = np.concatenate([standard.push(mel[99:150]), standard.push(mel[150:]), standard.end()])
    np.testing.assert_allclose(found, (mel - mel[:100].mean()) / mel[:100].std(ddof=1), rtol=1e-6)


def test_a_sound_that_ends_while_it_is_learnt_from_is_as_offline(small):
    model, clip = small("axlstm"), rising(30_000)
    stream = Stream(model, statistics="first", seconds=60)
    assert len(stream.push(clip).embeddings) == 0
    expected, times, scene = offline(clip, model)
    torch.testing.assert_close(stream.scene(), scene, rtol=0, atol=STREAMED)
    found = stream.flush()
    torch.testing.assert_close(found.embeddings, expected, rtol=0, atol=STREAMED)
    torch.testing.assert_close(found.times.float(), times)


def test_the_statistics_of_a_clip_are_those_it_is_embedded_with(tmp_path):
    clip = rising(40_000)
    found = hear_axlstm.statistics((clip.numpy(), 16_000))
    assert isinstance(found, Statistics)
    assert found == pytest.approx(own_statistics(clip), abs=1e-5)
    mel = log_mel(clip[None])[0]
    raw = hear_axlstm.frontend.log_mel_frames(clip[None], [len(clip)])[0]
    torch.testing.assert_close((raw - found.mean) / (found.deviation + 1e-8), mel, rtol=0, atol=1e-4)


def test_the_statistics_of_files_count_every_frame_once(tmp_path):
    for name, seconds, rate in (("a.wav", 1.0, 16_000), ("b.flac", 0.5, 44_100)):
        soundfile.write(tmp_path / name, 0.1 * tone(300, seconds, rate) + 1e-3, rate)
    parts = [hear_axlstm.statistics(tmp_path / name) for name in ("a.wav", "b.flac")]
    both, counts = hear_axlstm.statistics(tmp_path), (101, 51)
    assert both.mean == pytest.approx(np.average([part.mean for part in parts], weights=counts), abs=1e-6)
    assert both == pytest.approx(hear_axlstm.statistics([tmp_path / "b.flac", tmp_path / "a.wav"]), abs=1e-6)


def test_sounds_that_cannot_be_measured_are_named(tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    soundfile.write(tmp_path / "short.wav", np.zeros(100), 16_000)
    for name, words in (("broken.wav", "cannot be decoded"), ("short.wav", "too short")):
        with pytest.raises(AudioError, match=rf"{name}: .*{words}"):
            hear_axlstm.statistics(tmp_path / name)
    with pytest.raises(AudioError, match="no such file"):
        hear_axlstm.statistics(tmp_path / "missing.wav")
    with pytest.raises(AudioError, match="no sounds"):
        hear_axlstm.statistics([])
    with pytest.raises(AudioError, match="NaN"):
        hear_axlstm.statistics((np.full(1_000, np.nan), 16_000))
    with pytest.raises(ConfigError):
        hear_axlstm.statistics(np.zeros(1_000))
