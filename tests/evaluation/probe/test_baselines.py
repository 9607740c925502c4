"""Models that were never trained, used as those that were."""

import numpy as np
import pytest
import soundfile
import torch

from hear_axlstm.config import DEFAULT_LAYOUT, VARIANTS, AxLSTMConfig
from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import AudioError, ConfigError, WeightsError
from hear_axlstm.evaluation.probe.baselines import LogMel, is_baseline, load_baseline, random_encoder
from hear_axlstm.evaluation.subject import our_subject
from hear_axlstm.files import embed
from hear_axlstm.frontend import log_mel
from hear_axlstm.hear import load_model
from hear_axlstm.weights.save import fingerprint, save_weights
from tests.conftest import noise, tone

CONFIG = AxLSTMConfig(width=32, depth=1)


def test_log_mel_statistics_are_those_of_each_band():
    audio = noise(2, 31_840)
    mel = log_mel(audio).numpy()
    expected = np.concatenate([mel.mean(1), mel.std(1, ddof=1)], axis=1)
    np.testing.assert_allclose(LogMel()(audio), expected, atol=1e-5)


def test_log_mel_statistics_do_not_depend_on_batch_mates():
    audio, lengths = noise(3, 16_000), [16_000, 5_000, 201]
    found = LogMel()(audio, lengths)
    assert torch.isfinite(found).all()
    for row, length, own in zip(audio, lengths, found, strict=True):
        np.testing.assert_allclose(LogMel()(row[None, :length])[0], own, atol=1e-5)
    with pytest.raises(AudioError, match="holds NaN"):
        LogMel()(torch.full((1, 16_000), torch.nan))
    with pytest.raises(ConfigError, match="has none"):
        LogMel()(audio, layers=1)


def test_random_weights_are_those_of_their_seed_and_leave_torch_alone():
    state = torch.get_rng_state()
    encoders = [random_encoder(CONFIG, seed) for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    prints = [fingerprint(encoder) for encoder in encoders]
    assert prints[0] == prints[1] != prints[2]


def test_random_weights_have_the_architecture_and_the_layout_of_those_they_are_compared_with(tmp_path):
    default, random = load_model(), load_baseline("random")
    assert random.encoder.config == default.encoder.config
    assert random.layout == default.layout
    assert fingerprint(random.encoder) == fingerprint(random_encoder(default.encoder.config))
    save_weights(Encoder(CONFIG), tmp_path / "mine.safetensors", layout="time")
    mine = load_baseline(f"random:{tmp_path / 'mine.safetensors'}")
    assert (mine.encoder.config, mine.layout) == (CONFIG, "time")
    assert load_baseline(f"random:{tmp_path / 'mine.safetensors'}", layout="released").layout == "released"


def test_random_weights_of_a_variant_need_no_weights_of_it():
    model = load_baseline("random:ssam-tiny")
    assert (model.encoder.config, model.layout) == (VARIANTS["ssam-tiny"], DEFAULT_LAYOUT)
    with pytest.raises(WeightsError, match="nothing"):
        load_baseline("random:nothing.safetensors")


def test_a_baseline_is_known_by_its_name():
    assert all(map(is_baseline, ("random", "random:ssam-tiny", "log-mel")))
    assert not any(map(is_baseline, ("", "axlstm-tiny", "./random", "randomly", "log-mel.safetensors")))
    with pytest.raises(ConfigError, match="neither a layout nor a precision"):
        load_baseline("log-mel", layout="time")


@pytest.mark.parametrize("name", ["random", "log-mel"])
def test_baselines_embed_files_and_are_told_apart_in_results(tmp_path, name):
    """Through the door of all models, into a folder that can be continued."""
    soundfile.write(tmp_path / "a.wav", tone(440, 1.3), 16_000)
    soundfile.write(tmp_path / "b.wav", tone(220, 0.4), 16_000)
    model = load_baseline(name)
    found = embed([tmp_path / "a.wav", tmp_path / "b.wav"], model, out=tmp_path / "out")
    assert found.failures == {}
    assert len(np.load(tmp_path / "out" / "b.wav.embedding.npy")) == model.scene_embedding_size
    assert embed([tmp_path / "a.wav"], model, out=tmp_path / "out").skipped == ["a.wav"]
    record = our_subject(None, model, name).record
    assert record == our_subject(None, load_baseline(name), name).record
    assert record.options["baseline"]["family"] == {"random": "axlstm", "log-mel": "log-mel"}[name]
    assert len(record.weights_sha256) == 64
    assert record.weights_sha256 != our_subject(None, load_baseline("random:ssam-tiny"), name).record.weights_sha256
