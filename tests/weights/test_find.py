"""From what a user calls a model to its file: the order of sources, and the steps when there are none."""

import shutil

import pytest

from hear_axlstm import find_weights, load_model
from hear_axlstm.errors import ConfigError, WeightsError
from hear_axlstm.weights import find as module
from hear_axlstm.weights import sources
from hear_axlstm.weights.find import PACKAGE, architecture, manifest_entry, read_manifest
from hear_axlstm.weights.load import read_header
from hear_axlstm.weights.sources import cache_file

VARIANT = "axlstm-tiny-e2"
DEFAULT = read_manifest()["default"]


def test_without_weights_the_steps_are_shown():
    with pytest.raises(WeightsError) as caught:
        load_model(variant=VARIANT)
    message = str(caught.value)
    assert "https://drive.google.com/drive/folders/1SyNvA7a6jrWmRwYYj85ggADiKBpDpGLK" in message
    assert "axlstm_tiny_200_16x4_4x256_fp16_r1/checkpoints/checkpoint-99.pth" in message
    assert f"hear-axlstm convert checkpoint-99.pth {cache_file(VARIANT)} --flip" in message


def test_what_is_not_known_is_said():
    with pytest.raises(WeightsError, match=r"not known, nor whether it is there[\s\S]*--no-flip"):
        find_weights("axlstm-base")


def test_the_default_is_bundled(monkeypatch):
    """Wherever else weights may be: no cache, no network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert load_model().encoder.config == architecture(DEFAULT)
    bundled = PACKAGE / manifest_entry(DEFAULT)["sources"]["bundled"]["file"]
    assert find_weights() == find_weights(DEFAULT) == find_weights(variant=DEFAULT) == bundled


@pytest.mark.parametrize("name", ["axlstm-huge", "AxLSTM_Tiny", "axlstm"])
def test_an_unknown_variant_lists_the_names_and_suggests_one(name):
    for find, error in ((lambda: load_model(variant=name), ConfigError), (lambda: load_model(name), WeightsError)):
        with pytest.raises(error, match=r"did you mean axlstm-\w+\? There are axlstm-tiny, axlstm-small"):
            find()


def test_a_name_is_written_with_dashes_or_underscores():
    for name in (DEFAULT, DEFAULT.replace("-", "_")):
        assert find_weights(name) == find_weights(variant=name) == find_weights()
        assert load_model(name, variant=name).encoder.config == architecture(name)


def test_a_file_or_a_folder_of_weights_goes_before_a_variant_of_its_name(tmp_path, random_weights, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / DEFAULT).mkdir()  # of something else
    assert find_weights(DEFAULT) == find_weights()
    shutil.copy(random_weights(VARIANT), tmp_path / DEFAULT / "model.safetensors")
    shutil.copy(random_weights(VARIANT), tmp_path / VARIANT)
    for name in (DEFAULT, VARIANT):
        assert load_model(name).encoder.config == architecture(VARIANT)
    assert find_weights(variant=DEFAULT) == find_weights()


@pytest.mark.parametrize("by", ["variant", "model"])
def test_converted_weights_in_the_cache_are_found_by_name(random_weights, by):
    cache_file(VARIANT).parent.mkdir(exist_ok=True)
    shutil.copy(random_weights(VARIANT), cache_file(VARIANT))
    options = {"variant": VARIANT} if by == "variant" else {"model_file_path": VARIANT}
    assert load_model(**options).encoder.config == architecture(VARIANT)
    assert find_weights(VARIANT) == cache_file(VARIANT)


@pytest.mark.parametrize("options", [{"variant": VARIANT}, {"model_file_path": VARIANT}])
def test_weights_of_another_variant_in_the_cache_are_refused(random_weights, options):
    shutil.copy(random_weights("ssam-tiny"), cache_file(VARIANT))
    with pytest.raises(WeightsError, match="holds SSAMConfig"):
        load_model(**options)


def test_a_folder_and_a_file(tmp_path, random_weights):
    shutil.copy(random_weights(VARIANT), tmp_path / "model.safetensors")
    for model in (tmp_path, str(tmp_path), tmp_path / "model.safetensors"):
        assert find_weights(model) == tmp_path / "model.safetensors"
        assert load_model(model, variant=VARIANT).encoder.config == architecture(VARIANT)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("absent", "no such file"),
        ("absent/weights.safetensors", "no such file"),
        ("/absent/folder", "no such file"),
        ("a b/c", "no such file"),
        (".", "holds no model.safetensors"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path, monkeypatch, model, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=message):
        load_model(model)


def test_bundled_weights_are_verified(tmp_path, random_weights, monkeypatch):
    shutil.copy(random_weights(VARIANT), tmp_path / "bundled.safetensors")
    row = {"file": "bundled.safetensors", "fingerprint": read_header(random_weights(VARIANT))["sha256"]}
    monkeypatch.setattr(sources, "PACKAGE", tmp_path)
    monkeypatch.setattr(sources, "manifest_entry", lambda variant: {"sources": {"bundled": row}})
    assert find_weights(VARIANT) == tmp_path / "bundled.safetensors"
    with open(tmp_path / "bundled.safetensors", "ab") as file:
        file.write(b"x")
    with pytest.raises(WeightsError, match="install hear-axlstm again"):
        find_weights(VARIANT)
    shutil.copy(random_weights("ssam-tiny"), tmp_path / "bundled.safetensors")
    with pytest.raises(WeightsError, match=r"not the file that the manifest names; install hear-axlstm again"):
        find_weights(VARIANT)
    (tmp_path / "bundled.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"no such file.*; install hear-axlstm again"):
        find_weights(VARIANT)


@pytest.mark.parametrize("content", ["{", "{}", '{"variants": 1, "default": "x"}'])
def test_a_damaged_manifest_is_refused(tmp_path, monkeypatch, content):
    (tmp_path / "weights_manifest.json").write_text(content)
    monkeypatch.setattr(module, "PACKAGE", tmp_path)
    read_manifest.cache_clear()
    try:
        with pytest.raises(WeightsError, match="install hear-axlstm again"):
            find_weights()
    finally:
        read_manifest.cache_clear()
