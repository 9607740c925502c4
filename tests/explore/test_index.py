"""An index: what is like a sound, whatever the collection is made of and however it is kept."""

import copy
import json
import math

import numpy as np
import pytest

import hear_axlstm
from hear_axlstm import Index
from hear_axlstm.errors import AudioError, ConfigError, OutputError
from hear_axlstm.explore import index as module
from hear_axlstm.explore.texts import Texts
from hear_axlstm.files.load import read_blocks

HALF = 5e-4  # of a cosine, in half precision
SIZE = 32


def vectors(count, seed=0, size=SIZE, noise=0.5):
    """Embeddings around twenty places, which have a large part in common, as real ones do."""
    rng = np.random.default_rng(seed)
    places = np.random.default_rng(9).normal(size=(20, size))
    return (3 + places[rng.integers(20, size=count)] + noise * rng.normal(size=(count, size))).astype(np.float32)


@pytest.fixture
def by_own_mean(monkeypatch):
    """Plain embeddings are of no weights: they are centred on their own mean."""
    monkeypatch.setattr("hear_axlstm.explore.collection.common", lambda *_: None)


@pytest.fixture(scope="session", params=["npy", "parquet"])
def folder(request, sounds, model, tmp_path_factory):
    out = tmp_path_factory.mktemp("folders") / request.param
    hear_axlstm.embed(sounds, model, out=out, format=request.param)
    return out


@pytest.fixture
def small_scan(monkeypatch):
    """Graphs from 500 vectors on, in several parts."""
    monkeypatch.setattr(module, "SCANNED", 500)
    monkeypatch.setattr(module, "ROWS", 300)


def test_an_index_answers_as_similarity_does(result):
    index = Index.build(result)
    table, found = result.similarity(), index.query(result, k=4)
    assert list(found.names) == list(index.names) == result.names
    for row in np.flatnonzero(result.ok):
        expected = np.sort(table[row][result.ok])[::-1][:4]
        assert found.cosines[row] == pytest.approx(expected, abs=HALF)
        assert table[row, found.indices[row]] == pytest.approx(found.cosines[row], abs=HALF)
        assert found.indices[row, 0] == row  # what is in the collection finds itself first
    assert (found.indices[~result.ok] == -1).all()
    assert np.isnan(found.cosines[~result.ok]).all()


def test_neighbours_are_those_of_the_exact_functions(result):
    index = Index.build(result)
    ours, theirs = index.neighbours(3), result.neighbours(3)
    assert list(ours.names) == theirs.names
    assert ours.cosines == pytest.approx(theirs.cosines, abs=HALF, nan_ok=True)
    assert (ours.indices[~result.ok] == -1).all()


def test_a_folder_of_either_format_is_a_collection(folder, result, model):
    index = Index.build(folder)
    assert sorted(index.names) == sorted(block_names := [name for block in read_blocks(folder) for name in block.names])
    assert len(index) == int(result.ok.sum()) == len(block_names)
    found = dict(index.query(result[result.ok], 1))
    assert all(hits == [(name, pytest.approx(1, abs=HALF))] for name, hits in found.items())
    assert all(path.endswith(name.rpartition("/")[2]) for name, path in zip(index.names, index.paths, strict=True))


def test_sounds_are_queries(folder, sounds, model):
    index = Index.build(folder)
    (name, hits), *others = index.query(sounds / "high" / "tone 0.wav", 2, model=model)
    assert not others
    assert name == "tone 0.wav"
    assert hits[0] == ("high/tone 0.wav", pytest.approx(1, abs=HALF))
    both = index.query([sounds / "high" / "tone 0.wav", sounds / "low" / "broken.wav"], 2, model=model)
    assert [len(hits) for _, hits in both] == [2, 0]
    with pytest.raises(AudioError):
        index.query(sounds / "low" / "broken.wav", model=model)


def test_weights_that_do_not_come_along_are_asked_for(folder, sounds, golden):
    index = Index.build(folder)
    with pytest.raises(ConfigError, match="say where they are"):
        index.query(sounds / "high" / "tone 0.wav")
    with pytest.raises(ConfigError, match="expected those of one model"):
        index.query(sounds / "high" / "tone 0.wav", model=golden("ssam").model())
    other = hear_axlstm.embed(sounds, golden("ssam").model())
    with pytest.raises(ConfigError, match="expected those of one model"):
        index.query(other)
    with pytest.raises(ConfigError, match="expected those of one model"):
        index.add(other)


def test_bundled_weights_are_found(tmp_path, sounds):
    hear_axlstm.embed([sounds / "low"], out=tmp_path / "out")
    index = Index.build(tmp_path / "out", tmp_path / "saved")
    assert index.weights == "axlstm-tiny-open"
    assert next(iter(index.query(sounds / "low" / "tone 1.wav", 1)))[1] == [("tone 1.wav", pytest.approx(1, abs=HALF))]


@pytest.mark.parametrize("other", [("released", None), ("time", [6])], ids=str)
def test_results_of_another_layout_or_layer_are_refused(sounds, other):
    layout, layers = other
    theirs = hear_axlstm.embed(sounds / "high", hear_axlstm.load_model(layout=layout), layers=layers)
    ours = hear_axlstm.embed(sounds / "high")
    assert theirs.weights == ours.weights
    index = Index.build(ours)
    with pytest.raises(ConfigError, match="layout or layer"):
        index.query(theirs)
    with pytest.raises(ConfigError, match="layout or layer"):
        index.add(theirs)
    assert len(index) == 6


def test_saved_and_loaded_it_answers_the_same(by_own_mean, tmp_path):
    matrix = vectors(50)
    names = ["a\n", '"b"', "", "m\udce4.wav", "<i>", *map(str, range(45))]
    index = Index.build(matrix, names=names)
    index.save(tmp_path / "my.index")
    again = Index.load(tmp_path / "my.index")
    assert list(again.names) == names
    assert again.centring.equals(index.centring)
    for one, other in ((index.query(matrix, 5), again.query(matrix, 5)), (index.neighbours(5), again.neighbours(5))):
        assert np.array_equal(one.indices, other.indices)
        assert np.array_equal(one.cosines, other.cosines)
    again.save(tmp_path / "my.index")  # in place of itself
    assert len(Index.load(tmp_path / "my.index")) == 50
    assert not any("pickle" in path.name or path.suffix == ".pkl" for path in (tmp_path / "my.index").iterdir())


def test_what_is_added_is_found(by_own_mean, tmp_path):
    matrix, more = vectors(50), vectors(3, seed=1)
    index = Index.build(matrix)
    index.add(more, names=["x", "y", "z"])
    assert [hits[0][0] for _, hits in index.query(more, 1)] == ["x", "y", "z"]
    index.save(tmp_path / "saved")
    assert [hits[0][0] for _, hits in Index.load(tmp_path / "saved").query(more, 1)] == ["x", "y", "z"]
    with pytest.raises(ConfigError, match="shape"):
        index.add(np.ones((2, SIZE + 1), np.float32))
    assert len(index) == 53


def test_another_folder_of_the_same_weights_is_added(folder, sounds, model):
    index = Index.build(folder)
    before = len(index)
    index.add(folder)
    index.add(sounds / "high" / "tone 0.wav", model=model)
    assert len(index) == 2 * before + 1
    assert [name for name, cosine in next(iter(index.query(sounds / "high" / "tone 0.wav", 3, model=model)))[1]] == [
        "high/tone 0.wav", "high/tone 0.wav", "tone 0.wav",
    ]  # fmt: skip


def test_a_graph_finds_nearly_what_is_there(by_own_mean, small_scan, tmp_path):
    pytest.importorskip("usearch")
    matrix, asked = vectors(1_500), vectors(50, seed=2)
    index = Index.build(matrix, tmp_path / "large.index")
    assert not index.is_exact
    graph, exact = index.query(asked, 10), index.query(asked, 10, exact=True)
    recall = np.mean([len(set(one) & set(other)) / 10 for one, other in zip(graph.indices, exact.indices, strict=True)])
    assert recall > 0.95
    assert graph.cosines[:, 0] == pytest.approx(exact.cosines[:, 0], abs=1e-6)
    near, all_of_them = index.neighbours(3), index.neighbours(3, exact=True)
    assert (near.indices == all_of_them.indices).mean() > 0.95
    assert not (near.indices == np.arange(1_500)[:, None]).any()


def test_sounds_of_a_graph_find_themselves_however_many_copies_there_are(by_own_mean, small_scan, tmp_path):
    pytest.importorskip("usearch")
    matrix = vectors(2_000)
    copies = np.random.default_rng(0).choice(2_000, 700, replace=False)
    matrix[copies] = matrix[copies[0]]
    Index.build(matrix, tmp_path / "saved")
    index, others = Index.load(tmp_path / "saved"), np.setdiff1d(np.arange(2_000), copies)
    assert not index.is_exact
    assert np.array_equal(index.query(matrix[others], 5).indices[:, 0], others)
    found = index.neighbours(30)
    assert np.isin(found.indices[copies], copies).all()
    assert found.cosines[copies] == pytest.approx(1, abs=1e-3)
    assert (found.indices != np.arange(2_000)[:, None]).all()
    assert all(len(set(row)) == 30 for row in found.indices.tolist())  # nothing twice


def test_what_is_added_to_a_graph_is_found_before_and_after_it_is_saved(by_own_mean, small_scan, tmp_path):
    pytest.importorskip("usearch")
    index = Index.build(vectors(800))
    more = vectors(100, seed=3)
    index.add(more, names=[f"new {number}" for number in range(100)])
    index.save(tmp_path / "saved")
    for one in (index, Index.load(tmp_path / "saved")):
        assert [hits[0][0] for _, hits in one.query(more, 1)] == [f"new {number}" for number in range(100)]
    index.add(vectors(600, seed=4))  # in a new graph
    assert sum(hits[0][0] == f"new {number}" for number, (_, hits) in enumerate(index.query(more, 1))) >= 97


def test_without_usearch_a_large_index_is_exact(by_own_mean, small_scan, tmp_path, monkeypatch, caplog):
    pytest.importorskip("usearch")
    index = Index.build(vectors(600), tmp_path / "saved")
    monkeypatch.setitem(__import__("sys").modules, "usearch.index", None)
    slow = Index.load(tmp_path / "saved")
    assert slow.is_exact
    assert "pip install 'hear-axlstm[explore]'" in caplog.text
    assert np.array_equal(slow.query(vectors(5), 3).indices, index.query(vectors(5), 3, exact=True).indices)
    assert Index.build(vectors(600)).is_exact


def test_more_neighbours_than_sounds_are_all_of_them(by_own_mean):
    index = Index.build(vectors(9))
    assert index.query(vectors(2), 50).indices.shape == (2, 9)
    assert index.neighbours(50).indices.shape == (9, 8)
    for k in (0, -1, 1.5, True, None):
        with pytest.raises(ConfigError, match="number of neighbours"):
            index.query(vectors(2), k)


def test_more_neighbours_than_sounds_are_all_of_them_also_by_a_graph(by_own_mean, small_scan):
    matrix = vectors(1_500)
    matrix[-600:] = matrix[0]  # equal ones lead to each other alone
    found = Index.build(matrix).query(matrix[:2], 2_000)
    assert [sorted(row) for row in found.indices.tolist()] == [list(range(1_500))] * 2


def test_what_has_no_embedding_is_nobodys_neighbour(by_own_mean, caplog):
    matrix = vectors(30)
    matrix[[4, 9]] = math.nan
    index = Index.build(matrix)
    assert "2 of 30 have no embedding" in caplog.text
    found = index.neighbours(27)
    assert (found.indices[[4, 9]] == -1).all()
    assert not np.isin(found.indices, [4, 9]).any()
    assert (index.query(np.full(SIZE, math.nan, np.float32), 3).indices == -1).all()
    assert index.query(matrix[0], 30).indices.tolist()[0].count(-1) == 2


def test_what_cannot_be_searched_is_said(tmp_path, by_own_mean, sounds, model):
    with pytest.raises(ConfigError, match="too few to centre"):
        Index.build(vectors(3))
    with pytest.raises(ConfigError, match="are they all the same"):
        Index.build(np.ones((20, SIZE), np.float32), tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
    with pytest.raises(ConfigError, match="2 names for 20 embeddings"):
        Index.build(vectors(20), names=["a", "b"])
    with pytest.raises(ConfigError, match="have shape"):
        Index.build(np.zeros((0, SIZE), np.float32))
    few = sounds / "high"
    for options, words in (({"timestamps": True}, "every 40 ms"), ({"layers": [0, -1]}, "2 layers")):
        out = tmp_path / words[0]
        hear_axlstm.embed(few, model, out=out, **options)
        with pytest.raises(ConfigError, match=words):
            Index.build(out)


def test_one_clip_with_a_centring_is_a_collection():
    result = hear_axlstm.embed([np.random.default_rng(0).uniform(-1, 1, 8_000)], sample_rate=16_000)
    index = Index.build(result)
    assert [len(hits) for _, hits in index.query(result, 3)] == [1]
    assert index.neighbours(3).indices.shape == (1, 0)


def test_one_layer_is_a_collection(tmp_path, sounds, model):
    hear_axlstm.embed(sounds, model, out=tmp_path / "out", layers=1)
    index = Index.build(tmp_path / "out")
    _, hits = next(iter(index.query(sounds / "high" / "tone 2.wav", 1, model=model)))
    assert hits == [("high/tone 2.wav", pytest.approx(1, abs=HALF))]


@pytest.fixture
def saved(by_own_mean, small_scan, tmp_path):
    pytest.importorskip("usearch")
    Index.build(vectors(600), tmp_path / "saved")
    return tmp_path / "saved"


@pytest.mark.parametrize("name", ["vectors", "names", "name_ends", "paths", "path_ends", "projection", "twins", "graph"])
@pytest.mark.parametrize("harm", ["cut", "missing", "empty", "foreign"])
def test_damage_is_told(saved, name, harm):
    (path,) = saved.glob(f"{name}-*")
    content = path.read_bytes()
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes({"cut": content[: len(content) * 2 // 3], "empty": b"", "foreign": b"not an index" * 20}[harm])
    if name == "paths" and harm == "cut":
        return  # it holds a header alone
    with pytest.raises(OutputError, match="damaged"):
        Index.load(saved)


@pytest.mark.parametrize(("name", "change"), [("name_ends", -1), ("path_ends", 10**6), ("names", 255)])
def test_changed_names_are_told(saved, name, change):
    (path,) = saved.glob(f"{name}-*")
    array = np.load(path)
    array[3] = change
    np.save(path, array)
    with pytest.raises(OutputError, match="damaged"):
        list(Index.load(saved).names)


def test_the_graph_of_an_earlier_version_is_left_out(saved, caplog):
    header = saved / "index.json"
    header.write_text(json.dumps(json.loads(header.read_text()) | {"version": 1}))
    next(saved.glob("twins-*")).unlink()
    index = Index.load(saved)
    assert "earlier version" in caplog.text
    assert index.is_exact
    index.save(saved.with_name("again"))
    index.add(vectors(1))  # more than have no graph: they come into one
    assert not index.is_exact
    assert len(Index.load(saved.with_name("again"))) == 600


@pytest.mark.parametrize("pairs", [[[0, 600]], [[-1, 0]], [[0.0, 1.0]], [0, 1], [[0, 1, 2]]], ids=str)
def test_twins_that_are_no_pairs_of_places_are_told(saved, pairs):
    (path,) = saved.glob("twins-*")
    np.save(path, np.array(pairs))
    with pytest.raises(OutputError, match="damaged"):
        Index.load(saved)


def test_a_header_of_an_array_that_numpy_cannot_parse_is_damage(saved):
    (path,) = saved.glob("names-*")
    content = path.read_bytes()
    path.write_bytes(content[:76] + b"(" + content[77:])  # its tokenizer has an error of its own
    with pytest.raises(OutputError, match="damaged"):
        Index.load(saved)


def test_a_graph_is_never_that_of_another_runs_index(by_own_mean, small_scan, tmp_path, monkeypatch):
    made = module.Graph.over

    def slow(*arguments):
        graph = made(*arguments)
        monkeypatch.setattr(module.Graph, "over", made)
        Index.build(vectors(900, seed=5), tmp_path / "index")  # another run is done meanwhile
        return graph

    monkeypatch.setattr(module.Graph, "over", slow)
    Index.build(vectors(800, seed=4), tmp_path / "index")
    index = Index.load(tmp_path / "index")
    found, exact = (index.query(vectors(900, seed=5)[:50], 1, exact=exact) for exact in (False, True))
    assert len(index) == 900
    assert (found.indices == exact.indices).mean() > 0.9


def test_an_index_that_another_run_replaced_is_not_taken_for_ours(by_own_mean, tmp_path, monkeypatch):
    wrote = module.write_index

    def beaten(folder, *arguments):
        facts = wrote(folder, *arguments)
        monkeypatch.setattr(module, "write_index", wrote)
        Index.build(vectors(30), folder)
        return facts

    monkeypatch.setattr(module, "write_index", beaten)
    with pytest.raises(OutputError, match="another run"):
        Index.build(vectors(20), tmp_path / "index")


@pytest.mark.parametrize(
    "change",
    [{"kind": "x"}, {"version": 99}, {"count": 3}, {"dimensions": "x"}, {"files": "../x"}, {"centring": {}}, {"made": 3},
     {"graph": {}}],
    ids=str,
)  # fmt: skip
def test_a_header_of_something_else_is_told(saved, change):
    header = saved / "index.json"
    header.write_text(json.dumps(json.loads(header.read_text()) | change))
    with pytest.raises(OutputError):
        Index.load(saved)
    header.write_text("{")
    with pytest.raises(OutputError, match="damaged"):
        Index.load(saved)


def test_an_index_never_takes_the_place_of_something_else(by_own_mean, tmp_path):
    index = Index.build(vectors(20))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "index.json").write_text("{}")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.jpg").touch()
    (tmp_path / "file").touch()
    for name in ("notes", "photos", "file"):
        with pytest.raises(OutputError):
            index.save(tmp_path / name)
    with pytest.raises(OutputError, match="expected an index"):
        Index.load(tmp_path / "photos")


def test_a_run_that_ends_early_leaves_the_index_that_was_there(saved, monkeypatch):
    before = Index.load(saved)

    def full(*_):
        raise OSError(28, "No space left on device")

    for broken in ("_Growing.add", "write_text"):
        with monkeypatch.context() as patch:
            patch.setattr(f"hear_axlstm.explore.store.{broken}", full)
            with pytest.raises(OutputError, match="No space left"):
                Index.build(vectors(600, seed=5), saved)
        there = Index.load(saved)
        assert len(there) == len(before)
        assert np.array_equal(there.query(vectors(3), 3).indices, before.query(vectors(3), 3).indices)
    assert not list(saved.glob(".*.part"))


def test_texts_are_a_list():
    words = ["a", "", "\udcff", "\U0001f600", "x" * 300]
    texts = Texts.of(words)
    assert list(texts) == words == [texts[place] for place in range(5)]
    assert list(texts[1:3]) == words[1:3]
    assert list(texts[3:3]) == []
    assert texts[-1] == words[-1]
    assert list(texts + texts[1:]) == words + words[1:]
    with pytest.raises(IndexError):
        texts[5]
    assert repr(texts) == "5 texts: a, , \\xff, ..."
    assert list(copy.deepcopy(texts)) == words
