"""The index of a folder, which is kept beside it: read again, made anew when the folder changes, and never in the way."""

import json
import os
import shutil

import numpy as np
import pytest
import soundfile

import hear_axlstm
from hear_axlstm import Index
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.errors import OutputError
from hear_axlstm.explore import open_index
from hear_axlstm.explore import search as module
from tests.conftest import tone


@pytest.fixture(params=["npy", "parquet"])
def folder(request, sounds, model, tmp_path):
    shutil.copytree(sounds, tmp_path / "sounds")
    hear_axlstm.embed(tmp_path / "sounds", model, out=tmp_path / "out", format=request.param)
    return tmp_path / "out"


@pytest.fixture
def built(monkeypatch):
    """How often an index was made."""
    made = []
    for name in ("written", "build"):
        function = getattr(Index, name).__func__

        def counted(cls, *arguments, function=function, **options):
            made.append(function.__name__)
            return function(cls, *arguments, **options)

        monkeypatch.setattr(Index, name, classmethod(counted))
    return made


def test_the_index_is_made_once(folder, built):
    one, other = open_index(folder), open_index(os.path.relpath(folder))
    assert built == ["written"]
    assert list(one.names) == list(other.names)
    assert len(one) == 12
    assert not list(folder.glob("index*"))
    assert len(open_index(folder.with_name("out.index"))) == 12


def test_a_folder_that_has_changed_gets_another(folder, model, built):
    open_index(folder)
    soundfile.write(folder.with_name("sounds") / "new.wav", tone(300, 0.3), SAMPLE_RATE)
    hear_axlstm.embed(
        folder.with_name("sounds"), model, out=folder, format="npy" if list(folder.glob("*/*.npy")) else "parquet"
    )
    assert "new.wav" in open_index(folder).names
    assert built == ["written", "written"]


def test_a_graph_that_a_killed_run_did_not_come_to_is_made(folder, built, monkeypatch):
    monkeypatch.setattr("hear_axlstm.explore.index.SCANNED", 10)
    with monkeypatch.context() as killed:
        killed.setattr("hear_axlstm.explore.index.write_graph", lambda *_: None)
        open_index(folder)
    assert Index.load(folder.with_name("out.index")).is_exact
    assert not open_index(folder).is_exact
    assert not Index.load(folder.with_name("out.index")).is_exact
    assert built == ["written"]


def test_a_graph_of_an_earlier_version_is_made_anew_once(folder, built, monkeypatch, caplog):
    monkeypatch.setattr("hear_axlstm.explore.index.SCANNED", 10)
    open_index(folder)
    header = folder.with_name("out.index") / "index.json"
    header.write_text(json.dumps(json.loads(header.read_text()) | {"version": 1}))
    assert not open_index(folder).is_exact
    assert "earlier version" in caplog.text
    caplog.clear()
    assert not Index.load(header.parent).is_exact
    assert "earlier version" not in caplog.text
    assert built == ["written"]


def test_a_damaged_index_is_made_anew(folder, built):
    open_index(folder)
    for path in folder.with_name("out.index").glob("vectors-*"):
        path.write_bytes(b"")
    assert len(open_index(folder)) == len(open_index(folder)) == 12
    assert built == ["written", "written"]


def test_what_somebody_else_has_put_there_stays(folder, caplog):
    other = folder.with_name("out.index")
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    assert len(open_index(folder)) == 12
    assert "is not kept" in caplog.text
    assert [path.name for path in other.iterdir()] == ["notes.txt"]
    shutil.rmtree(other)
    Index.build(np.random.default_rng(0).normal(size=(9, 960)).astype(np.float32), other)  # saved by hand
    assert len(open_index(folder)) == 12
    assert len(Index.load(other)) == 9


@pytest.mark.parametrize("harm", ["vectors", "version"])
def test_what_somebody_else_has_put_there_stays_also_where_it_cannot_be_read(folder, harm):
    kept = folder.with_name("out.index")
    Index.build(folder).save(kept)
    if harm == "version":
        (kept / "index.json").write_text(json.dumps(json.loads((kept / "index.json").read_text()) | {"version": 99}))
    else:
        next(kept.glob("vectors-*")).write_bytes(b"")
    before = {path.name: path.read_bytes() for path in kept.iterdir()}
    assert len(open_index(folder)) == 12
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before


def test_where_nothing_can_be_written_it_is_in_memory(folder, caplog, monkeypatch):
    def refused(*_):
        raise OutputError("out.index cannot be written (read-only); choose another folder")

    monkeypatch.setattr("hear_axlstm.explore.index.write_index", refused)
    assert len(open_index(folder)) == 12
    assert "read-only" in caplog.text


@pytest.mark.parametrize("name", ["nothing", "empty", "file.txt"])
def test_a_place_without_embeddings_is_told(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").touch()
    with pytest.raises(OutputError, match="expected a folder that hear-axlstm embed wrote"):
        module.open_index(tmp_path / name)
