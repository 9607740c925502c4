"""Sounds in scikit-learn's pipelines: what goes in, what comes out, and what the library's own checks say."""

import logging
import os
import pickle
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import hear_axlstm
from hear_axlstm.config import AxLSTMConfig
from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import AudioError, ConfigError, WeightsError
from hear_axlstm.files import run
from tests.conftest import tone

sklearn = pytest.importorskip("sklearn")
pandas = pytest.importorskip("pandas")

from sklearn.base import clone  # noqa: E402
from sklearn.compose import ColumnTransformer  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import OneHotEncoder, StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

from hear_axlstm.doors import scikit_learn  # noqa: E402
from hear_axlstm.doors.scikit_learn import HearEmbedding  # noqa: E402

SIZE = 80


def save(folder, name, seed):
    torch.manual_seed(seed)
    path = folder / f"{name}.safetensors"
    hear_axlstm.save_weights(Encoder(AxLSTMConfig(width=16, depth=1)), path)
    return str(path)


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """Weights of a small encoder."""
    return save(tmp_path_factory.mktemp("small"), "small", 1)


@pytest.fixture(scope="session")
def other(tmp_path_factory):
    return save(tmp_path_factory.mktemp("other"), "other", 2)


@pytest.fixture
def paths(sound_folder):
    return [str(sound_folder / name) for name in ("a.wav", "b.flac", "below/c.ogg")]


@pytest.fixture
def labelled(tmp_path):
    """Six files of two classes, which have one name in two folders."""
    for label, hertz in {"high": 3_000, "low": 200}.items():
        (tmp_path / label).mkdir()
        for number in range(3):
            soundfile.write(tmp_path / label / f"{number}.wav", tone(hertz * (1 + number / 20), 0.3), 16_000)
    files = sorted(map(str, tmp_path.glob("*/*.wav")))
    return files, [os.path.basename(os.path.dirname(file)) for file in files]


@pytest.fixture
def encoded(monkeypatch):
    """The names of the sounds of each batch that is decoded."""
    batches = []

    def decode(planned, *arguments):
        return real(noted(planned), *arguments)

    def noted(planned):
        for batch in planned:
            batches.append([sound.name for sound in batch])
            yield batch

    real = run.decode_batches
    monkeypatch.setattr(run, "decode_batches", decode)
    return batches


def keeps_the_index_of_a_series():
    """Since scikit-learn 1.7."""
    return tuple(map(int, sklearn.__version__.split(".")[:2])) >= (1, 7)


def expected(sounds, model, **options):
    return hear_axlstm.embed(sounds, model, **options).matrix


def test_paths_become_what_embed_gives(paths, small):
    matrix = HearEmbedding(small).fit_transform(paths)
    assert matrix.shape == (3, SIZE)
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix, expected(paths, small))


@pytest.mark.parametrize(
    "hold",
    [
        tuple,
        np.array,
        lambda paths: np.array(paths, dtype=object),
        lambda paths: np.array(paths)[:, None],
        pandas.Series,
        lambda paths: pandas.DataFrame({"path": paths}),
        lambda paths: [os.fspath(path).encode() for path in paths],
    ],
    ids=["tuple", "strings", "objects", "column", "Series", "DataFrame", "bytes"],
)
def test_any_container_of_paths(hold, paths, small):
    np.testing.assert_array_equal(HearEmbedding(small).transform(hold(paths)), expected(paths, small))


def test_sounds_in_memory_of_any_length_rate_and_kind(paths, small):
    wave = tone(300, 0.4, 44_100)
    sounds = [
        tone(300, 0.5),
        np.stack([tone(200, 0.2), tone(900, 0.2)], 1),
        (wave, 44_100),
        {"array": wave, "sampling_rate": 44_100},
        (tone(500, 0.3) * 32_767).astype(np.int16),
        torch.from_numpy(tone(700, 0.3)),
        paths[0],
    ]
    matrix = HearEmbedding(small).transform(sounds)
    np.testing.assert_array_equal(matrix, expected(sounds, small, sample_rate=16_000))
    np.testing.assert_array_equal(matrix[2], matrix[3])


@pytest.mark.parametrize(
    "hold",
    [np.stack, lambda clips: torch.stack(list(map(torch.from_numpy, clips))), lambda clips: np.array(clips, dtype=object)],
    ids=["array", "tensor", "objects"],
)
def test_each_row_of_a_matrix_is_a_clip(hold, small):
    clips = [tone(300, 0.3), tone(400, 0.3)]
    np.testing.assert_array_equal(HearEmbedding(small).transform(hold(clips)), expected(clips, small, sample_rate=16_000))


def test_arrays_of_objects_hold_clips_of_mixed_lengths(small):
    clips = np.empty(2, dtype=object)
    clips[:] = [tone(300, 0.3), tone(400, 0.2)]
    matrix = HearEmbedding(small, sample_rate=8_000).transform(clips)
    np.testing.assert_array_equal(matrix, expected(list(clips), small, sample_rate=8_000))


def test_a_path_that_comes_again_is_embedded_once(labelled, small, encoded):
    files, _ = labelled
    matrix = HearEmbedding(small).transform([files[0], files[3], files[0], files[0]])
    assert [len(names) for names in encoded] == [2]
    np.testing.assert_array_equal(matrix[[0, 0]], matrix[2:])
    assert not np.array_equal(matrix[0], matrix[1])  # high/0.wav and low/0.wav


def test_a_frame_keeps_its_index(labelled, small):
    files, labels = labelled
    table = pandas.DataFrame({"path": files, "label": labels}, index=list("fedcba"))
    step = HearEmbedding(small).set_output(transform="pandas")
    columns = [table[["path"]], *([table["path"]] if keeps_the_index_of_a_series() else [])]
    for column in columns:
        frame = step.fit_transform(column)
        assert list(frame.index) == list("fedcba")
        assert list(frame.columns) == [f"hearembedding{number}" for number in range(SIZE)]


def test_polars_frames_go_in_and_come_out(labelled, small):
    polars = pytest.importorskip("polars")
    files, _ = labelled
    step = HearEmbedding(small).set_output(transform="polars")
    frame = step.transform(polars.DataFrame({"path": files}))
    assert frame.shape == (6, SIZE)
    np.testing.assert_array_equal(frame.to_numpy(), expected(files, small))


def test_columns_of_pyarrow_go_in(labelled, small):
    pyarrow = pytest.importorskip("pyarrow")
    files, _ = labelled
    table = pyarrow.table({"path": list(map(str, files))})
    for column in (table, table["path"]):
        np.testing.assert_array_equal(HearEmbedding(small).transform(column), expected(files, small))


def test_a_column_among_others(labelled, small):
    files, labels = labelled
    table = pandas.DataFrame({"path": files, "place": ["wood", "town"] * 3})
    for name in ("path", ["path"]):
        columns = ColumnTransformer([("sound", HearEmbedding(small), name), ("place", OneHotEncoder(), ["place"])])
        model = make_pipeline(columns, LogisticRegression()).fit(table, labels)
        assert model.score(table, labels) == 1.0
        assert columns.fit(table).get_feature_names_out()[0] == "sound__hearembedding0"


def test_parameters_are_all_that_is_cloned_and_pickled(paths, small):
    step = HearEmbedding(small, layout="time", on_error="nan")
    matrix = step.fit_transform(paths)
    assert clone(step).get_params() == step.get_params()
    pickled = pickle.dumps(step)
    assert len(pickled) < 1_000
    np.testing.assert_array_equal(pickle.loads(pickled).transform(paths), matrix)
    assert not np.array_equal(matrix, HearEmbedding(small, layout="released").transform(paths))


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_cross_validation_in_several_threads_or_processes(backend, labelled, small, tmp_path):
    joblib = pytest.importorskip("joblib")
    files, labels = labelled
    model = make_pipeline(HearEmbedding(small, cache=tmp_path / "kept"), StandardScaler(), LogisticRegression())
    with joblib.parallel_backend(backend, n_jobs=2):
        scores = cross_val_score(model, files, labels, cv=3)
    assert list(scores) == list(cross_val_score(make_pipeline(HearEmbedding(small), *model[1:]), files, labels, cv=3))
    assert len(list(tmp_path.glob("kept/*/*.npy"))) == 6


def test_a_grid_over_models_embeds_each_file_once_a_model(labelled, small, other, tmp_path, encoded):
    files, labels = labelled
    model = make_pipeline(HearEmbedding(cache=tmp_path / "kept"), LogisticRegression())
    grid = {"hearembedding__model": [small, other], "logisticregression__C": [0.1, 10.0]}
    search = GridSearchCV(model, grid, cv=3).fit(files, labels)
    assert sum(map(len, encoded)) == 12
    assert search.best_params_["hearembedding__model"] in (small, other)
    search.predict(files)
    assert sum(map(len, encoded)) == 12


def test_the_cache_gives_the_same_numbers_and_notices_a_file_that_changed(labelled, small, tmp_path, encoded):
    files, _ = labelled
    step = HearEmbedding(small, cache=str(tmp_path / "kept"))
    first = step.transform([*files, tone(300, 0.3), files[0]])
    np.testing.assert_array_equal(first, expected([*files, tone(300, 0.3), files[0]], small, sample_rate=16_000))
    encoded.clear()
    soundfile.write(files[2], tone(777, 0.35), 16_000)
    again = clone(step).transform(files)
    assert sum(map(len, encoded)) == 1
    np.testing.assert_array_equal(again, expected(files, small))


def test_the_cache_notices_weights_that_changed(labelled, tmp_path):
    files, _ = labelled
    save(tmp_path, "mine", 3)
    step = HearEmbedding(str(tmp_path / "mine.safetensors"), cache=tmp_path / "kept")
    before = step.transform(files)
    save(tmp_path, "mine", 4)
    after = step.transform(files)
    assert not np.array_equal(before, after)
    np.testing.assert_array_equal(after, expected(files, tmp_path / "mine.safetensors"))


def test_memory_works(labelled, small, tmp_path, encoded):
    files, labels = labelled
    model = make_pipeline(HearEmbedding(small), LogisticRegression(), memory=str(tmp_path / "joblib"))
    model.fit(files, labels)
    clone(model).fit(files, labels)
    assert len(encoded) == 1


def test_what_cannot_be_embedded_is_named(paths, small, tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    for bad, named in {
        tmp_path / "broken.wav": "broken.wav: cannot be decoded",
        str(tmp_path / "missing.wav"): "missing.wav: no such file",
        str(tmp_path): "a folder; expected a file",
        None: "row 1: is None",
        float("nan"): "row 1: is nan",
        pandas.NA: "row 1: is <NA>",
        3: "row 1: is 3; expected a sound",
        "": "row 1: an empty path",
    }.items():
        with pytest.raises(AudioError, match=f"1 of 2 sounds cannot be embedded: .*{named}.*on_error='nan'"):
            HearEmbedding(small).transform([paths[0], bad])
    with pytest.raises(AudioError, match=r"embedded: gone\.wav: no such file \("):  # named once
        HearEmbedding(small).transform([paths[0], "gone.wav"])
    for bad in (np.full(1_000, np.nan), tone(300, 0.01), np.zeros((3, 40, 5))):
        with pytest.raises(AudioError, match="row 1: "):
            HearEmbedding(small).transform([paths[0], bad])


@pytest.mark.parametrize("cached", [False, True])
def test_what_cannot_be_embedded_gets_a_row_of_nan(cached, paths, small, tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    step = HearEmbedding(small, on_error="nan", cache=tmp_path / "kept" if cached else None)
    bad = [tmp_path / "broken.wav", tmp_path / "missing.wav", tmp_path, None, float("nan"), np.zeros(5)]
    matrix = step.transform([paths[0], *bad, paths[1]])
    assert np.isnan(matrix[1:-1]).all()
    np.testing.assert_array_equal(matrix[[0, -1]], expected(paths[:2], small))
    assert np.isnan(step.transform(pandas.Series([None, None]))).all()
    assert step.transform([tmp_path / "missing.wav"]).shape == (1, SIZE)


@pytest.mark.parametrize(
    ("sounds", "said"),
    [
        ([], "holds 0 sounds"),
        (np.zeros((0, 400)), "holds 0 sounds"),
        ("a.wav", "one sound or folder"),
        ({"array": np.zeros(400), "sampling_rate": 16_000}, "one sound or folder"),
        ((np.zeros(400), 16_000), "one sound or folder"),
        (np.zeros(400, np.float32), "of numbers, one sound"),
        ([0.5, 0.25], "of numbers, one sound"),
        (7, "is a int"),
        (pandas.DataFrame({"a": ["x.wav"], "b": ["y.wav"]}), "2 columns; expected one"),
        (np.array([["x.wav", "y.wav"]]), r"shape \(1, 2\)"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_is_no_column_of_sounds_is_refused(sounds, said, small):
    for call in (HearEmbedding(small).fit, HearEmbedding(small).transform):
        with pytest.raises(ConfigError, match=said):
            call(sounds)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"on_error": "ignore"}, "on_error is 'ignore'"),
        ({"layout": "wide"}, "layout is 'wide'"),
        ({"sample_rate": 0}, "sample_rate is 0"),
        ({"cache": True}, "cache is True; expected a folder"),
        ({"sample_rate": None}, "sample_rate is None"),
        ({"model": Encoder(AxLSTMConfig(width=16, depth=1))}, "model is a Encoder; expected a name or a path"),
        ({"model": "axlstm-tinny"}, "axlstm-tinny"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_parameters_show_in_fit_not_before(options, said, paths):
    step = HearEmbedding(**options)
    with pytest.raises((ConfigError, WeightsError), match=said):
        step.fit(paths)


def test_a_process_loads_a_model_once(paths, small, monkeypatch):
    loads = []
    scikit_learn._loaded.cache_clear()
    monkeypatch.setattr(scikit_learn, "load_model", lambda *a, **k: loads.append(a) or hear_axlstm.load_model(*a, **k))
    for _ in range(3):
        HearEmbedding(small).transform(paths[:1])
    assert len(loads) == 1


def test_weights_that_are_gone_are_an_error(paths, tmp_path):
    step = HearEmbedding(save(tmp_path, "gone", 1))
    shutil.move(tmp_path / "gone.safetensors", tmp_path / "elsewhere")
    with pytest.raises(WeightsError, match=r"gone\.safetensors"):
        step.transform(paths)


def test_without_scikit_learn_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    with pytest.raises(ImportError, match=r"pip install 'hear-axlstm\[sklearn\]'"):
        runpy.run_path(scikit_learn.__file__)


class Repeated(HearEmbedding):
    """Takes tables of numbers, as scikit-learn's checks have them, and repeats each row until it is long enough."""

    def fit(self, X, y=None):  # noqa: N803
        return super().fit(self._long(X), y)

    def transform(self, X):  # noqa: N803
        return super().transform(self._long(X))

    def _long(self, X):  # noqa: N803
        if hasattr(X, "toarray"):
            return X
        X = np.asarray(X)  # noqa: N806
        return np.tile(X, (1, 201)) if X.ndim == 2 and X.dtype.kind == "f" else X

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.no_validation = tags.input_tags.one_d_array = tags.input_tags.string = False
        tags.input_tags.two_d_array = True
        return tags


NOT_FOR_SOUNDS = {
    "check_n_features_in": "sounds have lengths, not a number of features",
    "check_n_features_in_after_fitting": "sounds have lengths, not a number of features",
    "check_fit2d_predict1d": "the error asks for sounds, not to reshape the data",
    "check_estimators_dtypes": "int64 has no known scale of sound, and is refused",
    "check_dtype_object": "int64 has no known scale of sound, and is refused",
    "check_complex_data": "fit reads no sound; transform refuses it",
    "check_estimators_nan_inf": "fit reads no sound; transform refuses it",
    "check_estimators_empty_data_messages": "fit reads no sound; transform refuses it",
}


def expected_failures(estimator):
    return NOT_FOR_SOUNDS if isinstance(estimator, Repeated) else {}


@pytest.fixture
def small_default(small, monkeypatch, caplog):
    """The checks make estimators by themselves, of numbers far beyond [-1, 1], of which the log would tell."""
    monkeypatch.setattr(scikit_learn, "find_weights", lambda model: Path(small))
    caplog.set_level(logging.ERROR, logger="hear_axlstm")


@pytest.mark.usefixtures("small_default")
@pytest.mark.filterwarnings("ignore:Can't test estimator")
@parametrize_with_checks([HearEmbedding(), Repeated()], expected_failed_checks=expected_failures)
def test_the_checks_of_scikit_learn(estimator, check):
    check(estimator)
