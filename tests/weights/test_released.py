"""Released checkpoints: recognised, checked, and never run."""

import argparse
import json
import math
import os
import pickle
import re
import subprocess
import zipfile

import pytest
import torch
from safetensors.torch import load_file, save_file

from hear_axlstm import convert_checkpoint, load_model
from hear_axlstm.config import SSASTConfig
from hear_axlstm.errors import ConfigError, WeightsError
from hear_axlstm.storage import sha256_of
from hear_axlstm.weights.load import METADATA_KEY, load_weights, read_header
from hear_axlstm.weights.released import read_checkpoint
from hear_axlstm.weights.save import save_weights
from tests.conftest import CASES, GOLDEN, convert_options


class Attack:
    """Runs a command when it is unpickled."""

    def __init__(self, call, *arguments):
        self.reduced = call, arguments

    def __reduce__(self):
        return self.reduced


@pytest.fixture
def target(tmp_path):
    return tmp_path / "converted.safetensors"


@pytest.fixture
def checkpoint(tmp_path):
    """A released checkpoint's content, to be changed and written again."""
    tensors, _ = read_checkpoint(GOLDEN / "axlstm_e2_flip.pth")

    def write(change=lambda tensors: None, **rest):
        change(tensors)
        torch.save({"model": tensors, "epoch": 99, **rest}, tmp_path / "checkpoint-99.pth")
        return tmp_path / "checkpoint-99.pth"

    return write


@pytest.mark.parametrize("name", CASES)
def test_architecture_comes_from_names_and_shapes(golden, name, target):
    facts = golden(name).facts
    config = convert_checkpoint(GOLDEN / f"{name}.pth", target, **convert_options(facts))
    assert (config.family, config.width, config.depth) == (facts["family"], facts["embed_dim"], facts["depth"])
    assert list(config.patch) == facts["patch_size"]
    assert config.expansion == facts["expansion"] if "expansion" in facts else config.heads == facts["num_heads"]
    assert getattr(config, "bidirectional", False) == facts.get("bidirectional", False)
    assert load_model(target).encoder.config == config


def test_provenance_is_kept(target):
    source = GOLDEN / "ssam.pth"
    convert_checkpoint(source, target)
    provenance = read_header(target)["provenance"]
    assert provenance["source"] == "ssam.pth"
    assert provenance["source_sha256"] == sha256_of(source)
    assert isinstance(provenance["epoch"], int)


def test_flip_is_on_for_expansion_two_and_asked_for_otherwise(target):
    assert convert_checkpoint(GOLDEN / "axlstm_e2_flip.pth", target).flip
    assert not convert_checkpoint(GOLDEN / "axlstm_e2_flip.pth", target, flip=False).flip
    with pytest.raises(ConfigError, match="--flip or --no-flip"):
        convert_checkpoint(GOLDEN / "axlstm_e3_noflip.pth", target.with_name("absent"))
    assert not target.with_name("absent").exists()


@pytest.mark.parametrize(
    ("name", "options"),
    [("ssam", {"flip": True}), ("ssast", {"input_gate": "exp"}), ("axlstm_e2_flip", {"heads": 4})],
)
def test_options_of_another_family_are_refused(target, name, options):
    with pytest.raises(ConfigError, match="leave it out"):
        convert_checkpoint(GOLDEN / f"{name}.pth", target, **options)


def test_heads_can_be_told(target):
    assert convert_checkpoint(GOLDEN / "ssast.pth", target, heads=6) == SSASTConfig(width=48, depth=3, heads=6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("blocks.1.layer.learnable_skip"), "blocks.1.skip is missing"),
        (lambda t: t.update(decoder=torch.zeros(3)), "decoder is unknown"),
        (lambda t: t.update(mask_token=torch.zeros(1, 1, 47)), "mask_token has shape"),
        (lambda t: t["cls_token"].fill_(torch.inf), "cls_token holds NaN or infinity"),
        (lambda t: t["pos_embed"].mul_(1.01), "pos_embed differs"),
        (lambda t: t.pop("patch_embed.proj.weight"), "no patch embedding"),
        (lambda t: t.update({"patch_embed.proj.weight": torch.zeros(48, 1, 16, 4)}), "patches of 16x4"),
        (lambda t: t.clear(), "no patch embedding"),
    ],
)
def test_every_tensor_is_checked(checkpoint, target, change, message):
    with pytest.raises(WeightsError, match=message):
        convert_checkpoint(checkpoint(change), target)
    assert not target.exists()


@pytest.mark.parametrize(
    "attack",
    [
        lambda mark: Attack(os.system, f"touch {mark}"),
        lambda mark: Attack(eval, f"open({str(mark)!r}, 'w')"),
        lambda mark: Attack(subprocess.check_call, ["touch", str(mark)]),
    ],
    ids=["os.system", "eval", "subprocess"],
)
@pytest.mark.parametrize("place", ["args", "model"])
def test_an_attack_is_refused_and_does_not_run(tmp_path, checkpoint, target, attack, place):
    mark = tmp_path / "executed"
    if place == "args":
        path = checkpoint(args=argparse.Namespace(config=attack(mark)))
    else:
        path = checkpoint(lambda tensors: tensors.update(cls_token=attack(mark)))
    with pytest.raises(WeightsError, match=r"refused.*nothing in it was run"):
        convert_checkpoint(path, target)
    assert not mark.exists()
    assert not target.exists()


def test_a_plain_pickle_attack_is_refused(tmp_path, target):
    mark = tmp_path / "executed"
    path = tmp_path / "plain.pth"
    path.write_bytes(pickle.dumps({"model": Attack(os.system, f"touch {mark}")}, protocol=2))
    with pytest.raises(WeightsError):
        convert_checkpoint(path, target)
    assert not mark.exists()


def test_an_attack_through_a_stand_in_class_does_not_run(tmp_path, checkpoint, target):
    """ConfigDict is let in as an inert stand-in: calling it, or giving it state, does nothing."""
    mark = tmp_path / "executed"
    path = checkpoint(args=argparse.Namespace(hook=Attack(os.system, f"touch {mark}")))
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        contents = {name: archive.read(name) for name in names}
    pickled = next(name for name in names if name.endswith("data.pkl"))
    patched = contents[pickled].replace(b"posix\nsystem", b"argparse\nNamespace")
    assert patched != contents[pickled]
    contents[pickled] = patched
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, contents[name])
    with pytest.raises(WeightsError):
        convert_checkpoint(path, target)
    assert not mark.exists()


def test_stand_ins_are_not_left_behind():
    before = set(torch.serialization.get_safe_globals())
    read_checkpoint(GOLDEN / "ssam.pth")
    assert set(torch.serialization.get_safe_globals()) == before


def test_other_files_are_refused(tmp_path, target):
    with pytest.raises(WeightsError, match="no such file"):
        convert_checkpoint(tmp_path / "absent.pth", target)
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(WeightsError, match=r"text\.pth"):
        convert_checkpoint(tmp_path / "text.pth", target)
    torch.save({"state_dict": {}}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="no tensors under the key 'model'"):
        convert_checkpoint(tmp_path / "other.pth", target)
    whole = (GOLDEN / "ssam.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="not a whole torch checkpoint"):
        convert_checkpoint(tmp_path / "cut.pth", target)


def tensors_of_format_1(name):
    """The golden checkpoint's tensors as an earlier version wrote them: released names, each Mamba scan a module."""
    tensors, _ = read_checkpoint(GOLDEN / f"{name}.pth")
    renamed = {}
    for key, tensor in tensors.items():
        if match := re.fullmatch(r"(blocks\.\d+\.mixer)\.(?!in_proj|out_proj)(.*)", key):
            part, marks = re.subn(r"_b(?=[._]|$)", "", match[2], count=1)
            key = f"{match[1]}.{'reverse_scan' if marks else 'scan'}.{part}"
        renamed[key] = tensor
    return renamed


@pytest.mark.parametrize("name", CASES)
def test_a_file_of_an_earlier_version_is_rewritten_with_every_number_kept(golden, target, name):
    old, config = target.with_name("old.safetensors"), golden(name).config
    header = {"format": 1, "config": config.to_dict(), "layout": "time", "provenance": {"source": "a test"}}
    save_file(tensors_of_format_1(name), old, metadata={METADATA_KEY: json.dumps(header)})
    with pytest.raises(WeightsError, match="hear-axlstm convert"):
        load_model(old)
    assert convert_checkpoint(old, target) == config
    encoder, written = load_weights(target)
    assert (written["layout"], written["provenance"]) == ("time", {"source": "a test"})
    for key, tensor in golden(name).encoder.state_dict().items():
        assert torch.equal(encoder.state_dict()[key], tensor)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_rewritten_file_keeps_its_dtypes(golden, target, dtype, version):
    old, case = target.with_name("old.safetensors"), golden("axlstm_e2_flip")
    header = {"format": version, "config": case.config.to_dict(), "layout": "time", "provenance": {"loss": math.nan}}
    tensors = tensors_of_format_1(case.name) if version == 1 else case.encoder.state_dict()
    save_file({k: t.to(dtype) for k, t in tensors.items()}, old, metadata={METADATA_KEY: json.dumps(header)})
    with pytest.raises(WeightsError, match="hear-axlstm convert"):
        load_model(old)
    convert_checkpoint(old, target)
    written = load_file(target)
    assert all(torch.equal(written[key], tensor.to(dtype)) for key, tensor in case.encoder.state_dict().items())
    assert {tensor.dtype for tensor in written.values()} == {dtype}
    assert read_header(target)["provenance"] == {"loss": "NaN"}  # strict JSON has no NaN


def test_only_files_of_an_earlier_version_are_rewritten(golden, target):
    save_weights(golden("ssast").encoder, target)
    for source, message in ((target, "format 3 already"), (target.with_name("absent.safetensors"), "no such file")):
        with pytest.raises(WeightsError, match=message):
            convert_checkpoint(source, target.with_name("new.safetensors"))
    with pytest.raises(ConfigError, match="leave the options out"):
        convert_checkpoint(target, target.with_name("new.safetensors"), flip=True)


def test_a_file_that_is_no_checkpoint_is_called_so(tmp_path):
    (tmp_path / "notes.pth").write_text("nothing of the kind")
    with pytest.raises(WeightsError, match=r"notes.pth is no torch checkpoint, or has a program in it \(operation 110"):
        convert_checkpoint(tmp_path / "notes.pth", tmp_path / "out.safetensors")
