"""From a name to weights: the order of sources, and the steps when there are none."""

import dataclasses
import shutil

import pytest

from hear_axlstm import download, load_model
from hear_axlstm.errors import ConfigError, WeightsError
from hear_axlstm.storage import sha256_of
from hear_axlstm.weights import find as resolve
from hear_axlstm.weights.find import cache_file, default_variant
from hear_axlstm.weights.manifest import PACKAGE, Bundled, Manifest, manifest_entry

VARIANT = "axlstm-tiny-e2"


def test_without_weights_the_steps_are_told():
    with pytest.raises(WeightsError) as caught:
        load_model(variant=VARIANT)
    message = str(caught.value)
    assert "https://drive.google.com/drive/folders/1SyNvA7a6jrWmRwYYj85ggADiKBpDpGLK" in message
    assert "axlstm_tiny_200_16x4_4x256_fp16_r1/checkpoints/checkpoint-99.pth" in message
    assert f"hear-axlstm convert checkpoint-99.pth {cache_file(VARIANT)} --flip" in message
    assert "--from-drive" in message


def test_what_is_not_known_is_said():
    with pytest.raises(WeightsError, match=r"not known, nor whether it is there[\s\S]*--no-flip"):
        download("axlstm-base")


def test_the_default_is_bundled(monkeypatch):
    """Wherever else weights may be: no cache, no network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    entry = manifest_entry(default_variant())
    model = load_model()
    assert model.encoder.config == entry.architecture
    assert download(default_variant()) == PACKAGE / entry.bundled.file


def test_an_installation_without_default_weights_says_so(monkeypatch):
    monkeypatch.setattr(resolve, "read_manifest", lambda: Manifest(None, {}))
    with pytest.raises(WeightsError, match="without default weights"):
        default_variant()


def test_an_unknown_variant_lists_the_names():
    with pytest.raises(ConfigError, match="axlstm-tiny, axlstm-small"):
        load_model(variant="axlstm-huge")


def test_converted_weights_in_the_cache_are_found_by_name(random_weights):
    cache_file(VARIANT).parent.mkdir(exist_ok=True)
    shutil.copy(random_weights(VARIANT), cache_file(VARIANT))
    assert download(VARIANT) == cache_file(VARIANT)
    assert load_model(variant=VARIANT).encoder.config == manifest_entry(VARIANT).architecture


def test_weights_of_another_variant_in_the_cache_are_refused(random_weights):
    shutil.copy(random_weights("ssam-tiny"), cache_file(VARIANT))
    with pytest.raises(WeightsError, match="holds SSAMConfig"):
        download(VARIANT)


@pytest.mark.parametrize("name", [f"{VARIANT}.safetensors", "model.safetensors"])
@pytest.mark.parametrize("told", ["option", "variable", "placeholder"])
def test_a_users_own_folder(tmp_path, random_weights, monkeypatch, name, told):
    folder = tmp_path / VARIANT
    folder.mkdir()
    shutil.copy(random_weights(VARIANT), folder / name)
    if told == "option":
        assert download(VARIANT, source=str(folder)) == folder / name
    else:
        source = folder if told == "variable" else tmp_path / "{variant}"
        monkeypatch.setenv("HEAR_AXLSTM_SOURCE", str(source))
        assert download(VARIANT) == folder / name
        load_model(variant=VARIANT)


@pytest.mark.parametrize(
    ("source", "message"), [("/absent/folder", "neither a folder"), ("a b/c", "neither a folder"), (".", "holds neither")]
)
def test_a_source_that_is_none_is_told(tmp_path, monkeypatch, source, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=message):
        download(VARIANT, source=source)


def test_bundled_weights_are_verified(tmp_path, random_weights, monkeypatch):
    shutil.copy(random_weights(VARIANT), tmp_path / "bundled.safetensors")
    row = Bundled("bundled.safetensors", sha256_of(random_weights(VARIANT)), 1)
    entry = dataclasses.replace(manifest_entry(VARIANT), bundled=row)
    monkeypatch.setattr(resolve, "PACKAGE", tmp_path)
    monkeypatch.setattr(resolve, "manifest_entry", lambda variant: entry)
    assert download(VARIANT) == tmp_path / "bundled.safetensors"
    with open(tmp_path / "bundled.safetensors", "ab") as file:
        file.write(b"x")
    with pytest.raises(WeightsError, match="install hear-axlstm again"):
        download(VARIANT)
    (tmp_path / "bundled.safetensors").unlink()
    with pytest.raises(WeightsError, match="the file is missing"):
        download(VARIANT)
