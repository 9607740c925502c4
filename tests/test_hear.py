"""The HEAR functions of the package and of one module a variant."""

import inspect

import pytest
import torch

import hear_axlstm
from hear_axlstm.errors import ConfigError, WeightsError
from hear_axlstm.hear import axlstm_tiny, ssam_tiny
from tests.conftest import noise


def test_signatures_are_the_documented_ones():
    defaults = {name: p.default for name, p in inspect.signature(hear_axlstm.load_model).parameters.items()}
    options = {"variant": None, "layout": None, "precision": "auto", "backend": "auto", "device": "cpu"}
    assert list(defaults.items()) == [("model_file_path", ""), *options.items()]
    for function in (hear_axlstm.get_scene_embeddings, hear_axlstm.get_timestamp_embeddings):
        assert list(inspect.signature(function).parameters) == ["audio", "model", "lengths", "layers"]


def test_the_package_and_a_variants_module_agree(random_weights):
    audio = noise(2, 20_000)
    path = random_weights("axlstm-tiny")
    ours, theirs = hear_axlstm.load_model(path), axlstm_tiny.load_model(str(path))
    assert isinstance(ours, torch.nn.Module)
    assert (ours.sample_rate, ours.scene_embedding_size, ours.timestamp_embedding_size) == (16_000, 960, 960)
    with torch.no_grad():
        scene = hear_axlstm.get_scene_embeddings(audio, ours)
        assert torch.equal(scene, axlstm_tiny.get_scene_embeddings(audio, theirs))
        embeddings, timestamps = hear_axlstm.get_timestamp_embeddings(audio, ours)
    assert scene.shape == (2, 960)
    assert embeddings.shape == (*timestamps.shape, 960)
    assert scene.dtype == embeddings.dtype == timestamps.dtype == torch.float32


def test_options_reach_the_model(random_weights):
    model = axlstm_tiny.load_model(random_weights("axlstm-tiny"), layout="time", precision="bfloat16", backend="torch")
    assert model.layout == "time"
    assert model.backend == "torch"
    assert model.compute_dtype == torch.bfloat16
    with pytest.raises(ConfigError, match="layout is 'mel'"):
        hear_axlstm.load_model(random_weights("axlstm-tiny"), layout="mel")


def test_weights_of_another_variant_are_refused(random_weights):
    with pytest.raises(WeightsError, match=r"but SSAMConfig\(.* is wanted"):
        ssam_tiny.load_model(random_weights("axlstm-tiny"))


def test_a_foreign_model_is_refused():
    with pytest.raises(ConfigError, match=r"expected what hear_axlstm\.load_model returns"):
        hear_axlstm.get_scene_embeddings(noise(1, 16_000), torch.nn.Linear(1, 1))


def test_a_model_is_loaded_onto_a_device():
    for device in ("cpu", torch.device("cpu"), "auto"):
        assert hear_axlstm.load_model(device=device).device.type == (
            "cuda" if torch.cuda.is_available() and device == "auto" else "cpu"
        )


@pytest.mark.parametrize("device", ["gpu", "cuda:99", None])
def test_a_device_that_there_is_not_is_refused(device):
    with pytest.raises(ConfigError, match=r"cannot be used \(.*expected cpu, cuda, cuda:1 or auto"):
        hear_axlstm.load_model(device=device)
