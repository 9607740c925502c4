"""A folder is made with one set of settings: continued with the same, refused or emptied with others."""

import json

import pytest

from hear_axlstm.errors import OutputError
from hear_axlstm.storage import claim_folder

OURS = ["*.npy"]


@pytest.fixture
def header(tmp_path):
    path = tmp_path / "folder" / "settings.json"
    claim_folder(path, {"seed": 0}, OURS, overwrite=False)
    (path.parent / "below").mkdir()
    for name in ("a.npy", "below/b.npy", "mine.txt"):
        (path.parent / name).write_text("")
    return path


def test_a_new_folder_keeps_its_settings(header):
    assert json.loads(header.read_text()) == {"seed": 0}


def test_the_same_settings_go_on(header):
    claim_folder(header, {"seed": 0}, OURS, overwrite=False)
    assert (header.parent / "a.npy").exists()


def test_other_settings_are_refused_and_nothing_is_lost(header):
    with pytest.raises(OutputError, match=r"other settings: seed was 0, now 1; .* or overwrite it \(--overwrite\)"):
        claim_folder(header, {"seed": 1}, OURS, overwrite=False)
    assert (header.parent / "a.npy").exists()
    assert json.loads(header.read_text()) == {"seed": 0}


def test_where_nothing_can_be_overwritten_nobody_is_told_to(header):
    with pytest.raises(OutputError, match=r"now 1; choose another folder$"):
        claim_folder(header, {"seed": 1}, OURS)


def test_overwriting_removes_what_is_ours(header):
    claim_folder(header, {"seed": 1}, OURS, overwrite=True)
    left = sorted(path.name for path in header.parent.rglob("*") if path.is_file())
    assert left == ["mine.txt", "settings.json"]
    assert json.loads(header.read_text()) == {"seed": 1}


def test_our_files_without_a_header_are_of_unknown_origin(header):
    header.unlink()
    with pytest.raises(OutputError, match=r"holds a\.npy, but no settings\.json"):
        claim_folder(header, {"seed": 0}, OURS, overwrite=False)
    (header.parent / "a.npy").unlink()
    (header.parent / "below" / "b.npy").unlink()
    claim_folder(header, {"seed": 0}, OURS, overwrite=False)


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_damaged_header_is_told(header, content):
    header.write_text(content)
    with pytest.raises(OutputError, match=r"settings\.json is damaged"):
        claim_folder(header, {"seed": 0}, OURS, overwrite=False)


def test_a_folder_is_continued_whatever_json_makes_of_the_settings(tmp_path):
    header = tmp_path / "new" / "settings.json"
    for _ in range(2):
        claim_folder(header, {"rates": (1, 2), "limit": float("nan")}, OURS)
    with pytest.raises(OutputError, match=r"limit was 'NaN', now 0; name it otherwise$"):
        claim_folder(header, {"rates": (1, 2), "limit": 0}, OURS, advice="name it otherwise")


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        claim_folder(tmp_path / "file" / "settings.json", {}, OURS)
