"""The centring in a weights file: kept while it is true, dropped when it is not, refused when it is damaged."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from hear_axlstm.centring import Centring, centring_of
from hear_axlstm.config import AxLSTMConfig
from hear_axlstm.embedder import Embedder
from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import WeightsError
from hear_axlstm.hear import load_model
from hear_axlstm.weights.check import sealed
from hear_axlstm.weights.find import find_weights, manifest_entry, read_manifest
from hear_axlstm.weights.load import METADATA_KEY, read_header
from hear_axlstm.weights.save import save_weights

CONFIG = AxLSTMConfig(width=16, depth=1, patch=(8, 16))
SIZE = CONFIG.embedding_size


@pytest.fixture
def path(tmp_path):
    """Weights whose file has the time layout and a centring."""
    encoder = Encoder(CONFIG)
    encoder.layout = "time"
    sample = np.random.default_rng(0).normal(3, 1, (30, SIZE)).astype(np.float32)
    encoder.centring = Centring.measured(sample, "thirty clips").facts(Embedder(encoder, layout="time"))
    save_weights(encoder, tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


def saved_again(model, path, **options):
    save_weights(model, path.with_name("again.safetensors"), **options)
    return read_header(path.with_name("again.safetensors")).get("centring")


def test_a_model_has_the_centring_of_its_file(path):
    found = centring_of(load_model(path))
    assert found.source == "thirty clips"
    assert found.mean.shape == (SIZE,)
    assert found.directions.shape == (10, SIZE)
    assert found.gains.shape == (10,)
    assert np.abs(found.directions @ found.directions.T - np.eye(10)).max() < 0.01


def test_weights_that_are_saved_as_they_were_loaded_keep_it(path):
    facts = read_header(path)["centring"]
    assert saved_again(load_model(path), path) == facts
    assert saved_again(load_model(path).encoder, path) == facts
    assert saved_again(load_model(path).half(), path) == facts


def test_fine_tuned_weights_drop_it(path):
    model = load_model(path)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    model(torch.randn(2, 16_000)).square().mean().backward()
    optimiser.step()
    assert centring_of(model) is None
    assert saved_again(model, path) is None


def test_another_layout_drops_it(path):
    model = load_model(path, layout="released")
    assert centring_of(model) is None
    assert saved_again(model, path) is None
    assert saved_again(load_model(path), path, layout="released") is None


def test_another_encoder_with_the_same_tensors_drops_it(path):
    model = load_model(path)
    model.encoder.config = replace(CONFIG, flip=True)
    assert saved_again(model, path) is None


def test_a_file_without_one_loads_as_ever(path):
    save_weights(Encoder(CONFIG), path)
    assert "centring" not in read_header(path)
    assert centring_of(load_model(path)) is None


def rewrite(path, change):
    """Save the file again, its fingerprint made anew, after ``change(centring)``, which returns another centring or None."""
    with safe_open(path, "pt") as file:
        facts = json.loads(file.metadata()[METADATA_KEY])
    centring, tensors = facts["centring"], load_file(path)
    other = change(centring)
    facts["centring"] = centring if other is None else other
    del facts["sha256"]
    save_file(tensors, path, metadata={METADATA_KEY: json.dumps(sealed(facts, tensors), sort_keys=True)})


@pytest.mark.parametrize(
    "change",
    [
        lambda c: [],
        lambda c: c.pop("source") and None,
        lambda c: c.update(extra=1),
        lambda c: c.update(source=None),
        lambda c: c.update(mean=c["mean"][1:]),
        lambda c: c["mean"].__setitem__(0, "NaN"),
        lambda c: c["mean"].__setitem__(0, 1e30),
        lambda c: c["mean"].__setitem__(0, True),
        lambda c: c["mean"].__setitem__(0, None),
        lambda c: c["directions"].__setitem__(0, 0.5),
        lambda c: c["directions"][3].append(0.0),
        lambda c: c.update(gains=c["gains"][1:]),
    ],
    ids=[
        "no object", "a key less", "a key more", "no source", "a short mean", "text", "too large", "a boolean", "null",
        "no direction", "a long direction", "too few gains",
    ],
)  # fmt: skip
def test_a_centring_that_does_not_fit_is_refused(path, change):
    rewrite(path, change)
    with pytest.raises(WeightsError, match=r"does not say which encoder this is \((centring|source|mean)"):
        load_model(path)


def test_a_number_that_was_changed_is_found(path):
    with safe_open(path, "pt") as file:
        facts = json.loads(file.metadata()[METADATA_KEY])
    facts["centring"]["mean"][0] += 0.001
    save_file(load_file(path), path, metadata={METADATA_KEY: json.dumps(facts, sort_keys=True)})
    with pytest.raises(WeightsError, match="is damaged"):
        load_model(path)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN"])
def test_a_header_with_a_number_that_is_none_is_refused(tmp_path, number):
    path = tmp_path / "weights.safetensors"
    save_weights(Encoder(CONFIG), path, {"loss": 0.25})
    with safe_open(path, "pt") as file:
        text = file.metadata()[METADATA_KEY]
    save_file(load_file(path), path, metadata={METADATA_KEY: text.replace("0.25", number)})
    with pytest.raises(WeightsError, match="does not say which encoder"):
        load_model(path)


def test_the_bundled_weights_have_a_small_one():
    path = find_weights()
    header = read_header(path)
    assert header["sha256"] == manifest_entry(read_manifest()["default"])["sources"]["bundled"]["fingerprint"]
    assert len(json.dumps(header["centring"])) < 100_000
    assert centring_of(load_model()).source == header["centring"]["source"]
