"""Weights that are damaged, hostile or of another kind: refused by name, or loaded as they were saved."""

import io
import json
import math
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from hear_axlstm import Embedder, convert_checkpoint, load_model, save_weights
from hear_axlstm.cli import main
from hear_axlstm.config import AxLSTMConfig, SSAMConfig, SSASTConfig, config_from_dict
from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import ConfigError, WeightsError
from hear_axlstm.parallel import Worker
from hear_axlstm.weights import pickled
from hear_axlstm.weights.check import HEADER_BYTES
from hear_axlstm.weights.load import METADATA_KEY, load_weights, read_header
from hear_axlstm.weights.save import fingerprint
from tests.conftest import GOLDEN

CONFIG = AxLSTMConfig(width=16, depth=2)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(Encoder(CONFIG), path, {"source": "a test"}, layout="time")
    return path


def parts(path):
    """The JSON header of a safetensors file, and the bytes of its tensors."""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def write(path, header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def with_facts(path, change):
    """Write the file again after ``change(facts)`` of what its header states."""
    header, data = parts(path)
    facts = json.loads(header["__metadata__"][METADATA_KEY])
    header["__metadata__"][METADATA_KEY] = json.dumps(change(facts) or facts, sort_keys=True)
    write(path, header, data)


def test_every_flipped_bit_is_refused(path):
    content, size = path.read_bytes(), len(path.read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    places = [*range(0, header, 7), *range(header, size, size // 100), size - 1]
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match="weights"):
            load_weights(path)
    path.write_bytes(content)
    load_weights(path)


def test_swapped_tensors_are_refused(path):
    header, data = parts(path)
    one, other = header["blocks.0.q"], header["blocks.1.q"]
    one["data_offsets"], other["data_offsets"] = other["data_offsets"], one["data_offsets"]
    write(path, header, data)
    with pytest.raises(WeightsError, match=r"is damaged: .*get it again"):
        load_weights(path)


def test_what_was_loaded_does_not_follow_the_file(path, tmp_path):
    encoder, _ = load_weights(path)
    before = fingerprint(encoder)
    with open(path, "r+b") as file:
        file.seek(-1000, os.SEEK_END)
        file.write(bytes(1000))
    assert fingerprint(encoder) == before


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("flip", value) for value in ("no", [], 0, None)),
        *(("width", value) for value in (16.0, "16", True, [16], -16, 10**30, 10**400)),
        *(("depth", value) for value in (2.0, True, 10**7, None)),
        *(("expansion", value) for value in (3.0, 10**9, 10**18, 10**30)),
        *(("patch", value) for value in (5, "ab", [4], [4, 16.0], [True, 16], {}, [[4, 16]], [1, 1])),
        *(("family", value) for value in ([], {}, 5, None, "lstm", "x" * 100_000)),
        *(("input_gate", value) for value in ([], 5, None)),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_options_have_their_types_and_are_those_of_the_tensors(path, key, value):
    with_facts(path, lambda facts: facts["config"].update({key: value}))
    with pytest.raises(WeightsError, match=key) as caught:
        load_weights(path)
    assert len(str(caught.value)) < 2_000


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("format", value) for value in (True, 3.0, "3", None, -1, 0, 10**40)),
        *(("config", value) for value in (5, [], None, {}, [["family", "axlstm"]])),
        *(("layout", value) for value in ([], 5, None, "mel")),
        *(("provenance", value) for value in ([], 5, None, {"loss": math.nan}, {"loss": "b"})),
        *(("sha256", value) for value in (5, None, "", "0" * 64)),
        ("another", 1),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_facts_have_their_types(path, key, value):
    with_facts(path, lambda facts: facts.update({key: value}))
    with pytest.raises(WeightsError, match=r"weights\.safetensors"):
        load_weights(path)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "5", "null", "[]", "", "9" * 5_000, '{"format": 3, "format": 3}', "\u00e9"],
    ids=["lists", "dicts", "number", "null", "list", "empty", "digits", "repeated", "unicode"],
)  # fmt: skip
def test_a_header_that_is_no_object_of_json_is_refused(path, text):
    header, data = parts(path)
    header["__metadata__"][METADATA_KEY] = text
    write(path, header, data)
    with pytest.raises(WeightsError, match="does not say which encoder"):
        load_weights(path)
    with pytest.raises(WeightsError, match="does not say which encoder"):
        convert_checkpoint(path, path.with_name("new.safetensors"))


def test_headers_are_bounded(path):
    _, data = parts(path)
    entry = b'"t%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    write(path, b"{" + b",".join(entry % number for number in range(100_000)) + b"}", b"")
    with pytest.raises(WeightsError, match="header would have"):
        load_weights(path)
    write(path, b" " * HEADER_BYTES + b" {}", data)
    with pytest.raises(WeightsError, match="header would have"):
        load_weights(path)
    write(path, b'{"\xff": 1}', b"")
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        load_weights(path)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int64, torch.bool, torch.complex64, torch.uint16])
@pytest.mark.parametrize("version", [2, 3])
def test_other_dtypes_are_refused(path, dtype, version):
    tensors = load_file(path)
    tensors["norm.bias"] = tensors["norm.bias"].to(dtype)
    facts = {**read_header(path), "format": version, "config": CONFIG.to_dict()}
    save_file(tensors, path, metadata={METADATA_KEY: json.dumps(facts, sort_keys=True)})
    with pytest.raises(WeightsError, match=r"norm\.bias is"):
        load_weights(path) if version == 3 else convert_checkpoint(path, path.with_name("new.safetensors"))


@pytest.mark.parametrize(
    "values",
    [
        5, None, [], "axlstm", {"family": []}, {"family": "ssam", "width": 192.0}, {"family": "ssam", "width": True},
        {"family": "ssam", "width": 192, 5: 1}, {"family": "ssam", "width": 192, "patch": 5},
        {"family": "ssam", "width": 192, "bidirectional": "no"}, {"family": "ssast", "width": 192, "heads": 3.0},
    ],
    ids=lambda values: repr(values)[:50],
)  # fmt: skip
def test_a_configuration_has_its_types_wherever_it_comes_from(values):
    with pytest.raises(ConfigError):
        config_from_dict(values)


def test_a_configuration_that_is_made_has_its_types():
    for make in (
        lambda: AxLSTMConfig(width=192, flip="no"),
        lambda: SSAMConfig(width=192.0),
        lambda: SSASTConfig(width=192, heads=True),
        lambda: AxLSTMConfig(width=192, patch=[4, 16]),
    ):
        with pytest.raises(ConfigError, match="expected"):
            make()


def test_a_file_that_may_not_be_read_is_told(path, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("hear_axlstm.weights.check.open", refuse, raising=False)  # root may read everything
    with pytest.raises(WeightsError, match="cannot be read"):
        load_weights(path)


# What is saved


def test_a_layout_is_kept(tmp_path, path):
    saved = tmp_path / "again.safetensors"
    for model, layout in (
        (load_model(path), "time"),
        (load_model(path).encoder, "time"),
        (load_model(path, layout="released"), "released"),
        (Embedder(Encoder(CONFIG), layout="time"), "time"),
        (Encoder(CONFIG), "released"),
    ):
        save_weights(model, saved)
        assert read_header(saved)["layout"] == layout
    save_weights(load_model(path), saved, layout="released")
    assert read_header(saved)["layout"] == "released"


def endless():
    value = {}
    value["itself"] = value
    return value


@pytest.mark.parametrize(
    "provenance",
    [
        5, [], "text", {1: 2}, {"a": math.nan}, {"a": [math.inf]}, {"a": {5}}, {"a": b"x"}, {"a": 10**5000},
        {"a": torch.zeros(1)}, endless(), {"a": "x" * HEADER_BYTES},
    ],
    ids="number list text key nan infinity set bytes digits tensor endless long".split(),
)  # fmt: skip
def test_a_provenance_that_json_has_no_words_for_is_refused(path, provenance):
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="provenance"):
        save_weights(Encoder(CONFIG), path, provenance)
    assert path.read_bytes() == before


def test_a_provenance_comes_back(path):
    provenance = {"curve": [(1, 0.5), [2, 1e-300]], "é": None, "\udcff": {"yes": True}, "large": 2**200}
    save_weights(Encoder(CONFIG), path, provenance)
    assert load_weights(path)[1]["provenance"] == {**provenance, "curve": [[1, 0.5], [2, 1e-300]]}


def spoilt(change):
    encoder = Encoder(CONFIG)
    change(encoder)
    return encoder


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: None, ConfigError),
        (lambda: torch.nn.Linear(2, 2), ConfigError),
        (lambda: torch.nn.DataParallel(Encoder(CONFIG)), ConfigError),
        (lambda: Encoder(CONFIG).state_dict(), ConfigError),
        (lambda: spoilt(lambda e: e.cls_token.data.fill_(math.nan)), WeightsError),
        (lambda: spoilt(lambda e: e.norm.bias.data.fill_(math.inf)), WeightsError),
        (lambda: spoilt(lambda e: setattr(e, "head", torch.nn.Linear(2, 2))), WeightsError),
        (lambda: spoilt(lambda e: torch.nn.utils.parametrizations.weight_norm(e.blocks[0].up)), WeightsError),
        (lambda: Encoder(CONFIG).to("meta"), WeightsError),
    ],
    ids=["none", "layer", "parallel", "tensors", "nan", "infinity", "other head", "parametrised", "meta"],
)
def test_what_could_not_be_loaded_is_not_saved(path, make, error):
    before = path.read_bytes()
    with pytest.raises(error):
        save_weights(make(), path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["", "x.pth", "x.ckpt"])
def test_names_that_would_not_be_loaded_are_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="safetensors"):
        save_weights(Encoder(CONFIG), name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of file sizes, in the shell's units")
def test_a_conversion_without_room_ends_with_the_cause(tmp_path):
    command = 'ulimit -f 100; exec "$0" -m hear_axlstm convert "$1" \'a b.safetensors\''
    program = ["bash", "-c", command, sys.executable, GOLDEN / "ssam.pth"]
    result = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.startswith("error: a b.safetensors cannot be written")
    assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_commands_in_messages_can_be_copied(path, tmp_path, monkeypatch):
    odd = path.rename(tmp_path / "my weights.safetensors")
    with_facts(odd, lambda facts: {**facts, "format": 2})
    with pytest.raises(
        WeightsError, match=r"`hear-axlstm convert '.*/my weights\.safetensors' '.*/my weights-3\.safetensors'`"
    ):
        load_model(odd)
    (tmp_path / "a b.pth").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"`hear-axlstm convert '.*/a b\.pth' '.*/a b\.safetensors'`"):
        load_model(tmp_path / "a b.pth")
    monkeypatch.setenv("HEAR_AXLSTM_CACHE", str(tmp_path / "c d"))
    with pytest.raises(WeightsError, match=r"convert checkpoint-99\.pth '.*/c d/ssam-tiny\.safetensors'"):
        load_model("ssam-tiny")


# Released checkpoints


class Call:
    """Calls a function when it is unpickled."""

    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


def refused(path):
    """What is said when a checkpoint is converted in vain."""
    target = path.with_name("target.safetensors")
    with pytest.raises((WeightsError, ConfigError), match=path.name) as caught:
        convert_checkpoint(path, target)
    assert not target.exists()
    assert "weights_only" not in str(caught.value)
    return str(caught.value)


def saved(path, content, **options):
    torch.save(content, path, **options)
    return path


def rezipped(target, change=lambda archive: None, compression=zipfile.ZIP_STORED):
    """A golden checkpoint in another zip."""
    with zipfile.ZipFile(GOLDEN / "ssam.pth") as archive, zipfile.ZipFile(target, "w", compression) as copy:
        for name in archive.namelist():
            copy.writestr(name, archive.read(name))
        change(copy)
    return target


@pytest.fixture
def a_reader_of_its_own(monkeypatch):
    monkeypatch.setattr(pickled, "Worker", Worker)


def test_a_pickle_that_crashes_its_reader_is_refused(tmp_path, a_reader_of_its_own):
    path = tmp_path / "x.pth"
    path.write_bytes(b"\x80\x02})" + b"\x85" * 200_000 + b"K\x01s.")
    assert "ended with SIG" in refused(path)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded where the system can")
def test_memory_is_bounded(tmp_path):
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Call(bytearray, (3 * 10**9,)), 2))
    saved(tmp_path / "zip.pth", {"model": {}, "args": Call(bytearray, (3 * 10**9,))})
    for name in ("plain.pth", "zip.pth"):
        assert "more memory" in refused(tmp_path / name)


@pytest.mark.parametrize("tensor", [torch.zeros(1).expand(10**9), torch.zeros(1, 48).expand(10**3, 48)], ids=["1e9", "1e3"])
def test_a_tensor_larger_than_its_bytes_is_refused(tmp_path, tensor):
    saved(tmp_path / "expanded.pth", {"model": {"x": tensor}})
    assert "tensors are larger than the file" in refused(tmp_path / "expanded.pth")


@pytest.mark.skipif(sys.platform != "linux", reason="time is bounded where the system can")
def test_time_is_bounded(monkeypatch, tmp_path, a_reader_of_its_own):
    monkeypatch.setattr(pickled, "SECONDS", 0)
    item = b"K\x01" + pickle.dumps(Call(bytearray, (5 * 10**8,)), 2)[2:-1] + b"s"  # takes the place of the one before
    (tmp_path / "x.pth").write_bytes(b"\x80\x02}" + 10_000 * item + b".")
    assert "ended with SIGXCPU" in refused(tmp_path / "x.pth")


def test_flipped_bits_are_refused_or_mean_nothing(tmp_path):
    content = (GOLDEN / "ssam.pth").read_bytes()
    path, target = tmp_path / "x.pth", tmp_path / "x.safetensors"
    convert_checkpoint(GOLDEN / "ssam.pth", target)
    truth = load_file(target)
    with zipfile.ZipFile(GOLDEN / "ssam.pth") as archive:
        directory, data = archive.start_dir, archive.getinfo("ssam/data/1").header_offset + 200
    places = [data, data + 1000, *range(300, len(content), len(content) // 20), *range(directory, len(content), 211)]
    assert 491_166 in range(directory, len(content))
    for place in (*places, 491_166):  # the last one: a field that torch heeds and the checksums do not
        damaged = bytearray(content)
        damaged[place] ^= 4
        path.write_bytes(damaged)
        try:
            convert_checkpoint(path, target)
        except WeightsError:
            continue
        assert place > directory or content[place] == ord("Z")  # padding, or what nobody reads
        assert all(torch.equal(tensor, truth[name]) for name, tensor in load_file(target).items())


def test_bombs_are_refused(tmp_path):
    assert "is compressed" in refused(rezipped(tmp_path / "x.pth", compression=zipfile.ZIP_DEFLATED))
    path = rezipped(tmp_path / "y.pth")
    content = path.read_bytes()
    end = content.rindex(b"PK\x05\x06")
    with zipfile.ZipFile(path) as archive:
        directory, count = content[archive.start_dir : end], len(archive.namelist())
    ending = bytearray(content[end:])
    ending[8:12] = (2 * count).to_bytes(2, "little") * 2
    ending[12:16] = (2 * len(directory)).to_bytes(4, "little")
    path.write_bytes(content[:end] + directory + ending)
    assert "overlap" in refused(path)
    with open(tmp_path / "z.pth", "wb") as file:
        file.truncate(1 << 40)
    assert "bytes; expected a released checkpoint" in refused(tmp_path / "z.pth")


def test_two_files_in_one_are_refused(tmp_path):
    path = tmp_path / "x.pth"
    path.write_bytes((GOLDEN / "ssast.pth").read_bytes() + (GOLDEN / "ssam.pth").read_bytes())
    assert "stands before its zip" in refused(path)


@pytest.mark.parametrize("shape", [(8,), (5, 8, 3), ()], ids=str)
def test_gates_that_do_not_fit_are_refused(tmp_path, shape):
    tensors, _ = pickled.read_checkpoint(GOLDEN / "axlstm_e2_flip.pth")
    tensors["blocks.1.layer.mlstm_cell.fgate.bias"] = torch.zeros(1, *shape)
    assert "blocks.1" in refused(saved(tmp_path / "x.pth", {"model": tensors}))


def test_other_kinds_of_files_are_named_without_bad_advice(tmp_path):
    script = rezipped(tmp_path / "script.pth", lambda archive: archive.writestr("ssam/constants.pkl", b"x"))
    assert "is a TorchScript archive" in refused(script)
    with tarfile.open(tmp_path / "tar.pth", "w") as archive:
        archive.addfile(tarfile.TarInfo("storages"), io.BytesIO())
    assert "is a tar archive" in refused(tmp_path / "tar.pth")
    for name, content in {"empty": b"", "zip": b"PK\x03\x04" + bytes(100), "text": b"hello", "nul": bytes(1000)}.items():
        (tmp_path / f"{name}.pth").write_bytes(content)
        assert "not a whole torch checkpoint" in refused(tmp_path / f"{name}.pth") or name == "nul"


@pytest.mark.parametrize(
    "tensor",
    [
        torch.eye(3).to_sparse(), torch.zeros(3, device="meta"), torch.zeros(3, dtype=torch.float8_e5m2),
        torch.zeros(3, dtype=torch.complex64), torch.zeros(3, dtype=torch.bool), 5, None,
    ],
    ids=["sparse", "meta", "float8", "complex", "bool", "number", "none"],
)  # fmt: skip
def test_what_is_no_tensor_of_floats_is_refused(tmp_path, tensor):
    refused(saved(tmp_path / "x.pth", {"model": {"x": tensor}}))
    refused(saved(tmp_path / "x.pth", {"model": {5: torch.zeros(3)}}))


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.update({"blocks.1000000000.norm.weight": torch.zeros(1)}),
        lambda tensors: tensors.update({"blocks.\u0663.norm.weight": torch.zeros(1)}),
        lambda tensors: tensors.update({"patch_embed.proj.weight": torch.zeros(1)}),
        lambda tensors: tensors.update({"patch_embed.proj.weight": torch.zeros(0, 1, 16, 4)}),
        lambda tensors: tensors.update({"patch_embed.proj.weight": torch.zeros(190, 1, 4, 16)}),
        lambda tensors: tensors.update({"blocks.0.mixer.in_proj.weight": torch.zeros(())}),
        lambda tensors: tensors.update({"cls_token": torch.zeros(0)}),
        lambda tensors: tensors.update({"x" * 100_000: torch.zeros(1)}),
    ],
    ids=["late block", "other digit", "flat patch", "no width", "odd width", "scalar", "empty", "long name"],
)
def test_odd_tensors_are_refused(tmp_path, change):
    tensors, _ = pickled.read_checkpoint(GOLDEN / "ssam.pth")
    change(tensors)
    assert len(refused(saved(tmp_path / "x.pth", {"model": tensors}))) < 2_000


@pytest.mark.parametrize("epoch", [-1, 10**400, True, None, "x" * 100_000, math.nan, []], ids=lambda epoch: repr(epoch)[:10])
def test_odd_epochs_do_no_harm(tmp_path, epoch):
    tensors, _ = pickled.read_checkpoint(GOLDEN / "ssam.pth")
    convert_checkpoint(saved(tmp_path / "x.pth", {"model": tensors, "epoch": epoch}), tmp_path / "x.safetensors")
    assert load_weights(tmp_path / "x.safetensors")[1]["provenance"]["epoch"] in (None, -1)


def test_the_old_format_has_no_checksums_and_that_is_said(tmp_path, caplog):
    tensors, _ = pickled.read_checkpoint(GOLDEN / "ssam.pth")
    old = saved(tmp_path / "x.pth", {"model": tensors}, _use_new_zipfile_serialization=False)
    convert_checkpoint(old, tmp_path / "x.safetensors")
    assert "without checksums" in caplog.text
    assert load_model(tmp_path / "x.safetensors")


# Where weights are kept


@pytest.fixture
def without_home(tmp_path, monkeypatch):
    def unknown(user):
        raise KeyError(user)

    monkeypatch.setattr("pwd.getpwuid", unknown)
    for name in ("HOME", "XDG_CACHE_HOME", "HEAR_AXLSTM_CACHE", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("caches", [None, "", "relative"])
def test_without_a_home_one_line_says_which_variable_to_set(tmp_path, monkeypatch, without_home, caches):
    if caches is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", caches)
    for arguments in (["models"], ["download", "ssam-tiny"]):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 1
        assert "set HEAR_AXLSTM_CACHE to a folder" in result.stderr
        assert len(result.stderr.splitlines()) == 1
    with pytest.raises(WeightsError, match="set HEAR_AXLSTM_CACHE"):
        load_model(variant="ssam-tiny")
    assert load_model().layout == "time"  # the bundled weights need no cache
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cache", ["~/.cache/huggingface/hub", "huggingface/hub"])
def test_without_a_home_the_hubs_cache_is_asked_for(tmp_path, monkeypatch, without_home, cache):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", cache)  # what it takes then
    with pytest.raises(WeightsError, match="set HF_HOME to a folder"):
        load_model("owner/name")
    assert list(tmp_path.iterdir()) == []


def test_the_cache_is_where_the_variables_say(tmp_path, monkeypatch):
    monkeypatch.setenv("HEAR_AXLSTM_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match=f"at {tmp_path}/hear-axlstm/ssam-tiny.safetensors"):
        load_model("ssam-tiny")
    (tmp_path / "hear-axlstm").write_text("in the way")
    with pytest.raises(WeightsError, match="is no folder that you may read; set HEAR_AXLSTM_CACHE"):
        load_model("ssam-tiny")


@pytest.mark.parametrize(
    "name", ["x" * 5_000, "a\0b", "~/absent", "m\udce4.safetensors"], ids=["long", "nul", "home", "bytes"]
)
def test_odd_names_of_models_are_no_such_file(name):
    with pytest.raises(WeightsError, match=r"no such file|cannot be read"):
        load_model(name)


def test_names_that_are_not_utf8_are_told(path):
    odd = path.with_name(os.fsdecode(b"m\xe4.safetensors"))
    with pytest.raises(OSError, match="is not UTF-8"):
        save_weights(Encoder(CONFIG), odd)
    path.rename(odd)
    with pytest.raises(WeightsError, match=r"is not UTF-8, .*; rename it"):
        load_model(odd)
