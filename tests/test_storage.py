"""Files appear whole or not at all, readable as the user's others are."""

import json
import math

import pytest
import torch
from safetensors.torch import save_file

from hear_axlstm.errors import OutputError
from hear_axlstm.storage import read_json, replacing, sha256_of, strict_json, sweep, write_text


def test_a_file_takes_its_place_when_it_is_whole(tmp_path):
    target = tmp_path / "below" / "file.txt"
    with replacing(target) as temporary:
        temporary.write_text("half")
        assert not target.exists()
        temporary.write_text("whole")
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


def test_what_was_there_stays_when_the_new_one_fails(tmp_path):
    (tmp_path / "file.txt").write_text("old")

    def fail():
        with replacing(tmp_path / "file.txt") as temporary:
            temporary.write_text("half")
            raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        fail()
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_whoever_may_read_the_users_files_may_read_weights(tmp_path):
    (tmp_path / "plain").write_text("")
    with replacing(tmp_path / "weights") as temporary:
        save_file({"a": torch.zeros(1)}, temporary)
    assert (tmp_path / "weights").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_sweep_takes_what_was_being_written_and_nothing_else(tmp_path):
    for name in (".a.tar.12345678.part", "b.part", ".hidden"):
        (tmp_path / name).write_text("")
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "b.part"]


def test_the_hash_is_that_of_the_bytes(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert sha256_of(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_text_is_written_whole_and_read_as_json(tmp_path):
    write_text(tmp_path / "below" / "value.json", '{"name": "\N{PRIME}"}')
    assert read_json(tmp_path / "below" / "value.json", OutputError, "repeat it") == {"name": "\N{PRIME}"}
    assert [path.name for path in (tmp_path / "below").iterdir()] == ["value.json"]


def test_json_that_cannot_be_read_is_an_error_with_advice(tmp_path):
    (tmp_path / "half.json").write_text("{")
    (tmp_path / "latin.json").write_bytes(b'"\xe9"')
    for name, reason in (("half", "is damaged"), ("latin", "is damaged"), ("missing", "cannot be read")):
        with pytest.raises(OutputError, match=rf"{name}\.json {reason} .*; repeat it$"):
            read_json(tmp_path / f"{name}.json", OutputError, "repeat it")


def test_numbers_that_are_not_finite_survive_strict_json():
    value = {"a": (math.nan, [math.inf, -math.inf]), "b": 0.5, "c": None}
    found = json.loads(strict_json(value), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert found == {"a": ["NaN", ["Infinity", "-Infinity"]], "b": 0.5, "c": None}
    assert math.isnan(float(found["a"][0]))
