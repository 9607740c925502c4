"""The result of embed: aligned, as a matrix and a table, in parts, saved and loaded."""

import json
import sys

import numpy as np
import pandas
import pyarrow.compute
import pyarrow.parquet
import pytest
import soundfile
import torch

from hear_axlstm import Embedded, embed, load_embeddings
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.errors import ConfigError, OutputError
from hear_axlstm.files import write
from hear_axlstm.files.load import read_blocks
from hear_axlstm.files.result import TEXTS
from hear_axlstm.files.rows import COLUMNS
from hear_axlstm.files.settings import read_settings
from hear_axlstm.weights.save import weights_digest
from tests.conftest import tone

NAMES = ["a.wav", "b.flac", "below/c.ogg", "below/none.wav"]


@pytest.fixture
def model(golden):
    return golden("ssast").model()


@pytest.fixture
def sounds(sound_folder):
    (sound_folder / "below" / "none.wav").write_bytes(b"nothing")
    return sound_folder


@pytest.fixture
def result(model, sounds):
    return embed(sounds, model)


def test_it_is_aligned_with_what_was_given(result, sounds):
    assert result.names == NAMES
    assert list(result.ok) == [True, True, True, False]
    assert result.paths == [str(sounds / name) for name in NAMES]
    assert (result.matrix.shape, result.matrix.dtype) == ((4, 240), np.float32)
    assert np.array_equal(np.isfinite(result.matrix).all(1), result.ok)
    np.testing.assert_allclose(result.durations, [1.3, 2.1, 0.6, np.nan])
    assert [row.name for row in result] == NAMES
    assert result[1].embedding is result.embeddings[1]
    assert result[-1].embedding is None


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        (slice(1, 3), [1, 2]),
        ([3, 0], [3, 0]),
        ([False, True, True, False], [1, 2]),
        (np.array([2], np.uint8), [2]),
        ([], []),
    ],
    ids=["slice", "list", "mask", "array", "none"],
)
def test_a_part_of_it_is_one_as_well(result, which, expected):
    part = result[which]
    assert part.names == [NAMES[index] for index in expected]
    assert np.array_equal(part.matrix, result.matrix[expected], equal_nan=True)
    assert list(part.failures) == [NAMES[index] for index in expected if index == 3]


@pytest.mark.parametrize("number", [np.int64(1), np.array(1), torch.tensor(1)], ids=["numpy", "array", "tensor"])
def test_a_number_of_any_kind_gives_a_row(result, number):
    assert result[number].name == NAMES[1]


@pytest.mark.parametrize("which", ["a.wav", True, 1.0, [[0, 1]]], ids=["name", "boolean", "float", "two dimensions"])
def test_it_is_indexed_by_nothing_else(result, which):
    with pytest.raises(TypeError, match=r"a number, a slice, booleans or a list of numbers, not "):
        result[which]


def test_it_says_in_short_what_it_is(result):
    assert repr(result) == (
        "Embedded: 4 sounds, 240 numbers each\n  1 failure: below/none.wav; .failures says why\n"
        f"  weights: {result.weights}"
    )  # fmt: skip
    assert repr(result.failures).splitlines()[1].startswith("below/none.wav  cannot be decoded (")


def test_a_table_has_a_row_for_each_sound(result):
    frame = result.to_frame()
    assert list(frame.index) == NAMES
    assert frame.index.name == "name"
    assert list(frame.columns[:3]) == ["folder", "seconds", "e0"]
    assert list(frame["folder"]) == ["sounds", "sounds", "below", "below"]
    assert np.array_equal(frame.filter(regex=r"^e\d").to_numpy(), result.matrix, equal_nan=True)


def test_a_table_needs_pandas(result, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match="pip install pandas"):
        result.to_frame()


def test_where_there_is_no_matrix_it_says_what_to_do(model, sounds, tmp_path):
    with pytest.raises(ConfigError, match=r"use \.embeddings, or embed without timestamps"):
        embed(sounds, model, timestamps=True).matrix  # noqa: B018
    with pytest.raises(ConfigError, match="2 layers make no matrix: ask for one layer"):
        embed(sounds, model, layers=[0, 1]).matrix  # noqa: B018
    assert embed(sounds, model, layers=1).matrix.shape == (4, 240)
    written = embed(sounds, model, out=tmp_path / "out")
    assert (written.names, list(written.ok), written.embeddings) == (NAMES, [True, True, True, False], [])
    for use in (lambda: written.matrix, lambda: written[0], lambda: list(written), lambda: written.save("x.npz")):
        with pytest.raises(ConfigError, match=r"hear_axlstm\.load_embeddings"):
            use()


@pytest.mark.parametrize(
    "options", [{}, {"timestamps": True}, {"layers": "all"}, {"timestamps": True, "layers": [0, 2]}], ids=str
)
def test_what_is_saved_is_loaded(model, sounds, tmp_path, options):
    result = embed(sounds, model, **options)
    result.save(tmp_path / "x.npz")
    assert_same(load_embeddings(tmp_path / "x.npz"), result)


def assert_same(loaded, result):
    assert (loaded.names, loaded.failures, loaded.paths) == (result.names, result.failures, result.paths)
    assert np.array_equal(loaded.durations, result.durations, equal_nan=True)
    for ours, theirs in zip(loaded.embeddings + loaded.timestamps, result.embeddings + result.timestamps, strict=True):
        assert ours is theirs is None or np.array_equal(ours, theirs)


@pytest.mark.parametrize("format", ["npy", "parquet"])
@pytest.mark.parametrize("options", [{}, {"timestamps": True}, {"timestamps": True, "layers": [0, 2]}], ids=str)
def test_a_folder_is_loaded_in_order(model, sounds, tmp_path, format, options):
    soundfile.write(sounds / "A.wav", tone(440, 0.3), SAMPLE_RATE)
    for one in (sounds / "b.flac", sounds):
        embed(one, model, out=tmp_path / "out", format=format, **options)
    loaded = load_embeddings(tmp_path / "out")
    expected = embed(sounds, model, **options)
    assert loaded.failures == (expected.failures if format == "parquet" else {})
    loaded = loaded[loaded.ok]
    assert loaded.names == ["A.wav", *NAMES[:3]]
    assert [name for name, embedding in expected if embedding is not None] == loaded.names
    assert loaded.paths == [str(sounds / name) for name in loaded.names]
    np.testing.assert_allclose(loaded.durations, [0.3, 1.3, 2.1, 0.6])
    for ours, theirs in zip(loaded, expected[expected.ok], strict=True):
        np.testing.assert_allclose(ours.embedding, theirs.embedding, atol=1e-5)


@pytest.mark.parametrize("sounds", [[], ["absent.wav"], ["absent.wav", "nope.wav"]], ids=len)
def test_a_matrix_has_as_many_columns_where_nothing_was_embedded(model, tmp_path, sounds):
    result = embed(sounds, model)
    result.save(tmp_path / "x.npz")
    for one in (result, load_embeddings(tmp_path / "x.npz"), result[:]):
        assert one.matrix.shape == (len(sounds), 240)
        assert np.isnan(one.matrix).all()
        assert list(one.to_frame().columns[-2:]) == ["e238", "e239"]
        assert one[:0].matrix.shape == (0, 240)
    with pytest.raises(ConfigError, match=rf"none of {len(sounds)} sounds? has an embedding"):
        result.similarity()


def test_a_part_with_nothing_in_it_has_as_many_columns(model, sounds, result, tmp_path):
    embed(sounds, model, out=tmp_path / "out")
    result.save(tmp_path / "x.npz")
    for one in (result, load_embeddings(tmp_path / "x.npz"), load_embeddings(tmp_path / "out")):
        assert (one[:0].matrix.shape, one.size) == ((0, 240), 240)
    assert result[[3]].matrix.shape == (1, 240)


def test_files_of_earlier_versions_which_have_no_size_are_loaded(model, sounds, tmp_path, monkeypatch):
    monkeypatch.setattr("hear_axlstm.files.result.TEXTS", TEXTS[:-1])
    embed(sounds, model).save(tmp_path / "x.npz")
    embed([], model).save(tmp_path / "none.npz")
    assert load_embeddings(tmp_path / "x.npz")[:0].matrix.shape == (0, 240)
    assert load_embeddings(tmp_path / "none.npz").matrix.shape == (0, 0)


@pytest.mark.parametrize("damage", [b"", b"PK\3\4", b"nothing of the kind" * 9])
def test_what_is_no_result_is_refused(tmp_path, damage):
    (tmp_path / "x.npz").write_bytes(damage)
    np.savez(tmp_path / "y.npz", x=np.zeros(3))
    for name in ("x.npz", "y.npz", "absent.npz"):
        with pytest.raises(OutputError, match=f"{name} cannot be read"):
            load_embeddings(tmp_path / name)
    with pytest.raises(OutputError, match="holds no embeddings; expected a folder that"):
        load_embeddings(tmp_path)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("facts", np.frombuffer(b"[" * 100_000, np.uint8)),
        ("embeddings", np.ones(3, np.float32)),
        ("embeddings", np.array([{}], object)),
        ("embeddings", np.array([["a"]] * 3)),
        ("durations", np.array(["a"] * 4)),
        ("ok", np.ones(4)),
    ],
    ids=["deep facts", "embeddings of no size", "pickled", "text", "durations of text", "numbers for booleans"],
)
def test_a_part_that_is_something_else_is_refused(result, tmp_path, part, value):
    result.save(tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as file:
        parts = {name: file[name] for name in file.files}
    np.savez(tmp_path / "x.npz", **{**parts, part: value})
    with pytest.raises(OutputError, match=r"x\.npz cannot be read"):
        load_embeddings(tmp_path / "x.npz")


def test_a_damaged_archive_of_any_kind_is_refused(result, tmp_path):
    result.save(tmp_path / "x.npz")
    whole = (tmp_path / "x.npz").read_bytes()
    entry = whole.index(b"PK\1\2")  # of the list of contents
    for place in (6, 8, 10):  # version, flags, compression
        (tmp_path / "x.npz").write_bytes(whole[: entry + place] + b"\x63" + whole[entry + place + 1 :])
        with pytest.raises(OutputError, match=r"x\.npz cannot be read"):
            load_embeddings(tmp_path / "x.npz")


def test_another_suffix_is_refused(result):
    with pytest.raises(ConfigError, match=r"call it x\.npz"):
        result.save("x")


def test_a_table_of_a_parquet_folder_is_ordered_and_has_what_pandas_knows(model, sounds, tmp_path):
    embed(sounds, model, out=tmp_path / "out", format="parquet")
    table = pandas.read_parquet(tmp_path / "out")
    assert list(table["name"]) == NAMES
    assert list(table["error"].isna()) == [True, True, True, False]
    assert list(table.columns) == COLUMNS["scene"]
    assert list(table["folder"]) == ["sounds", "sounds", "below", "below"]
    assert str(table["modified"].dtype) == "datetime64[ns]"
    assert table["modified"][0].value == (sounds / "a.wav").stat().st_mtime_ns


def test_parquet_of_earlier_versions_is_not_continued(model, sounds, tmp_path):
    folder, part = as_before(model, sounds, tmp_path / "out")
    assert load_embeddings(folder).names == NAMES[:3]
    assert [block.names for block in read_blocks(folder)] == [NAMES[:3]]
    with pytest.raises(OutputError, match="other settings: the columns of tables were others"):
        embed(sounds, model, out=folder, format="parquet")
    embed(sounds, model, out=folder, format="parquet", overwrite=True)
    assert [path.suffix for path in folder.iterdir()] == [".parquet"]
    assert not part.exists()


def as_before(model, sounds, folder):
    """A folder as the version before left it: settings and centring beside parts of fewer columns. Returns the part, too."""
    (sounds / NAMES[3]).unlink()  # of which there was no row
    embed(sounds, model, out=folder, format="parquet")
    settings = read_settings(folder) | {
        "columns": [name for name in COLUMNS["scene"] if name not in ("sample_rate", "error")]
    }
    (folder / "_centring.json").write_text(json.dumps(settings.pop("centring")))
    (folder / "_embed.json").write_text(json.dumps(settings))
    (folder / ".lock").touch()
    (part,) = folder.glob("*.parquet")
    table = pyarrow.parquet.read_table(part).filter(pyarrow.compute.field("error").is_null())
    pyarrow.parquet.write_table(table.select(settings["columns"]).replace_schema_metadata(), part)
    return folder, part


def test_centring_goes_with_scenes_of_the_weights_own_kind(model, sounds, tmp_path):
    facts = {"mean": [0.5], "weights": weights_digest(model.encoder.config, model.encoder.state_dict())}
    model.encoder.layout, model.encoder.centring = model.layout, facts
    assert embed(sounds, model).centring == facts
    embed(sounds, model, out=tmp_path / "out")
    assert load_embeddings(tmp_path / "out").centring == facts
    assert embed(sounds, model, layers=-1).centring is None
    assert embed(sounds, model, timestamps=True).centring is None
    model.encoder.layout = "time" if model.layout == "released" else "released"
    assert write.centring_of(model, timestamps=False, layers=None) is None


def test_it_can_be_made_by_hand():
    made = Embedded(["x", "y"], [np.ones(3, np.float32), None])
    assert (list(made.ok), made.matrix.shape) == ([True, False], (2, 3))


@pytest.mark.parametrize("format", ["npy", "parquet"])
@pytest.mark.parametrize("options", [{}, {"layers": [0, 2]}], ids=str)
def test_a_folder_is_read_in_blocks(model, sounds, tmp_path, format, options, monkeypatch):
    embed(sounds, model, out=tmp_path / "out", format=format, **options)
    loaded, settings = load_embeddings(tmp_path / "out"), read_settings(tmp_path / "out")
    loaded = loaded[loaded.ok]
    assert (settings["format"], settings["embeddings"], settings["centring"]) == (format, "scene", loaded.centring)
    monkeypatch.setattr("hear_axlstm.files.load.BLOCK_ROWS", 2)
    blocks = list(read_blocks(tmp_path / "out"))
    assert [len(block.names) for block in blocks] == [2, 1]
    assert [name for block in blocks for name in block.names] == loaded.names
    assert [path for block in blocks for path in block.paths] == loaded.paths
    assert [folder for block in blocks for folder in block.folders] == ["sounds", "sounds", "below"]
    assert np.array_equal(np.concatenate([block.matrix for block in blocks]), np.stack(loaded.embeddings))
    assert np.array_equal(np.concatenate([block.seconds for block in blocks]), loaded.durations)


def test_blocks_are_of_scenes(model, sounds, tmp_path):
    embed(sounds, model, out=tmp_path / "out", timestamps=True)
    with pytest.raises(OutputError, match="holds an embedding every 40 ms; expected one a sound"):
        next(read_blocks(tmp_path / "out"))
    assert read_settings(tmp_path) is None
    with pytest.raises(OutputError, match="holds no embeddings"):
        next(read_blocks(tmp_path))
