"""Hugging Face datasets: rows with sounds are embedded as they are, mapped, remembered, and in several processes."""

import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from torch import nn

from hear_axlstm import embed, save_weights
from hear_axlstm.embedder import Embedder
from hear_axlstm.errors import ConfigError
from tests.conftest import tone

datasets = pytest.importorskip("datasets")
pyarrow = pytest.importorskip("pyarrow")

from hear_axlstm.doors.datasets import Embed  # noqa: E402


@pytest.fixture
def model(golden):
    return golden("ssast").model()


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets.disable_progress_bars()


@pytest.fixture
def paths(tmp_path):
    """Four sounds of mixed rates and channels, and one that is none."""
    for index, (rate, channels) in enumerate([(16_000, 1), (44_100, 2), (22_050, 1), (8_000, 1)]):
        wave = np.stack([tone(300 + 100 * index, 0.4 + 0.1 * index, rate)] * channels, axis=1)
        soundfile.write(tmp_path / f"{index}.wav", 0.4 * wave, rate)
    (tmp_path / "4.wav").write_bytes(b"no sound")
    return sorted(str(path) for path in tmp_path.glob("*.wav"))


def rows(paths, decode=False, **options):
    """A data set of sounds, some by their path and some by their bytes, as it comes from disk or from the Hub."""
    sounds = [
        {"bytes": None, "path": path} if index % 2 == 0 else {"bytes": open(path, "rb").read(), "path": None}  # noqa: SIM115
        for index, path in enumerate(paths)
    ]
    table = pyarrow.table({"label": list(range(len(paths))), "audio": sounds})
    audio = datasets.Audio(decode=decode, **options)
    return datasets.Dataset(table).cast(datasets.Features({"label": datasets.Value("int64"), "audio": audio}))


def written(dataset, folder):
    """The data set as it lies on disk, where maps of it are cached."""
    dataset.save_to_disk(folder)
    return datasets.load_from_disk(folder)


FORMS = {
    "rows": lambda rows: rows,
    "column": lambda rows: rows["audio"],
    "list of rows": list,
    "another column": lambda rows: rows.rename_column("audio", "recording"),
    "numbers": lambda rows: rows.with_format("numpy"),
    "stream": lambda rows: rows.to_iterable_dataset(),
    "column of a stream": lambda rows: rows.to_iterable_dataset()["audio"],
    "not decoded by torchcodec": lambda rows: rows.cast_column("audio", datasets.Audio()),
    "at a rate of their own": lambda rows: rows.cast_column("audio", datasets.Audio(sampling_rate=8_000)),
    "column of those": lambda rows: rows.cast_column("audio", datasets.Audio(sampling_rate=8_000))["audio"],
}


@pytest.mark.parametrize("form", FORMS)
def test_rows_are_embedded_as_they_are(model, paths, form):
    result = embed(FORMS[form](rows(paths)), model)
    assert result.names == ["0", "1", "2", "3", "4"]
    assert list(result.failures) == ["4"]
    np.testing.assert_array_equal(result.matrix, embed(paths, model).matrix)


def test_a_transform_of_the_users_is_kept(model, paths):
    def louder(batch):
        return {"audio": [(0.5 * soundfile.read(row["path"])[0], 16_000) for row in batch["audio"]]}

    made = rows(paths[:1]).with_transform(louder)
    np.testing.assert_allclose(embed(made, model).matrix, embed(louder(made.with_format(None)[:])["audio"], model).matrix)


def test_a_map_adds_the_embeddings_of_each_batch(model, paths, tmp_path):
    mapped = rows(paths).map(Embed(model), batched=True, batch_size=2)
    assert mapped.features["embedding"] == datasets.List(datasets.Value("float32"))
    assert mapped["label"][:] == [0, 1, 2, 3, 4]
    found, expected = mapped["embedding"][:], embed(paths, model)
    assert found[4] is None
    np.testing.assert_allclose(np.array(found[:4]), expected.matrix[:4], atol=1e-5)
    assert mapped["embedding_error"][:] == ["", "", "", "", expected.failures["4.wav"]]


def test_a_broken_clip_may_come_first_where_the_types_are_told(model, paths):
    function = Embed(model)
    backwards = rows(paths[::-1])
    mapped = backwards.map(function, batched=True, batch_size=1, features=function.features(backwards))
    assert [one is None for one in mapped["embedding"]] == [True, False, False, False, False]
    assert mapped.features["embedding"] == datasets.List(datasets.Value("float32"), length=model.scene_embedding_size)


def test_decoders_are_not_asked_where_there_are_bytes(model, paths):
    """So neither torchcodec is needed nor its resampling done, and a broken clip does not end the map."""
    mapped = rows(paths, decode=True, sampling_rate=8_000).map(Embed(model), batched=True, batch_size=2)
    numbers = mapped.remove_columns("audio")
    np.testing.assert_allclose(np.array(numbers["embedding"][:4]), embed(paths[:4], model).matrix, atol=1e-5)
    assert numbers["embedding"][4] is None


def test_a_stream_is_mapped(model, paths):
    mapped = list(rows(paths).to_iterable_dataset().map(Embed(model), batched=True, batch_size=2))
    np.testing.assert_allclose([row["embedding"] for row in mapped[:4]], embed(paths[:4], model).matrix, atol=1e-5)
    assert mapped[4]["embedding"] is None
    assert "cannot be decoded" in mapped[4]["embedding_error"]


@pytest.mark.parametrize("form", ["torch", "numpy", "pandas", "arrow"])
def test_a_format_of_the_rows_changes_nothing(model, paths, form):
    formatted, expected = rows(paths).with_format(form), embed(paths, model).matrix
    np.testing.assert_array_equal(embed(formatted, model).matrix, expected)
    np.testing.assert_array_equal(embed(formatted["audio"], model).matrix, expected)
    mapped = formatted.map(Embed(model), batched=True).with_format(None)
    np.testing.assert_allclose(mapped["embedding"][:4], expected[:4], atol=1e-5)
    assert mapped["embedding"][4] is None


def test_of_several_columns_with_sounds_one_must_be_said(model, paths):
    both = datasets.concatenate_datasets(
        [rows(paths).rename_column("audio", "before"), rows(paths).rename_columns({"audio": "after", "label": "other"})],
        axis=1,
    )
    with pytest.raises(ConfigError, match=r"rows have sounds in before, after; .*embed\(rows\['before'\]\)"):
        embed(both, model)
    np.testing.assert_array_equal(embed(both["after"], model).matrix, embed(paths, model).matrix)


def test_a_second_map_is_read_from_the_cache(model, paths, tmp_path, monkeypatch):
    dataset = written(rows(paths), tmp_path / "kept")
    first = dataset.map(Embed(model), batched=True)
    monkeypatch.setattr(Embed, "__call__", lambda self, batch: pytest.fail("it is embedded anew"))
    second = dataset.map(Embed(model), batched=True)
    assert second._fingerprint == first._fingerprint
    np.testing.assert_array_equal(second["embedding"][:4], first["embedding"][:4])


def test_what_is_remembered_depends_on_weights_and_options(model, golden):
    def fingerprint(*arguments, **options):
        return datasets.fingerprint.Hasher.hash(Embed(*arguments, **options))

    same, other = golden("ssast").model(), golden("ssast").model()
    nn.init.ones_(next(other.parameters()))
    before = fingerprint(model)
    embed([(tone(440, 0.3), 16_000)], model)
    assert fingerprint(model) == before == fingerprint(same)
    assert len({before, fingerprint(other), fingerprint(model, pad_short=True), fingerprint(model, column="x")}) == 4


PROGRAM = """
import sys
import numpy, torch, datasets, hear_axlstm
from hear_axlstm.doors.datasets import Embed
model = hear_axlstm.load_model(sys.argv[1])
torch.randn(3_000_000).sin().sum()  # OpenMP's threads are there, and are not copied to a forked process
rows = datasets.load_from_disk(sys.argv[2])
print(datasets.fingerprint.Hasher.hash(Embed(model)))
if sys.argv[3] == "map":
    found = rows.map(Embed(model), batched=True, batch_size=2, num_proc=2)
    numpy.save(sys.argv[4], numpy.array(found["embedding"][:4]))
"""


def test_several_processes_do_not_hang_and_another_run_remembers(model, paths, tmp_path):
    save_weights(model.encoder, tmp_path / "weights.safetensors")
    written(rows(paths), tmp_path / "kept")
    command = [sys.executable, "-c", PROGRAM, tmp_path / "weights.safetensors", tmp_path / "kept"]
    environment = os.environ | {"OMP_NUM_THREADS": "2", "PYTHONPATH": os.pathsep.join(sys.path)}
    said = [
        subprocess.run(
            [*command, what, tmp_path / "found.npy"], env=environment, capture_output=True, text=True, check=True
        ).stdout
        for what in ("map", "ask")
    ]
    assert said[0] == said[1]
    expected = embed(paths[:4], str(tmp_path / "weights.safetensors")).matrix
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["paths", "arrays"])
def test_other_columns_are_taken_as_well(model, paths, kind):
    sounds = paths[:2] if kind == "paths" else [{"array": tone(440, 0.3).tolist(), "sampling_rate": 16_000}] * 2
    mapped = datasets.Dataset.from_dict({"sound": sounds}).map(Embed(model, column="sound"), batched=True)
    assert mapped["embedding_error"][:] == ["", ""]
    assert Embed(model, column="sound")({"sound": sounds})["embedding_error"] == ["", ""]


def test_short_sounds_are_padded_on_request(model):
    short = {"audio": [{"array": tone(440, 0.01), "sampling_rate": 16_000}]}
    assert "too short" in Embed(model)(short)["embedding_error"][0]
    assert Embed(model, pad_short=True)(short)["embedding_error"] == [""]
    assert Embed(model)({"audio": []}) == {"embedding": [], "embedding_error": []}


def test_mistakes_are_named(model, paths):
    with pytest.raises(ConfigError, match=r"rows have no column 'audio', but sound; say which: Embed\(column=\.\.\.\)"):
        Embed(model)({"sound": []})
    with pytest.raises(ConfigError, match="this is one row, not a batch; pass batched=True to map"):
        rows(paths).map(Embed(model))
    with pytest.raises(ConfigError, match="this is one row, not a batch"):
        Embed(model)({"audio": {"bytes": b"", "path": None}})


def torchcodec():
    """The decoders' library, which needs one build of torch and FFmpeg's libraries."""
    try:
        from torchcodec.decoders import AudioDecoder
    except (ImportError, OSError, RuntimeError) as error:
        pytest.skip(f"torchcodec cannot be imported ({type(error).__name__})")
    return AudioDecoder


def test_decoders_are_embedded_as_they_are(model, paths):
    decoder, expected = torchcodec(), embed(paths[:4], model).matrix
    good = rows(paths[:4], decode=True)
    stream = good.to_iterable_dataset()
    forms = [[row["audio"] for row in good], list(good), stream, stream["audio"], [decoder(path) for path in paths[:4]]]
    forms += [[one.get_all_samples() for one in forms[0]]]
    for form in forms:
        np.testing.assert_allclose(embed(form, model).matrix, expected, atol=1e-5)
    np.testing.assert_allclose(embed(good[1]["audio"], model).matrix, expected[1:2], atol=1e-5)
    np.testing.assert_allclose(embed(good[1], model).matrix, expected[1:2], atol=1e-5)
    mapped = list(stream.map(Embed(model), batched=True, batch_size=2))
    np.testing.assert_allclose([row["embedding"] for row in mapped], expected, atol=1e-5)


def test_a_decoder_may_be_given_often(model, paths):
    """Threads decode sounds; torchcodec's crash the process where two of them use one decoder."""
    one = torchcodec()(paths[1])
    np.testing.assert_allclose(embed([one] * 20, model).matrix, embed([paths[1]] * 20, model).matrix, atol=1e-5)


def test_any_model_may_be_named(random_weights):
    assert isinstance(Embed(random_weights("ssast-tiny")).model, Embedder)
