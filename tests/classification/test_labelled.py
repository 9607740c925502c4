"""What a folder of folders and a CSV say about sounds, and what is wrong with those that say nothing."""

import numpy as np
import pytest
import soundfile

from hear_axlstm.classification.labelled import loose_sounds, read_labelled
from hear_axlstm.errors import ConfigError
from hear_axlstm.files.sounds import NoSound

NAMELESS = (
    "line 1 names no column path and no column label, but filename, fold, category; "
    "rename the column of files to path and the column of classes to label there"
)


@pytest.fixture
def folder(tmp_path):
    for name in ("cat/a.wav", "cat/deep/b.wav", "dog/a.wav"):
        path = tmp_path / "sounds" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.zeros(8_000), 16_000)
    return tmp_path / "sounds"


def test_a_folder_of_folders_labels_by_the_first_folder(folder):
    (folder / "notes.txt").write_text("")
    (folder / ".hidden").mkdir()
    found = read_labelled(folder)
    assert [(sound.name, label) for sound, label in zip(found.sounds, found.labels, strict=True)] == [
        ("cat/a.wav", "cat"),
        ("cat/deep/b.wav", "cat"),
        ("dog/a.wav", "dog"),
    ]
    assert found.classes == ["cat", "dog"]
    assert found.left_out == [folder / "notes.txt"]


@pytest.mark.parametrize(
    "text",
    [
        "path,label\ncat/a.wav,miau\ndog/a.wav,wuff\n",
        "cat/a.wav,miau\ndog/a.wav,wuff\n",
        "\ufefflabel;path\r\nmiau;cat/a.wav\r\n\r\nwuff;dog/a.wav\r\n",
        "Path\tLabel\n cat/a.wav\tmiau \ndog/a.wav\twuff",
        "path,label\ncat/a.wav,miau\ncat/a.wav,miau\ndog/a.wav,wuff\n",
        "\n\r\npath;label\n\ncat/a.wav;miau\ndog/a.wav;wuff\n",
        "path,label,,\ncat/a.wav,miau,,\ndog/a.wav,wuff,,\n",
        ",path,target,label,take\n0,cat/a.wav,7,miau,A\n1,dog/a.wav,,wuff,B\n",
    ],
    ids=["header", "no header", "semicolons", "tabs", "a line twice", "empty lines first", "empty columns", "more columns"],
)
def test_a_table_labels_by_its_lines(folder, text):
    (folder / "labels.csv").write_text(text, encoding="utf-8")
    found = read_labelled(folder / "labels.csv")
    assert found.labels == ["miau", "wuff"]
    assert [sound.path for sound in found.sounds] == [folder / "cat/a.wav", folder / "dog/a.wav"]
    assert found.groups == []


def test_a_label_may_hold_what_ends_lines(folder):
    labels = ["two\nlines", "two\u2028lines", "two\x0blines"]
    table = "".join(
        f'{path},"{label}"\n' for path, label in zip(["cat/a.wav", "cat/deep/b.wav", "dog/a.wav"], labels, strict=True)
    )
    (folder / "labels.csv").write_text(table, encoding="utf-8")
    assert read_labelled(folder / "labels.csv").labels == labels


def test_a_table_may_say_what_belongs_together(folder):
    (folder / "labels.csv").write_text("path,label,group\ncat/a.wav,miau,Tom\ndog/a.wav,wuff,Rex\n")
    assert read_labelled(folder / "labels.csv").groups == ["Tom", "Rex"]


def test_a_file_that_is_not_there_is_a_sound_that_fails(folder):
    (folder / "labels.csv").write_text("cat/a.wav,miau\ngone.wav,wuff\n")
    gone = read_labelled(folder / "labels.csv").sounds[1]
    assert isinstance(gone, NoSound)
    assert "gone.wav" in gone.reason


def test_a_path_may_begin_at_home(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    (folder / "cat" / "labels.csv").write_text("~/cat/a.wav,miau\n~/dog/a.wav,wuff\n")
    assert [sound.path for sound in read_labelled(folder / "cat" / "labels.csv").sounds] == [
        folder / "cat" / "a.wav",
        folder / "dog" / "a.wav",
    ]


def test_a_sound_is_no_table(folder):
    with pytest.raises(ConfigError, match=r"a\.wav is a sound; expected a folder that has a folder of sounds"):
        read_labelled(folder / "cat" / "a.wav")


def test_sounds_in_no_folder_of_a_class_are_named(folder):
    (folder / "cat" / "c.M4A").write_bytes(b"")
    (folder / "cat" / "deep" / "b.wav").unlink()
    with pytest.raises(
        ConfigError, match=r"2 sounds, such as a.wav, lie in .* itself; put those of each class into a folder"
    ):
        read_labelled(folder / "cat")
    (folder / "dog" / "deep").mkdir()
    (folder / "loose.wav").write_bytes(b"")
    (folder / "loose.txt").write_bytes(b"")
    found = read_labelled(folder)
    assert loose_sounds(found.left_out, folder) == [folder / "loose.wav"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\ncat/a.wav,miau\ndog/a.wav\n", "line 3 has 1 column; expected 2: path,label"),
        ("cat/a.wav,miau\ndog/a.wav,\n", "line 2 has no label"),
        ("cat/a.wav,miau\ncat/a.wav,wuff\n", "line 2: cat/a.wav is labelled 'wuff', but 'miau' in line 1"),
        ("path,label,Label\ncat/a.wav,miau,wuff\n", "line 1 names the column label twice"),
        ("filename,fold,category\ncat/a.wav,1,miau\n", NAMELESS),
        (",filename,category\n0,cat/a.wav,miau\n", "names no column path and no column label, but , filename, category"),
        ("path,class\ncat/a.wav,miau\n", "line 1 names no column label, but path, class; rename"),
        ("cat,miau\n", "line 1: cat is a folder"),
        ("cat/a.wav,miau\n", "1 sound of 1 class, but"),
        ("", "0 sounds of 0 classes"),
    ],
    ids=[
        "a column too few",
        "no label",
        "two labels",
        "a column twice",
        "other columns",
        "a column without a name",
        "one other column",
        "a folder",
        "one class",
        "empty",
    ],
)
def test_a_table_that_cannot_be_used_names_the_line(folder, text, message):
    (folder / "labels.csv").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_labelled(folder / "labels.csv")


def test_what_is_neither_folder_nor_table_is_refused(tmp_path):
    (tmp_path / "labels.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="in UTF-8"):
        read_labelled(tmp_path / "labels.csv")
    with pytest.raises(ConfigError, match="no such folder or file"):
        read_labelled(tmp_path / "nowhere")
    (tmp_path / "one").mkdir()
    with pytest.raises(ConfigError, match="0 sounds of 0 classes"):
        read_labelled(tmp_path / "one")


def test_paths_in_a_table_may_begin_at_the_users_home(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    (folder / "labels.csv").write_text(f"~/{folder.name}/cat/a.wav,miau\ngone.wav,wuff\n")
    assert read_labelled(folder / "labels.csv").sounds[0].path == folder / "cat" / "a.wav"
