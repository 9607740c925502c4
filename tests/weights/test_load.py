"""Weights on disk: whole, strict, self-describing."""

import json

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from hear_axlstm.config import AxLSTMConfig, SSAMConfig
from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import ConfigError, WeightsError
from hear_axlstm.hear import load_model
from hear_axlstm.weights import check
from hear_axlstm.weights.check import read_metadata
from hear_axlstm.weights.load import METADATA_KEY, load_weights, read_header
from hear_axlstm.weights.save import fingerprint, save_weights, write_weights

CONFIG = AxLSTMConfig(width=16, depth=2, expansion=2, flip=True, input_gate="sigmoid", patch=(8, 16))


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(Encoder(CONFIG), path, {"source": "a test"})
    return path


def rewrite(path, change):
    """Save the file again after ``change(tensors, header)``."""
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()[METADATA_KEY])
    tensors = load_file(path)
    change(tensors, header)
    save_file(tensors, path, metadata={METADATA_KEY: json.dumps(header)})


def test_a_file_rebuilds_its_encoder_alone(path):
    encoder, header = load_weights(path)
    assert encoder.config == header["config"] == CONFIG
    assert header == read_header(path)
    assert header["provenance"] == {"source": "a test"}
    assert not encoder.training
    assert all(p.requires_grad and p.dtype == torch.float32 for p in encoder.parameters())
    again = path.with_name("again.safetensors")
    save_weights(encoder, again)
    assert fingerprint(load_weights(again)[0]) == fingerprint(encoder)


def test_a_file_says_the_layout_of_its_scene_embeddings(path):
    assert load_model(path).layout == "released"
    save_weights(load_weights(path)[0], path, layout="time")
    assert read_header(path)["layout"] == load_model(path).layout == "time"
    assert load_model(path, layout="released").layout == "released"
    with pytest.raises(ConfigError, match="layout is 'mel'"):
        save_weights(Encoder(CONFIG), path, layout="mel")


def test_the_header_is_read_once_a_load(path, monkeypatch):
    opened = []
    monkeypatch.setattr(check, "read_metadata", lambda path: opened.append(path) or read_metadata(path))
    load_model(path, variant=None)
    assert len(opened) == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_files_of_any_precision_load_as_float32(path, dtype):
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(path).items()}
    write_weights(CONFIG, tensors, path, {}, layout="time")
    assert {tensor.dtype for tensor in load_file(path).values()} == {dtype}
    assert all(p.dtype == torch.float32 for p in load_weights(path)[0].parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, h: t.pop("cls_token"), "cls_token is missing"),
        (lambda t, h: t.update(extra=torch.zeros(1)), "extra is unknown"),
        (lambda t, h: t.update(cls_token=torch.zeros(1, 1, 8)), r"cls_token has shape \(1, 1, 8\), expected \(1, 1, 16\)"),
        (lambda t, h: t.update(cls_token=torch.zeros(1, 1, 16, dtype=torch.int32)), "expected floating point"),
        (lambda t, h: t["cls_token"].fill_(torch.nan), "is damaged"),
        (lambda t, h: h["config"].update(depth=3), "blocks.2.conv.bias is missing.* more"),
        (lambda t, h: h["config"].update(family="lstm"), "family is 'lstm'"),
        (lambda t, h: h.update(layout="mel"), "layout is 'mel'"),
        (lambda t, h: h.update(format=4), "update hear-axlstm"),
        (lambda t, h: h.update(format=1), "hear-axlstm convert .*weights-3.safetensors` rewrites it"),
        (lambda t, h: h.update(format=2), "hear-axlstm convert .*weights-3.safetensors` rewrites it"),
        (lambda t, h: h.pop("layout"), "does not say which encoder"),
        (lambda t, h: h.pop("config"), "does not say which encoder"),
    ],
)
def test_what_does_not_fit_is_refused(path, change, message):
    rewrite(path, change)
    with pytest.raises(WeightsError, match=message):
        load_model(path)


def test_a_truncated_file_is_refused(path):
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        load_model(path)


def test_any_other_file_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="no such file"):
        load_model(tmp_path / "absent.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        load_model(tmp_path / "text.safetensors")
    (tmp_path / "checkpoint-99.pth").write_bytes(b"x")
    with pytest.raises(WeightsError, match="hear-axlstm convert"):
        load_model(tmp_path / "checkpoint-99.pth")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="does not say which encoder"):
        load_model(tmp_path / "other.safetensors")


def test_the_fingerprint_follows_tensors_and_configuration():
    encoder = Encoder(CONFIG)
    before = fingerprint(encoder)
    with torch.no_grad():
        encoder.cls_token[0, 0, 0] += 1e-3
    assert fingerprint(encoder) != before
    assert fingerprint(encoder) == fingerprint(encoder)
    one = Encoder(SSAMConfig(width=16, depth=1))
    assert fingerprint(one) != fingerprint(one.half())


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError("No space left on device"), "No space"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "cannot be written .*No space left"),
    ],
    ids=["of the system", "of safetensors"],
)
def test_an_interrupted_write_leaves_what_was_there_and_nothing_else(path, monkeypatch, error, said):
    before = path.read_bytes()

    def fails(tensors, target, metadata):
        target.write_bytes(b"half")
        raise error

    monkeypatch.setattr("hear_axlstm.weights.save.save_file", fails)
    with pytest.raises(OSError, match=said):
        save_weights(Encoder(CONFIG), path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
