"""What can be embedded: one sound or many, with their rates, in every form in which people have them."""

import logging

import numpy as np
import pytest
import torch

from hear_axlstm import embed
from hear_axlstm.config import SAMPLE_RATE
from hear_axlstm.errors import AudioError, ConfigError
from hear_axlstm.files import plan
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
    "row of one tensor": ([(torch.from_numpy(WAVE),)], {"sample_rate": 44_100}),
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
    for column in (table["path"], np.array(paths), np.array(paths, dtype=object), tuple(paths)):
        assert embed(column, model).embedded == ["a.wav", "b.flac"]
    with pytest.raises(ConfigError, match=r"sounds is a table; pass its column of paths, such as embed\(table\['path'\]\)"):
        embed(table, model)
    assert embed([paths], model).failures == {"0": "is a list of paths; pass all paths in one list"}


def test_a_path_that_is_not_there_raises_alone_and_fails_among_others(model, sound_folder, caplog):
    with pytest.raises(AudioError, match=r"absent\.wav: no such file or folder"):
        embed("absent.wav", model)
    with caplog.at_level(logging.WARNING):
        result = embed(["absent.wav", sound_folder / "a.wav"], model)
    assert result.failures == {"absent.wav": "no such file"}
    assert "1 of 2 sounds have no embedding: absent.wav: no such file" in caplog.text


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
    assert embed(sound_folder, path, device="cpu").weights == str(path)
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
    with pytest.raises(Exception, match="other settings: pad_short was"):
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
