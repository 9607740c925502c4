"""The authors' Google Drive folder: what is asked of gdown, and what becomes of the checkpoint.

Google Drive itself is out of reach of a test; gdown's two functions are replaced, with their real signatures.
"""

import inspect
import shutil
import sys
from types import SimpleNamespace

import gdown
import pytest
import torch

from hear_axlstm import download, load_model
from hear_axlstm.encoder import build_encoder
from hear_axlstm.errors import WeightsError
from hear_axlstm.weights.find import cache_file
from hear_axlstm.weights.manifest import manifest_entry

VARIANT = "axlstm-tiny-e2"
PATH = "axlstm_tiny_200_16x4_4x256_fp16_r1/checkpoints/checkpoint-99.pth"


@pytest.fixture
def drive(monkeypatch, tmp_path):
    """The folder's files: path -> local file that stands for it."""
    files = {}

    def download_folder(**options):
        inspect.signature(signatures[0]).bind(**options)
        assert options["id"] == manifest_entry(VARIANT).drive.folder
        assert options["skip_download"]
        return [SimpleNamespace(id=str(index), path=f"weights/{path}") for index, path in enumerate(files)]

    def download_file(**options):
        inspect.signature(signatures[1]).bind(**options)
        shutil.copy(list(files.values())[int(options["id"])], options["output"])

    signatures = gdown.download_folder, gdown.download
    monkeypatch.setattr(gdown, "download_folder", download_folder)
    monkeypatch.setattr(gdown, "download", download_file)
    return files


@pytest.fixture
def checkpoint(tmp_path):
    torch.save({"model": build_encoder(VARIANT).state_dict(), "epoch": 99}, tmp_path / "checkpoint-99.pth")
    return tmp_path / "checkpoint-99.pth"


def test_the_checkpoint_is_fetched_converted_and_kept(drive, checkpoint):
    drive["ssast_tiny_200_16x4_4x256_fp16_r1/checkpoints/checkpoint-99.pth"] = checkpoint.with_name("other")
    drive[PATH] = checkpoint
    assert download(VARIANT, from_drive=True) == cache_file(VARIANT)
    drive.clear()
    assert load_model(variant=VARIANT).encoder.config.flip


def test_a_checkpoint_of_another_architecture_is_not_kept(drive, tmp_path):
    torch.save({"model": build_encoder("axlstm-tiny").state_dict()}, tmp_path / "e3.pth")
    drive[PATH] = tmp_path / "e3.pth"
    with pytest.raises(WeightsError, match="not kept"):
        download(VARIANT, from_drive=True)
    assert list(cache_file(VARIANT).parent.iterdir()) == []


def test_a_folder_without_the_file_and_a_broken_connection_are_told(drive, monkeypatch):
    with pytest.raises(WeightsError, match=r"0 files called .*By hand"):
        download(VARIANT, from_drive=True)

    def fails(**options):
        raise OSError("no route to host")

    monkeypatch.setattr(gdown, "download_folder", fails)
    with pytest.raises(WeightsError, match=r"no route to host.*By hand"):
        download(VARIANT, from_drive=True)


def test_without_gdown_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gdown", None)
    with pytest.raises(WeightsError, match=r"hear-axlstm\[drive\]"):
        download(VARIANT, from_drive=True)


def test_an_unknown_place_in_the_folder_is_told():
    with pytest.raises(WeightsError, match="is not known"):
        download("axlstm-tiny", from_drive=True)


def test_a_cache_that_cannot_be_written_is_told(drive, checkpoint, monkeypatch, tmp_path):
    drive[PATH] = checkpoint
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("HEAR_AXLSTM_CACHE", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match="set HEAR_AXLSTM_CACHE"):
        download(VARIANT, from_drive=True)
