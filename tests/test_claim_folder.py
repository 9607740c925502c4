"""A folder is made with one set of settings: continued with the same, refused or emptied with others."""

import json

import pytest

from hear_axlstm.errors import OutputError
from hear_axlstm.storage import changed, changed_options, check_folder, claim_folder

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
    with pytest.raises(
        OutputError, match=r"other settings: seed was 0 and is 1 now; .* or start over in this one \(--overwrite\)"
    ):
        claim_folder(header, {"seed": 1}, OURS, overwrite=False)
    assert (header.parent / "a.npy").exists()
    assert json.loads(header.read_text()) == {"seed": 0}


def test_where_nothing_can_be_overwritten_nobody_is_told_to(header):
    with pytest.raises(OutputError, match=r"is 1 now; choose another folder$"):
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
    with pytest.raises(OutputError, match=r"limit was NaN and is 0 now; name it otherwise$"):
        claim_folder(header, {"rates": (1, 2), "limit": 0}, OURS, advice="name it otherwise")


def test_what_differs_is_said_in_the_words_of_who_asks(tmp_path):
    header = tmp_path / "new" / "settings.json"
    words = {
        **changed_options("from_layer", "pad"),
        "encoder.width": changed("the width"),
        "files": lambda *_: "the files were others",
    }
    before = {"from_layer": 9, "pad": False, "layers": [1, 2], "files": "e9", "encoder": {"width": 2, "depth": 3}}
    now = {"from_layer": None, "pad": True, "layers": None, "files": "08", "encoder": {"width": 4, "depth": 3}}
    claim_folder(header, before, OURS)
    expected = (
        "was begun with other settings: --from-layer was 9 and is not given now, --pad was not given and is given now, "
        "layers was 1,2 and is not given now, the files were others, the width was 2 and is 4 now; choose another folder"
    )
    for refuse in (claim_folder, check_folder):
        with pytest.raises(OutputError) as refused:
            refuse(header, now, OURS, words=words)
        assert str(refused.value).endswith(expected)


def test_to_check_a_folder_writes_nothing(tmp_path):
    check_folder(tmp_path / "new" / "settings.json", {"seed": 0}, OURS)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        claim_folder(tmp_path / "file" / "settings.json", {}, OURS)
