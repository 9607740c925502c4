"""Lists of sounds in text files: one path or address a line, read as they are needed, under names that are paths."""

import io

import numpy as np
import pytest
import soundfile

from hear_axlstm import embed
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.errors import AudioError, ConfigError
from hear_axlstm.files import plan
from hear_axlstm.files.lists import SoundList, _name_of
from tests.conftest import tone


@pytest.fixture
def model(golden):
    return golden("ssast").model()


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Two folders with a 1.wav each, below the current one."""
    for number, name in enumerate(("x", "y")):
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "1.wav", tone(440 + number, 0.5), SAMPLE_RATE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_list_has_a_sound_a_line(model, folders):
    (folders / "all.txt").write_bytes(b"\xef\xbb\xbf# two recordings\r\nx/1.wav\r\n\n  \n" + f"{folders}/y/1.wav".encode())
    result = embed("all.txt", model, out="out")
    assert result.embedded == ["x/1.wav", f"{folders}/y/1.wav"[1:]]
    assert (folders / "out" / "x" / "1.wav.embedding.npy").exists()
    assert embed(folders / "all.txt", model, out="out").skipped == result.embedded
    assert embed(["all.txt"], model).names == result.embedded


def test_folders_and_addresses_in_a_list_are_searched_and_fetched(model, folders):
    pytest.importorskip("fsspec")
    (folders / "all.lst").write_text(f"x\n./y/\nfile://{folders}/x/1.wav\nfile://{folders}/y\n")
    local = str(folders)[1:]
    result = embed("all.lst", model)
    assert result.failures == {}
    assert result.names == ["x/1.wav", "y/1.wav", f"{local}/x/1.wav", f"{local}/y/1.wav"]
    np.testing.assert_allclose(result.matrix[:2], result.matrix[2:], atol=1e-5)


def test_what_is_wrong_in_a_list_is_a_failure_with_its_line(model, folders):
    (folders / "other.list").write_text("x/1.wav")
    (folders / "all.txt").write_bytes(b"x/1.wav\n\nabsent.wav\nother.list\n../up.wav\nnul\0.wav \n")
    with pytest.raises(ConfigError, match=r"all\.txt is no text; expected a list"):
        embed("all.txt", model)
    (folders / "all.txt").write_bytes(b"x/1.wav\n\nabsent.wav\nother.list\n../up.wav\n\xff.wav\n")
    result = embed("all.txt", model, out="out")
    assert result.embedded == ["x/1.wav"]
    reasons = list(result.failures.values())
    assert reasons[0] == "line 3 of all.txt: no such file"
    assert reasons[1] == "line 4 of all.txt: a list in a list; pass each list by itself"
    assert all(why.endswith(": no such file") for why in reasons[2:])
    assert all(".." not in name for name in result.names)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is an empty list"),
        (b"# nothing\n\n", "is an empty list"),
        (None, "is no text"),
        ("ü".encode("utf-16"), "is no text"),
    ],
)
def test_a_list_that_is_none_is_refused_before_anything_is_done(model, folders, content, message):
    (folders / "bad.txt").write_bytes((folders / "x" / "1.wav").read_bytes() if content is None else content)
    for sounds in ("bad.txt", ["x/1.wav", "bad.txt"]):
        with pytest.raises(ConfigError, match=rf"bad\.txt {message}"):
            embed(sounds, model, out="out")
    assert not (folders / "out").exists()
    with pytest.raises(AudioError, match=r"gone\.txt: no such file or folder"):
        embed("gone.txt", model)


def test_a_text_file_below_a_folder_is_no_list(folders):
    (folders / "x" / "notes.txt").write_text("y/1.wav")
    planned = plan("x")
    assert (planned.names, [path.name for path in planned.left_out]) == (["1.wav"], ["notes.txt"])


def test_a_list_is_read_as_it_is_needed(folders):
    lines = io.BytesIO(b"x/1.wav\n" * 100_000)
    sounds = SoundList("stdin", lines).sounds(None)
    assert next(sounds).name == "x/1.wav"
    assert lines.tell() < 1_000


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a/b.wav", "a/b.wav"),
        ("/a/b.wav", "a/b.wav"),
        ("./a//b.wav", "a/b.wav"),
        ("a/../b.wav", "b.wav"),
        ("..a/b.wav", "..a/b.wav"),
    ],
)
def test_names_are_paths_that_lead_nowhere_else(path, name):
    assert _name_of(path) == name
