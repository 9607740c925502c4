"""What can be embedded: one sound or many, with their rates, in every form in which people have them."""

import json
import logging
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from hear_axlstm import embed, load_embeddings
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.errors import AudioError, ConfigError
from hear_axlstm.files import open_folder, plan
from hear_axlstm.files.npy import NpyFolder
from tests.conftest import noise, tone

WAVE = tone(440, 0.7, 44_100)


@pytest.fixture
def model(golden):
    return golden("ssast").model()


class Rows:
    """A data set as torch has them: without an end that indexing tells of."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return torch.from_numpy(WAVE)[None], 44_100, "label", index


ONE = {
    "array": (WAVE, {"sample_rate": 44_100}),
    "tensor": (torch.from_numpy(WAVE), {"sample_rate": 44_100}),
    "pair": ((WAVE, 44_100), {}),
    "torchaudio's": ((torch.from_numpy(np.stack([WAVE, WAVE])), 44_100), {}),
    "scipy's": ((44_100, WAVE), {}),
    "pair of tensors": ([(torch.from_numpy(WAVE), torch.tensor(44_100))], {}),
    "row of one tensor": ([(torch.from_numpy(WAVE),)], {"sample_rate": 44_100}),
    "rows of a loader": (DataLoader([(WAVE, 44_100)], batch_size=None), {}),
    "rows of one of a loader": (DataLoader([(WAVE,)], batch_size=None), {"sample_rate": 44_100}),
    "soundfile's": ((np.stack([WAVE, WAVE], axis=1), 44_100), {}),
    "row": ({"array": WAVE, "sampling_rate": 44_100}, {}),
    "row of a data set": ({"audio": {"array": WAVE, "sampling_rate": 44_100}, "label": 3}, {}),
    "list": ([WAVE], {"sample_rate": 44_100}),
    "generator": ((wave for wave in [WAVE]), {"sample_rate": 44_100}),
    "list of lists": ([WAVE.tolist()], {"sample_rate": 44_100}),
    "one of a batch": ([WAVE[None]], {"sample_rate": 44_100}),
}


@pytest.mark.parametrize("kind", ONE)
def test_one_sound_is_taken_in_every_form(model, kind):
    sounds, options = ONE[kind]
    result = embed(sounds, model, **options)
    assert result.failures == {}
    np.testing.assert_allclose(result.matrix, embed([(WAVE, 44_100)], model).matrix, atol=1e-4)


def test_a_data_set_ends_where_its_length_says(model):
    assert embed(Rows(), model).matrix.shape == (2, 240)


def test_a_path_or_a_folder_alone_is_taken(model, sound_folder):
    assert embed(str(sound_folder / "a.wav"), model).embedded == ["a.wav"]
    assert embed(sound_folder, model).embedded == ["a.wav", "b.flac", "below/c.ogg"]
    assert plan(sound_folder / "a.wav").names == ["a.wav"]


def test_paths_are_taken_from_columns_and_arrays(model, sound_folder):
    pandas = pytest.importorskip("pandas")
    paths = [str(sound_folder / name) for name in ("a.wav", "b.flac")]
    table = pandas.DataFrame({"path": paths})
    for column in (table["path"], table["path"].astype("category"), np.array(paths), np.array(paths, object), tuple(paths)):
        assert embed(column, model).embedded == ["a.wav", "b.flac"]
    assert embed(np.array(paths)[1], model).embedded == ["b.flac"]  # a text that has a shape and a dtype
    with pytest.raises(ConfigError, match=r"sounds is a table; pass its column of paths, such as embed\(table\['path'\]\)"):
        embed(table, model)
    assert embed([paths], model).failures == {"0": "is a list of paths; pass all paths in one list"}


@pytest.mark.parametrize("package", ["polars", "pyarrow"])
def test_other_columns_are_taken_as_well(model, sound_folder, package):
    pytest.importorskip(package)
    paths = [str(sound_folder / name) for name in ("a.wav", "b.flac")]
    if package == "polars":
        import polars

        columns = [polars.Series(paths), polars.Series(paths, dtype=polars.Categorical)]
        np.testing.assert_array_equal(
            embed([(polars.Series(WAVE), 44_100)], model).matrix, embed([(WAVE, 44_100)], model).matrix
        )
    else:
        import pyarrow

        columns = [pyarrow.array(paths), pyarrow.table({"path": paths})["path"]]
    for column in columns:
        assert embed(column, model).embedded == ["a.wav", "b.flac"]


def test_a_path_that_is_missing_may_come_first(model, sound_folder):
    """NaN stands for it in a table; it is no list of numbers."""
    paths = [float("nan"), str(sound_folder / "a.wav")]
    for items in (paths, iter(paths), np.array(paths, dtype=object)):
        result = embed(items, model)
        assert result.names == ["0", "a.wav"]
        assert result.failures == {"0": "is nan; expected a sound"}


def test_what_a_file_holds_is_no_path_and_no_array(model, sound_folder):
    content = (sound_folder / "a.wav").read_bytes()
    expected = embed(content, model).matrix
    for form in (bytearray(content), memoryview(content)):
        np.testing.assert_array_equal(embed(form, model).matrix, expected)
        np.testing.assert_array_equal(embed([form], model).matrix, expected)
    assert "cannot be decoded" in embed([b"<html>\n<body>404</body>\n</html>"], model).failures["0"]
    assert embed([b"gone.wav"], model).failures == {"gone.wav": "no such file"}


def test_batches_of_a_loader_are_no_sounds(model):
    with pytest.raises(ConfigError, match="a DataLoader of batches of 2; expected one of sounds: batch_size=None"):
        embed(DataLoader(noise(4, 9_000), batch_size=2), model, sample_rate=SAMPLE_RATE)


def test_a_path_that_is_not_there_raises_alone_and_fails_among_others(model, sound_folder, caplog):
    with pytest.raises(AudioError, match=r"absent\.wav: no such file or folder"):
        embed("absent.wav", model)
    with caplog.at_level(logging.WARNING):
        result = embed(["absent.wav", sound_folder / "a.wav"], model)
    assert result.failures == {"absent.wav": "no such file"}
    assert "1 of 2 sounds has no embedding: absent.wav: no such file" in caplog.text


@pytest.mark.parametrize(
    "batch", [noise(4, 9_000), noise(4, 9_000).numpy(), noise(2, 3, 9_000)], ids=["tensor", "array", "3"]
)
def test_a_batch_is_never_taken_for_one_sound(model, batch):
    with pytest.raises(ConfigError, match=r"one sound or many; pass \[sound\] .* list\(batch\)"):
        embed(batch, model, sample_rate=SAMPLE_RATE)
    if batch.ndim == 2:
        assert len(embed(list(batch), model, sample_rate=SAMPLE_RATE)) == 4
    assert "has shape (64, 9000)" in embed([noise(64, 9_000)], model, sample_rate=SAMPLE_RATE).failures["0"]


def test_a_model_is_named_or_given(random_weights, sound_folder):
    path = random_weights("ssast-tiny")
    assert embed(sound_folder, path, device="cpu").weights.startswith("ssast-tiny ")
    assert embed(sound_folder, str(path)).matrix.shape == (3, 960)


def test_short_sounds_are_padded_on_request_alone(model, sound_folder, tmp_path):
    short = tone(440, 0.01)
    result = embed([(short, SAMPLE_RATE), (tone(440, 1), SAMPLE_RATE)], model, pad_short=True)
    assert (result.padded, result.failures) == (["0"], {})
    whole = np.pad(short, (0, 201 - len(short)))
    np.testing.assert_allclose(result.matrix[0], embed((whole, SAMPLE_RATE), model).matrix[0], atol=1e-5)
    assert "too short" in embed([(short, SAMPLE_RATE)], model).failures["0"]
    assert "0 samples" in embed([(short[:0], SAMPLE_RATE)], model, pad_short=True).failures["0"]


@pytest.mark.parametrize("before", [False, True])
def test_a_folder_mixes_no_padded_sounds(model, sound_folder, tmp_path, before):
    embed(sound_folder, model, out=tmp_path / "out", pad_short=before)
    with pytest.raises(Exception, match="other settings: --pad was"):
        embed(sound_folder, model, out=tmp_path / "out", pad_short=not before)


def test_embeddings_are_not_written_among_the_sounds(model, sound_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(sound_folder)
    places = [
        (".", "."),
        (sound_folder, sound_folder / "below" / ".."),
        ("a.wav", "."),
        (sound_folder, sound_folder / "below"),
    ]
    for sounds, out in places:
        with pytest.raises(ConfigError, match=r"would mix embeddings with the sounds in .*; choose another folder"):
            embed(sounds, model, out=out)
    for _ in range(2):
        result = embed(sound_folder, model, out=sound_folder / "embeddings")
        assert (len(result), result.failures, result.left_out) == (3, {}, [])
    assert embed(sound_folder / "below", model, out=tmp_path / "sounds" / "other").failures == {}


@pytest.mark.parametrize("format", ["npy", "parquet"])
def test_embeddings_whose_sounds_are_gone_are_counted(model, sound_folder, tmp_path, format):
    embed(sound_folder, model, out=tmp_path / "out", format=format)
    (sound_folder / "a.wav").rename(sound_folder / "z.wav")
    result = embed(sound_folder, model, out=tmp_path / "out", format=format)
    assert (result.gone, result.embedded) == (["a.wav"], ["z.wav"])


def kept(folder):
    """The files in a folder of embeddings, but for its lock, and what its ledger has."""
    files = sorted(path.name for path in folder.rglob("*.npy"))
    ledger = folder / "_embed.jsonl"
    return files, [json.loads(line)["name"] for line in ledger.read_text().splitlines()] if ledger.exists() else []


@pytest.mark.parametrize("timestamps", [False, True], ids=["scenes", "timestamps"])
@pytest.mark.parametrize("format", ["npy", "parquet"])
def test_what_is_kept_of_sounds_that_are_gone_is_pruned(model, sound_folder, tmp_path, format, timestamps):
    out, kind = tmp_path / "out", {"format": format, "timestamps": timestamps}
    embed(sound_folder, model, out=out, **kind)
    (sound_folder / "a.wav").rename(sound_folder / "z.wav")
    (sound_folder / "below" / "c.ogg").unlink()
    result = embed(sound_folder, model, out=out, prune=True, **kind)
    assert (result.pruned, result.gone, result.embedded) == (["a.wav", "below/c.ogg"], [], ["z.wav"])
    assert load_embeddings(out).names == result.names
    if format == "npy":
        assert kept(out) == (sorted(f"{name.rpartition('/')[2]}.embedding.npy" for name in result.names), result.names)
    again = embed(sound_folder, model, out=out, prune=True, **kind)
    assert (again.pruned, again.skipped) == ([], result.names)


def test_pruning_goes_on_where_it_was_interrupted(model, sound_folder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    embed(sound_folder, model, out=out)
    (sound_folder / "a.wav").rename(sound_folder / "z.wav")
    monkeypatch.setattr(NpyFolder, "_compact", lambda self: None)
    open_folder(out, model).prune()  # the file is removed, its line is not
    monkeypatch.undo()
    result = embed(sound_folder, model, out=out, prune=True)
    assert (result.gone, load_embeddings(out).names) == ([], result.names)


def test_a_folder_of_sounds_that_was_moved_is_embedded_anew_by_pruning(model, sound_folder, tmp_path):
    before = embed(sound_folder, model, out=tmp_path / "out")
    moved = sound_folder.rename(tmp_path / "moved")
    failures = embed(moved, model, out=tmp_path / "out").failures
    assert len(failures) == len(before)
    assert "which is not there any more; remove what is kept of such sounds (--prune)" in failures["a.wav"]
    result = embed(moved, model, out=tmp_path / "out", prune=True)
    assert (result.failures, result.embedded, result.pruned) == ({}, before.names, sorted(before.names))


def test_pruning_needs_a_folder(model, sound_folder):
    with pytest.raises(ConfigError, match=r"prune removes embeddings from a folder; say from which: out="):
        embed(sound_folder, model, prune=True)


@pytest.mark.parametrize("format", ["npy", "parquet"])
def test_reading_a_folder_warns_of_sounds_that_are_gone_unless_all_are(model, sound_folder, tmp_path, format, caplog):
    out = tmp_path / "out"
    embed(sound_folder, model, out=out, format=format)
    (sound_folder / "a.wav").rename(sound_folder / "z.wav")
    assert load_embeddings(out).gone == ["a.wav"]
    assert [record.getMessage() for record in caplog.records] == [
        f"{out}: the sounds of 1 of 3 embeddings are not there any more (a.wav); "
        "to remove them, embed again with prune=True, or hear-axlstm embed --prune"
    ]
    caplog.clear()
    sound_folder.rename(tmp_path / "elsewhere")
    assert load_embeddings(out).gone == []
    assert caplog.records == []


@pytest.mark.parametrize("content", [None, b"", b"no sound"], ids=["missing", "empty", "no sound"])
def test_nothing_is_written_where_nothing_can_be_embedded(model, tmp_path, content):
    path, out = tmp_path / "a.wav", tmp_path / "out"
    if content is not None:
        path.write_bytes(content)
    for pair, pad_short in product(([path], [path, tmp_path / "other.wav"]), [False, True]):
        result = embed(pair, model, out=out, pad_short=pad_short)
        assert (list(result.failures), result.folder, out.exists()) == ([one.name for one in pair], None, False)


def test_what_is_there_is_not_overwritten_where_nothing_can_be_embedded(model, sound_folder, tmp_path):
    before = embed(sound_folder, model, out=tmp_path / "out")
    embed([tmp_path / "missing.wav"], model, out=tmp_path / "out", overwrite=True)
    assert load_embeddings(tmp_path / "out").names == before.names


@pytest.mark.parametrize("form", [str, list, np.array], ids=["one", "list", "column"])
def test_a_path_may_begin_at_the_users_home(model, sound_folder, monkeypatch, form):
    monkeypatch.setenv("HOME", str(sound_folder.parent))
    for path in ("~/sounds/a.wav", "~/sounds"):
        found = embed(path if form is str else form([path]), model, out="~/out")
        assert found.failures == {}
        assert found.folder == sound_folder.parent / "out"
    assert load_embeddings("~/out").names == found.names
    load_embeddings("~/out").save("~/x.npz")
    assert len(load_embeddings("~/x.npz")) == 3


def test_a_folder_that_is_called_like_a_home_is_read(model, sound_folder, monkeypatch):
    monkeypatch.chdir(sound_folder)
    (sound_folder / "below").rename("~")
    assert embed("~", model).names == ["c.ogg"]


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("below\\c.ogg", "; on this system folders are separated by /, as in below/c.ogg"),
        (
            Path("https://here.org/c.ogg"),
            "; an address is fetched where it is passed as text: else download it first",
        ),
        ("below/*.ogg", "; patterns are not expanded: pass the folder, or Path(folder).glob('*.wav')"),
        ("absent.ogg", ""),
    ],
    ids=["backslashes", "address", "pattern", "plain"],
)
def test_a_path_where_nothing_is_gets_a_hint(model, sound_folder, monkeypatch, path, hint):
    monkeypatch.chdir(sound_folder)
    assert list(embed([path], model).failures.values()) == [f"no such file{hint}"]
    with pytest.raises(AudioError) as raised:
        embed(path, model)
    assert str(raised.value) == f"{path}: no such file or folder{hint}"


@pytest.mark.parametrize("name", ["a\\b.wav", "a*b?.wav"])
def test_a_file_may_have_any_name(model, sound_folder, monkeypatch, name):
    monkeypatch.chdir(sound_folder)
    (sound_folder / "a.wav").rename(name)
    assert embed(name, model).failures == {}
