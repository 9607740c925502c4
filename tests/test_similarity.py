"""Which sounds are alike: by cosines of embeddings without what all sounds share."""

import logging
from itertools import combinations

import numpy as np
import pytest
import soundfile
import torch

import hear_axlstm
from hear_axlstm import centring as rules
from hear_axlstm.centring import Centring, Neighbours, centring_of, nearest
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.errors import AudioError, ConfigError
from hear_axlstm.weights.find import read_manifest

FORMANTS = {"a": (730, 1090, 2440), "i": (270, 2290, 3010)}


def vowel(name, pitch):
    """Half a second that sounds spoken: harmonics, loud near the formants."""
    t = np.arange(SAMPLE_RATE // 2) / SAMPLE_RATE
    partials = np.arange(1, 4_000 // pitch) * pitch
    gains = sum(np.exp(-(((partials - formant) / 120) ** 2)) for formant in FORMANTS[name]) + 0.01
    return (gains[:, None] * np.sin(2 * np.pi * partials[:, None] * t)).sum(0) * np.hanning(len(t))


def hiss(slope, seed):
    """Half a second of noise whose spectrum falls or rises."""
    noise = np.random.default_rng(seed).normal(size=SAMPLE_RATE // 2)
    spectrum = np.fft.rfft(noise) * np.maximum(np.fft.rfftfreq(len(noise)), 0.01) ** slope
    return np.fft.irfft(spectrum, len(noise))


SOUNDS = {
    "voice a 110": lambda: vowel("a", 110),
    "voice a 140": lambda: vowel("a", 140),
    "voice i 120": lambda: vowel("i", 120),
    "noise low 0": lambda: hiss(-1.0, 0),
    "noise low 1": lambda: hiss(-1.0, 1),
    "noise high": lambda: hiss(0.5, 2),
}
NAMES = [f"{name}.wav" for name in SOUNDS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    for name, make in SOUNDS.items():
        wave = make()
        soundfile.write(folder / f"{name}.wav", 0.5 * wave / np.abs(wave).max(), SAMPLE_RATE)
    return folder


@pytest.fixture(scope="module")
def model():
    return hear_axlstm.load_model()


@pytest.fixture(scope="module")
def result(folder, model):
    return hear_axlstm.embed([folder / name for name in NAMES], model)


@pytest.fixture(scope="module")
def matrix(result):
    return np.stack(result.embeddings)


@pytest.fixture(scope="module")
def tuned(folder, model):
    """Weights without a centring."""
    with torch.no_grad():
        other = hear_axlstm.load_model()
        other.encoder.norm.weight += 0.1
    return other


@pytest.fixture(autouse=True)
def say_again():
    rules._say_own_mean.cache_clear()


def raw(matrix):
    unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    return unit @ unit.T


def pairs(cosines):
    return np.array([cosines[one, other] for one, other in combinations(range(len(cosines)), 2)])


def test_raw_cosines_are_all_alike_and_similarities_are_not(folder):
    """Of weights that no teachers taught: those of the others are spread already."""
    model = hear_axlstm.load_model("axlstm-tiny-synth")
    matrix = hear_axlstm.embed([folder / name for name in NAMES], model).matrix
    found = hear_axlstm.similarity(matrix, model=model)
    assert found.dtype == np.float32
    assert found.shape == (6, 6)
    assert np.allclose(np.diag(found), 1, atol=1e-5)
    assert np.allclose(found, found.T, atol=1e-6)
    assert np.median(pairs(raw(matrix))) > 0.6
    assert pairs(raw(matrix)).min() > 0.4
    assert pairs(found).min() < 0 < 0.5 < pairs(found).max()


def test_voices_are_like_voices_and_noise_like_noise(result):
    for name, found in list(result.neighbours(1))[:5]:  # the last is like no other
        assert found[0][0].split()[0] == name.split()[0]


def test_two_single_things_give_a_number_and_any_others_a_matrix(result, folder, matrix):
    path = folder / NAMES[0]
    expected = hear_axlstm.similarity(matrix)[0, 1]
    for one, other in [
        (matrix[0], matrix[1]),
        (torch.from_numpy(matrix[0]), list(matrix[1])),
        (path, folder / NAMES[1]),
        (str(path), matrix[1]),
    ]:
        found = hear_axlstm.similarity(one, other)
        assert isinstance(found, float)
        assert found == pytest.approx(expected, abs=1e-4)
    assert hear_axlstm.similarity(path, result).shape == (1, 6)
    assert hear_axlstm.similarity(result, path).shape == (6, 1)
    assert hear_axlstm.similarity([path], [matrix[0]][0]).shape == (1, 1)
    assert hear_axlstm.similarity(matrix[:2], torch.from_numpy(matrix)).shape == (2, 6)
    assert hear_axlstm.similarity(list(matrix)).shape == (6, 6)


def test_sounds_may_be_in_a_column_or_an_array(result, folder, model):
    paths = [str(folder / name) for name in NAMES]
    expected = hear_axlstm.similarity(result)
    for given in (np.array(paths), pytest.importorskip("pandas").Series(paths)):
        np.testing.assert_allclose(hear_axlstm.similarity(given, model=model), expected, atol=1e-4)
    assert hear_axlstm.similarity(np.array(paths)[0], paths[1], model=model) == pytest.approx(expected[0, 1], abs=1e-4)


def test_the_methods_do_as_the_functions(result, matrix):
    assert np.array_equal(result.similarity(), hear_axlstm.similarity(matrix))
    assert np.array_equal(result.similarity(matrix[0]), hear_axlstm.similarity(result, matrix[0]))
    assert np.array_equal(result.neighbours(2).indices, hear_axlstm.neighbours(matrix, 2).indices)


def test_one_sound_alone_is_compared_with_nothing(matrix, folder):
    with pytest.raises(ConfigError, match="there is one sound"):
        hear_axlstm.similarity(matrix[0])
    with pytest.raises(ConfigError, match="there is one sound"):
        hear_axlstm.neighbours(folder / NAMES[0])


def test_a_single_sound_that_fails_is_an_error_and_one_of_several_is_nan(result, folder, tmp_path):
    (tmp_path / "bad.wav").write_text("no sound")
    with pytest.raises(AudioError, match=r"bad\.wav"):
        hear_axlstm.similarity(tmp_path / "bad.wav", folder / NAMES[0])
    found = hear_axlstm.similarity([folder / NAMES[0], tmp_path / "bad.wav", folder / NAMES[1]])
    assert np.isnan(found).tolist() == [[False, True, False], [True] * 3, [False, True, False]]


def test_neighbours_of_a_failed_sound_are_none_and_it_is_nobodys(matrix):
    broken = np.insert(matrix, 1, np.nan, axis=0)
    names = [*NAMES[:1], "broken", *NAMES[1:]]
    found = nearest(broken, names, centring_of(hear_axlstm.load_model()), k=10)
    assert found.indices.shape == found.cosines.shape == (7, 5)
    assert (found.indices[1] == -1).all()
    assert np.isnan(found.cosines[1]).all()
    others = np.delete(found.indices, 1, axis=0)
    assert not (others == 1).any()
    assert all(
        set(row) == {0, 2, 3, 4, 5, 6} - {place} for place, row in zip([0, 2, 3, 4, 5, 6], others.tolist(), strict=True)
    )
    assert (np.diff(np.delete(found.cosines, 1, axis=0), axis=1) <= 0).all()
    assert "\nbroken           no neighbours\n" in repr(found)


@pytest.mark.parametrize("k", [0, -1, 2.5, True])
def test_a_number_of_neighbours_that_is_none_is_refused(matrix, k):
    with pytest.raises(ConfigError, match="k is"):
        hear_axlstm.neighbours(matrix, k)


def test_neighbours_print_as_a_table_that_says_what_it_was_centred_on(result):
    lines = repr(result.neighbours(2)).splitlines()
    assert len(lines) == 7
    assert lines[0].startswith("voice a 110.wav  voice a 140.wav 0.")
    assert lines[-1] == f"cosines, centred on {centring_of(hear_axlstm.load_model()).source}"


def test_neighbours_print_names_that_are_not_utf8():
    found = Neighbours(["b\udce4"], np.array([[0]]), np.array([[1.0]], np.float32), "nothing")
    assert repr(found).splitlines()[0] == "b\\xe4  b\\xe4 1.00"


def test_many_neighbours_print_in_short(model):
    many = np.random.default_rng(0).normal(size=(30, model.scene_embedding_size)).astype(np.float32)
    lines = repr(hear_axlstm.neighbours(many, 1)).splitlines()
    assert len(lines) == 22
    assert lines[-2] == "and 10 more sounds"


def test_neighbours_become_a_frame(result):
    pandas = pytest.importorskip("pandas")
    frame = result.neighbours(2).to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == ["name", "rank", "neighbour", "cosine"]
    assert len(frame) == 12
    assert frame["rank"].tolist()[:2] == [1, 2]


def test_neighbours_found_in_parts_are_those_found_at_once(matrix, monkeypatch):
    whole = hear_axlstm.neighbours(matrix, 3)
    monkeypatch.setattr(rules, "ROWS", 2)
    parts = hear_axlstm.neighbours(matrix, 3)
    assert np.array_equal(whole.indices, parts.indices)
    assert np.allclose(whole.cosines, parts.cosines, atol=1e-6)


def test_embeddings_of_another_size_ask_for_their_weights():
    with pytest.raises(ConfigError, match=r"have 5 numbers, but the bundled weights give 960; .*model="):
        hear_axlstm.similarity(np.ones(5), np.ones(5))
    with pytest.raises(ConfigError, match=r"shape \(2, 5\)"):
        hear_axlstm.similarity(np.ones((2, 5)), model=read_manifest()["default"])


def test_a_list_of_embeddings_may_have_some_that_failed(matrix):
    listed = [None, *matrix[:3], None]
    found = hear_axlstm.similarity(listed)
    np.testing.assert_allclose(found[1:4, 1:4], hear_axlstm.similarity(matrix[:3]), atol=1e-5)
    assert np.isnan(found[[0, -1]]).all()
    assert len(hear_axlstm.neighbours(listed, 2)) == 5


def test_a_table_of_numbers_is_a_matrix_and_one_with_words_is_refused(result, matrix):
    pandas = pytest.importorskip("pandas")
    found = hear_axlstm.similarity(pandas.DataFrame(matrix))
    np.testing.assert_allclose(found, hear_axlstm.similarity(matrix), atol=1e-5)
    with pytest.raises(ConfigError, match="these are no embeddings"):
        hear_axlstm.similarity(result.to_frame())


def test_what_is_no_embedding_is_refused():
    for odd in (None, np.ones((2, 3, 4)), np.zeros((0, 960)), [np.ones(3), np.ones(4)]):
        with pytest.raises(ConfigError, match="embeddings"):
            hear_axlstm.similarity(odd, np.ones(960))


def test_two_embeddings_without_a_centring_are_refused_with_the_trap(folder, tuned):
    with pytest.raises(ConfigError, match=r"2 sounds are too few to centre on their mean; .*cosine near 0\.9"):
        hear_axlstm.similarity(folder / NAMES[0], folder / NAMES[1], model=tuned)


def test_many_embeddings_without_a_centring_are_centred_on_their_own_mean_which_is_said_once(matrix, tuned, caplog):
    many = np.concatenate([matrix, 2 * matrix])
    with caplog.at_level(logging.WARNING):
        found = hear_axlstm.similarity(many, model=tuned)
        hear_axlstm.similarity(many, model=tuned)
    own = many - many.mean(0)
    assert np.allclose(found, raw(own), atol=1e-4)
    assert [record.message for record in caplog.records] == [
        f"{rules.NO_CENTRING}: what is compared is centred on its own mean"
    ]
    assert repr(hear_axlstm.neighbours(many, model=tuned)).endswith("centred on the mean of these 12 sounds")


def test_results_of_different_weights_are_not_compared(result, folder, tuned):
    with pytest.raises(ConfigError, match="different weights"):
        hear_axlstm.similarity(result, hear_axlstm.embed([folder / NAMES[0]], tuned))


def test_the_hear_functions_give_what_they_gave(model, matrix, folder):
    """The raw embeddings, which no centring touches."""
    wave = torch.from_numpy(soundfile.read(folder / NAMES[0], dtype="float32")[0])[None]
    with torch.no_grad():
        before = hear_axlstm.get_scene_embeddings(wave, model)
        model.encoder.centring, kept = None, model.encoder.centring
        after = hear_axlstm.get_scene_embeddings(wave, model)
        model.encoder.centring = kept
    assert torch.equal(before, after)
    assert np.allclose(before[0].numpy(), matrix[0], atol=1e-4)


def test_a_centring_levels_the_directions_in_which_sounds_vary_most():
    rng = np.random.default_rng(0)
    sample = (5 + rng.normal(size=(400, 40)) * np.linspace(30, 1, 40)).astype(np.float32)
    found = Centring.measured(sample, "a test")
    levelled = np.linalg.svd(found.apply(sample), compute_uv=False)
    assert np.allclose(levelled[:10], levelled[10], rtol=0.02)
    assert np.abs(found.apply(sample).mean(0)).max() < 0.1
    with pytest.raises(ConfigError, match="12 or more"):
        Centring.measured(sample[:11], "a test")
