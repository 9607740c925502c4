"""What weights are called: the same in memory, in a folder, and in a file."""

import shutil

import pytest
import torch

from hear_axlstm import embed, load_embeddings, load_model
from hear_axlstm.weights import names
from hear_axlstm.weights.find import find_weights, read_manifest
from hear_axlstm.weights.names import weights_name
from hear_axlstm.weights.save import fingerprint, save_weights

BUNDLED = read_manifest()["default"]


@pytest.fixture
def changed():
    model = load_model()
    with torch.no_grad():
        next(model.encoder.parameters()).add_(0.01)
    return model


def named(model):
    return f"axlstm-tiny {fingerprint(model.encoder)[:6]}"


@pytest.mark.parametrize("given", ["", BUNDLED, BUNDLED.replace("-", "_"), "path", "copy", "model"])
def test_bundled_weights_have_one_name(tmp_path, given):
    copy = tmp_path / "copy.safetensors"
    shutil.copy(find_weights(), copy)
    model = {"path": find_weights(), "copy": copy}.get(given, given)
    assert embed([], load_model() if model == "model" else model).weights == BUNDLED


def test_other_weights_are_called_by_their_fingerprint_however_they_are_given(changed, tmp_path):
    path = tmp_path / "mine.safetensors"
    save_weights(changed, path)
    assert {embed([], given).weights for given in (path, str(path), changed, load_model(path))} == {named(changed)}


@pytest.mark.parametrize("format", ["npy", "parquet"])
def test_the_name_goes_with_the_embeddings(changed, sound_folder, tmp_path, format):
    path, sound = tmp_path / "mine.safetensors", sound_folder / "a.wav"
    save_weights(changed, path)
    models = {"bundled": (load_model(), BUNDLED), "path": (path, named(changed)), "changed": (changed, named(changed))}
    for number, (model, name) in models.items():
        embed(sound, model, out=tmp_path / number, format=format)
        result = load_embeddings(tmp_path / number)
        assert result.weights == name
        result.save(tmp_path / f"{number}.npz")
        assert load_embeddings(tmp_path / f"{number}.npz").weights == result[:0].weights == name


def test_a_name_is_found_out_once_unless_weights_change(monkeypatch):
    model = load_model()
    assert weights_name(model.encoder) == BUNDLED
    monkeypatch.setattr(names, "fingerprint", lambda encoder: "38ea64" * 10)
    assert embed([], model.to("cpu")).weights == BUNDLED
    with torch.no_grad():
        next(model.encoder.parameters()).add_(0.01)
    assert embed([], model).weights == "axlstm-tiny 38ea64"
