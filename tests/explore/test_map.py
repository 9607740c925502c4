"""A map: where sounds lie, what they are coloured by, which are neighbours, and what it says of itself."""

import csv
import datetime
import decimal
import json
import re
import sys

import numpy as np
import pyarrow.parquet
import pytest
from click.testing import CliRunner

import hear_axlstm
from hear_axlstm import Embedded, draw_map
from hear_axlstm.cli import main
from hear_axlstm.errors import ConfigError, OutputError
from hear_axlstm.explore import layout, map
from hear_axlstm.explore.colours import MOST, NONE, colour

CENTRED = {"mean": [0.0] * 16, "directions": [], "gains": [], "source": "nothing"}


def collection(matrix, names=None, paths=None, **facts):
    """A result as ``embed`` gives it, with a centring that changes nothing."""
    names = names or [f"{number:05}.wav" for number in range(len(matrix))]
    rows = [None if row is None else np.asarray(row, np.float32) for row in matrix]
    return Embedded(names, rows, paths=paths or [], centring=CENTRED, **facts)


def groups(counts, seed=0):
    """Embeddings of as many groups as there are counts, each around a direction of its own, and the group of each."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    return rng.normal(size=(len(counts), 16))[labels] + 0.1 * rng.normal(size=(len(labels), 16)), labels


def data_of(page):
    """What a page's script reads."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def run(*arguments):
    return CliRunner().invoke(main, ["map", *(str(argument) for argument in arguments)])


def test_sounds_of_a_kind_lie_together():
    matrix, labels = groups([20, 20, 20])
    drawn = draw_map(collection(matrix))
    middles = np.stack([drawn.places[labels == group].mean(0) for group in range(3)])
    nearest = np.linalg.norm(drawn.places[:, None] - middles, axis=2).argmin(1)
    assert np.array_equal(nearest, labels)
    assert np.array_equal(labels[drawn.neighbours], np.repeat(labels[:, None], map.NEIGHBOURS, 1))
    assert 0.3 < drawn.kept <= 1
    assert np.isfinite(drawn.places).all()
    assert drawn.places.min() >= 0
    assert drawn.places.max() <= 1


def test_the_same_collection_gives_the_same_map():
    matrix, _ = groups([12, 5])
    assert np.array_equal(draw_map(collection(matrix)).places, draw_map(collection(matrix)).places)


@pytest.mark.parametrize("count", [1, 2, 3, layout.FEW - 1, layout.FEW, 13])
@pytest.mark.parametrize("kind", ["random", "equal", "equal but one", "zero"])
def test_a_collection_of_any_size_has_a_map(count, kind):
    matrix = np.random.default_rng(0).normal(size=(count, 16))
    if kind.startswith("equal"):
        matrix[1 if kind == "equal" else 2 :] = matrix[0]
    if kind == "zero":
        matrix[:] = 0
    drawn = draw_map(collection(matrix))
    assert drawn.places.shape == (count, 2)
    assert np.isfinite(drawn.places).all()
    assert drawn.neighbours.shape == (count, min(count - 1, map.NEIGHBOURS))
    assert data_of(drawn.to_html())["names"] == drawn.names
    if count > 1 and kind in ("equal", "zero"):
        assert drawn.notes == ["All embeddings are equal: the places say nothing."]
        assert len(np.unique(drawn.places, axis=0)) == count


def test_sounds_without_an_embedding_are_left_out_and_counted():
    matrix = list(groups([12])[0])
    matrix[3], matrix[7] = None, matrix[7] * np.nan
    drawn = draw_map(collection(matrix, failures={"00003.wav": "broken"}))
    assert len(drawn) == 10
    assert "00007.wav" not in drawn.names
    assert drawn.notes == ["Left out: 2 sounds without an embedding."]


def test_of_very_many_sounds_an_even_sample_is_shown(monkeypatch):
    monkeypatch.setattr(map, "MOST", 20)
    matrix, labels = groups([6_000, 6_000])
    drawn = draw_map(collection(matrix))
    assert drawn.notes == ["20 of 12,000 sounds are shown, an even sample."]
    assert drawn.names == sorted(drawn.names)
    shown = labels[[int(name[:5]) for name in drawn.names]]
    assert 3 < shown.sum() < 17
    fewer = np.flatnonzero(np.arange(12_000) % 2)
    again = draw_map(collection(matrix[fewer], [f"{place:05}.wav" for place in fewer]))
    assert {name for name in drawn.names if int(name[:5]) % 2} <= set(again.names)


@pytest.mark.parametrize("kind", ["npy", "parquet", "npz", "result"])
def test_it_reads_what_embed_made(kind, sounds, model, result, tmp_path):
    source = result
    if kind == "npz":
        source = tmp_path / "saved.npz"
        result.save(source)
    elif kind != "result":
        source = tmp_path / "embeddings"
        hear_axlstm.embed(sounds, model, out=source, format=kind)
    drawn = draw_map(source, tmp_path / "map.html")
    assert len(drawn) == 12
    assert {entry.name: entry.count for entry in drawn.colouring.legend} == {"high": 6, "low": 6}
    assert drawn.paths == [str(sounds / name) for name in drawn.names]
    assert drawn.seconds == pytest.approx(0.25)
    assert drawn.centred_on == "the mean of these 12 sounds"
    assert drawn.notes == ([] if kind == "npy" else ["Left out: 1 sound without an embedding."])
    assert (tmp_path / "map.html").read_text() == drawn.to_html()


def test_a_column_of_the_parquet_parts_colours(sounds, model, tmp_path):
    out = tmp_path / "embeddings"
    hear_axlstm.embed(sounds, model, out=out, format="parquet")
    [part] = out.glob("*.parquet")
    table = pyarrow.parquet.read_table(part)
    pitches = [None if "broken" in name else name.startswith("high") for name in table["name"].to_pylist()]
    pyarrow.parquet.write_table(table.append_column("is high", [pitches]), part)
    drawn = draw_map(out, color="is high")
    assert {entry.name: entry.count for entry in drawn.colouring.legend} == {"no": 6, "yes": 6}
    assert draw_map(out, color="seconds").colouring.kind == "number"
    assert draw_map(out, color="modified").colouring.kind == "time"
    with pytest.raises(ConfigError, match="no column 'pitch'; expected folder, seconds"):
        draw_map(out, color="pitch")
    hear_axlstm.embed(sounds, model, out=tmp_path / "npy")
    with pytest.raises(ConfigError, match="expected folder, or seconds, since only parquet has others"):
        draw_map(tmp_path / "npy", color="sample_rate")


@pytest.mark.parametrize("key", ["name", "path", "absolute", "filename"])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_colours_by_name_or_path(key, kind, result, sounds, tmp_path):
    rows = [(name, f"pitch {number % 3}") for number, name in enumerate(result.names) if number]
    if key == "path":
        rows = [(f"{sounds.name}/{name}", label) for name, label in rows]
    if key == "absolute":
        key, rows = "path", [(f"{sounds}/{name}", label) for name, label in rows]
    table = (sounds.parent if key == "path" else tmp_path) / f"labels.{kind}"
    if kind == "csv":
        with open(table, "w", newline="") as file:
            csv.writer(file, delimiter=";").writerows([(key, "label", "other"), *((*row, "1") for row in rows)])
    else:
        columns = dict(zip((key, "label"), map_columns(rows), strict=True))
        pyarrow.parquet.write_table(pyarrow.table({**columns, "other": ["1"] * len(rows)}), table)
    drawn = draw_map(result, table=table)
    assert drawn.colouring.column == "label"
    assert drawn.colouring.texts[0] == ""
    assert set(drawn.colouring.texts[1:]) == {"pitch 0", "pitch 1", "pitch 2"}
    assert drawn.notes[-1] == f"1 sound has no label in {table}."
    assert draw_map(result, table=table, color="other").colouring.column == "other"
    table.unlink()


def map_columns(rows):
    return [list(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no rows"),
        ("name,label\n", "has no rows"),
        ("sound,label\na,b\n", "no column name or path, but sound, label"),
        ("name,x,y\n{name},1,2\n", "say which one to colour by"),
        ("name,label\nelsewhere,1\n", "none of its rows is of a sound of the collection; it has elsewhere"),
        ("name,label\n{name},1\n{name},2\n", "has '1' and '2' in label"),
        ("name,label\n{name}\n", "row 2 has 1 column; expected 2: name,label"),
        ("name,label\n\xff", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(text, words, result, tmp_path):
    table = tmp_path / "labels.csv"
    if text is not None:
        table.write_bytes(text.format(name=result.names[0]).encode("latin-1"))
    with pytest.raises(ConfigError, match=re.escape(words)):
        draw_map(result, table=table)


def test_numbers_of_a_table_are_numbers(result, tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("name,loudness\n" + "".join(f'"{name}",{1.5**number}\n' for number, name in enumerate(result.names)))
    colouring = draw_map(result, table=table, color="loudness").colouring
    assert (colouring.kind, colouring.low, colouring.high) == ("number", "1", "129.746")
    assert list(colouring.codes) == sorted(colouring.codes)


def test_categories_beyond_the_twelfth_are_the_others():
    values = [f"kind {number}" for number in range(MOST + 8) for _ in range(30 - number)] + [None, ""]
    colouring = colour("kind", values)
    assert [entry.name for entry in colouring.legend[-2:]] == ["8 others", "no value"]
    assert len(colouring.legend) == MOST + 2
    assert sum(entry.count for entry in colouring.legend) == len(values)
    assert list(colouring.codes[-2:]) == [NONE, NONE]
    assert colouring.texts[-3] == "kind 19"


def test_few_whole_numbers_are_categories_and_many_a_scale():
    assert colour("fold", [1, 2, 3, 1]).kind == "category"
    assert [entry.name for entry in colour("rate", np.array([16_000, 44_100])).legend] == ["16000", "44100"]
    assert colour("id", list(range(13))).kind == "number"
    scale = colour("seconds", [1.0, 2.0, np.nan, 3.0])
    assert list(scale.codes) == [0, 127, NONE, 254]
    assert (scale.low, scale.high, scale.logarithmic) == ("1", "3", False)
    assert colour("seconds", [0.1, 1.0, 100.0]).logarithmic
    assert list(colour("seconds", [2.5, 2.5]).codes) == [0, 0]
    assert colour("nothing", [None, np.nan]).legend[0].name == "no value"


def test_dates_and_exact_numbers_are_on_a_scale():
    days = [datetime.date(2020, 1, 1) + datetime.timedelta(days=day) for day in (0, 127, 254)]
    scale = colour("day", days)
    assert (scale.kind, scale.low, scale.high, list(scale.codes)) == ("time", "2020-01-01", "2020-09-11", [0, 127, 254])
    assert colour("level", [decimal.Decimal("0.5"), decimal.Decimal("1.5")]).high == "1.5"
    assert colour("count", [decimal.Decimal(2)]).kind == "category"


def test_a_scale_is_as_wide_as_numbers_are():
    assert list(colour("power", [1e-290, 1.0, 1e290]).codes) == [0, 127, 254]


def test_dates_of_a_csv_table_are_dates(result, tmp_path):
    table = tmp_path / "days.csv"
    table.write_text("name,day\n" + "".join(f'"{name}",2026-01-{10 + at}\n' for at, name in enumerate(result.names)))
    assert draw_map(result, table=table).colouring.kind == "time"


def test_a_date_that_python_has_not_is_refused(sounds, result, model, tmp_path):
    far = pyarrow.array([2**62] * len(result), pyarrow.timestamp("us"))
    pyarrow.parquet.write_table(pyarrow.table({"name": result.names, "far": far}), tmp_path / "days.parquet")
    with pytest.raises(ConfigError, match="cannot be read"):
        draw_map(result, table=tmp_path / "days.parquet")
    hear_axlstm.embed(sounds, model, out=tmp_path / "out", format="parquet")
    (part,) = (tmp_path / "out").glob("*.parquet")
    table = pyarrow.parquet.read_table(part)
    pyarrow.parquet.write_table(table.append_column("far", far[: len(table)]), part)
    with pytest.raises(ConfigError, match="column 'far' cannot be read"):
        draw_map(tmp_path / "out", color="far")


def test_hostile_names_stay_texts():
    names = ["</script><script>alert(1)</script>", "a\u202egnp.wav", "b\n\t'\"&.wav", "c\udce4.wav", "<!--.wav"]
    drawn = draw_map(collection(groups([5])[0], names, [f"/nowhere/{name}" for name in names]))
    page = drawn.to_html()
    page.encode()  # it is UTF-8
    assert "alert(1)</script>" not in page
    assert not {"\u202e", "\udce4"} & set(page)
    data = data_of(page)
    assert sorted(data["names"]) == sorted([names[0], r"a\u202egnp.wav", r"b\n\t" + "'\"&.wav", r"c\xe4.wav", "<!--.wav"])
    assert "file:///nowhere/c%E4.wav" in data["roots"]


def test_the_page_asks_for_nothing_from_elsewhere(result):
    page = draw_map(result).to_html()
    assert "default-src 'none'" in page
    assert not re.search(r"https?://", page)
    assert "Distances on a map are distorted. The neighbours come from the embeddings, not from the map" in page


def test_a_page_that_cannot_be_written_is_refused_before_the_map_is_made(result, tmp_path, monkeypatch):
    monkeypatch.setattr(map.layout, "lay_out", lambda *_: pytest.fail("it took minutes"))
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        draw_map(result, tmp_path / "file" / "new" / "map.html")


@pytest.mark.parametrize("given", [None, np.ones((9, 16)), ["a.wav"]], ids=["none", "array", "list"])
def test_what_makes_no_map_is_told(given):
    with pytest.raises(ConfigError, match="expected a folder that embed wrote"):
        draw_map(given)


def test_embeddings_of_steps_and_layers_make_no_map(sounds, model, tmp_path):
    few = sorted((sounds / "high").iterdir())[:2]
    with pytest.raises(ConfigError, match="timestamps"):
        draw_map(hear_axlstm.embed(few, model, timestamps=True))
    with pytest.raises(ConfigError, match="3 layers make no map"):
        draw_map(hear_axlstm.embed(few, model, layers=[0, 1, -1]))
    for kind in ("npy", "parquet"):
        hear_axlstm.embed(few, model, out=tmp_path / kind, format=kind, timestamps=True)
        with pytest.raises(OutputError, match="embedding every 40 ms"):
            draw_map(tmp_path / kind)


def test_few_sounds_of_weights_without_a_centring_are_refused(result):
    with pytest.raises(ConfigError, match="3 sounds are too few to centre on their mean"):
        draw_map(result[:3])


def test_the_command_says_what_it_drew(sounds, model, tmp_path):
    hear_axlstm.embed(sounds, model, out=tmp_path / "embeddings", format="parquet")
    done = run(tmp_path / "embeddings", "-o", tmp_path / "map.html", "--color", "seconds")
    assert done.exit_code == 0, done.output
    assert "Left out: 1 sound without an embedding.\n" in done.output
    assert f"a map of 12 sounds, coloured by seconds: {tmp_path}/map.html" in done.output
    assert run(tmp_path / "embeddings", "-o", tmp_path / "map.html", "-q").output == ""


@pytest.mark.parametrize("kind", ["missing", "empty", "none of ours", "nothing embedded"])
def test_what_has_no_embeddings_is_refused(kind, tmp_path):
    source = tmp_path / "embeddings"
    if kind != "missing":
        source.mkdir()
    if kind == "none of ours":
        (source / "a.npy").write_bytes(b"")
    if kind == "nothing embedded":
        source = tmp_path / "saved.npz"
        Embedded(["a.wav"], [None], failures=hear_axlstm.files.result.Failures({"a.wav": "broken"})).save(source)
    done = run(source, "-o", tmp_path / "map.html")
    assert done.exit_code == 2
    assert done.output.startswith("error: ")
    assert kind != "missing" or "or a folder of embeddings" in done.output
    assert not (tmp_path / "map.html").exists()


@pytest.mark.parametrize(
    ("out", "words"), [("map.wav", "does not end in .html"), ("embeddings/map.html", "is in the folder")]
)
def test_a_page_goes_nowhere_it_could_harm(out, words, sounds, model, tmp_path):
    hear_axlstm.embed(sounds, model, out=tmp_path / "embeddings")
    done = run(tmp_path / "embeddings", "-o", tmp_path / out)
    assert (done.exit_code, (tmp_path / out).exists()) == (2, False)
    assert words in done.output


@pytest.mark.parametrize("package", ["sklearn", "jinja2"])
def test_a_missing_package_is_named(package, result, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=re.escape("pip install 'hear-axlstm[explore]'")):
        draw_map(result, tmp_path / "map.html")
