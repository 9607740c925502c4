"""SentenceTransformer opens our folders and encodes sounds: the same embeddings, saving, similarity, training."""

import copy
import pickle
import tempfile
from importlib.util import find_spec

import numpy as np
import pytest
import soundfile
import torch

import hear_axlstm
from hear_axlstm.config import SSAMConfig
from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import AudioError, WeightsError
from hear_axlstm.weights.load import read_header
from tests.conftest import noise, tone

if find_spec("sentence_transformers") is None:
    pytest.skip("sentence_transformers is not installed", allow_module_level=True)
import hear_axlstm.doors.sentence_transformers as door  # before the host, which a broken torchaudio would break

import sentence_transformers  # isort: skip

SUFFIXES = ("wav", "flac", "ogg", "mp3")  # that the host takes for sound, in strings
OTHERS = ("opus", "aiff", "caf")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("folder")
    torch.manual_seed(0)
    hear_axlstm.save_weights(Encoder(SSAMConfig(width=16, depth=2)), folder / "mine.safetensors", layout="time")
    hear_axlstm.pack(folder / "mine.safetensors", folder / "packed")
    return folder / "packed"


@pytest.fixture(scope="module")
def model(folder):
    return sentence_transformers.SentenceTransformer(str(folder), device="cpu")


@pytest.fixture(scope="module")
def embed(folder):
    ours = hear_axlstm.load_model(folder)
    return lambda sounds, rate=None: hear_axlstm.embed(sounds, ours, sample_rate=rate).matrix


@pytest.fixture(scope="module")
def clips():
    return [noise(length, seed=length).numpy() for length in (48_000, 900, 16_000)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Sounds of several formats, rates, lengths and channel counts."""
    folder, paths = tmp_path_factory.mktemp("sounds"), []
    for index, suffix in enumerate(SUFFIXES + OTHERS):
        rate = (44_100, 8_000, 48_000)[index % 3]
        paths.append(folder / f"{index}.{suffix}")
        wave = np.stack([tone(200 * (index + 1), 0.4 + 0.3 * index, rate)] * (1 + index % 2), axis=1)
        options = {"format": "OGG", "subtype": "OPUS"} if suffix == "opus" else {}
        soundfile.write(paths[-1], wave, rate, **options)
    return paths


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_samples_of_mixed_lengths_give_our_embeddings(model, embed, clips):
    expected = embed(clips, 16_000)
    close(model.encode(clips), expected)
    close(model.encode(clips, batch_size=1), expected)
    close(model.encode([torch.from_numpy(clip) for clip in clips]), expected)
    one = model.encode(clips[0])
    assert (one.shape, one.dtype) == ((80,), np.float32)
    close(one, expected[0])
    assert model.get_embedding_dimension() == 80


def test_samples_come_at_their_own_rate(model, embed, clips):
    rated = [{"array": clip, "sampling_rate": 44_100} for clip in clips]
    for sounds in (rated, [{"audio": sound} for sound in rated]):
        close(model.encode(sounds), embed(clips, 44_100))
    with pytest.raises(ValueError, match="different sampling rates"):  # the host's word; files may differ
        model.encode([rated[0], {"array": clips[1], "sampling_rate": 16_000}])


def test_files_are_read_by_us_at_their_own_rates(model, embed, files):
    expected = embed(files)
    close(model.encode([str(path) for path in files[: len(SUFFIXES)]]), expected[: len(SUFFIXES)])
    for wrapped in (lambda path: {"audio": str(path)}, lambda path: {"audio": path}):
        close(model.encode([wrapped(path) for path in files]), expected)
    with pytest.raises(ValueError, match="text"):  # what the host takes such strings for
        model.encode([str(path) for path in files])


def test_an_array_of_two_dimensions_is_one_sound(model, embed, clips):
    stereo = np.stack([clips[0], clips[0] / 2])
    for sound in (stereo, stereo.T, torch.from_numpy(stereo)):
        close(model.encode([sound]), embed([(stereo.T, 16_000)]))
    close(model.encode([(stereo * 32_767).astype(np.int16)]), embed([((stereo.T * 32_767).astype(np.int16), 16_000)]))


@pytest.mark.parametrize("broken", [np.zeros(100, np.float32), np.full(9_000, np.nan, np.float32)])
def test_what_cannot_be_embedded_is_refused(model, broken, clips, tmp_path):
    with pytest.raises(AudioError, match="sound"):
        model.encode([clips[0], broken])
    (tmp_path / "broken.wav").write_bytes(b"RIFF and nothing else")
    with pytest.raises(AudioError, match=r"broken\.wav"):
        model.encode([str(tmp_path / "broken.wav")])


def test_similarity_separates_once_a_collection_is_centred(model, clips):
    embeddings = model.encode([tone(200, 1.0), tone(210, 1.0), clips[0], clips[2]])
    raw = model.similarity(embeddings, embeddings)
    centred = model.similarity(embeddings - embeddings.mean(0), embeddings - embeddings.mean(0))
    assert raw[0, 1] > raw[0, 2]
    assert centred[0, 1] > 0.5 > 0 > centred[0, 2]


def test_the_hosts_options_work(model, clips):
    assert np.allclose(np.linalg.norm(model.encode(clips, normalize_embeddings=True), axis=1), 1)
    assert model.encode(clips, precision="binary").shape == (3, 10)
    assert model.encode(clips, convert_to_tensor=True).dtype == torch.float32
    assert model.encode(clips, truncate_dim=16).shape == (3, 16)
    assert len(model.encode([])) == 0


def test_saved_copied_and_pickled_models_are_the_same(model, folder, clips, tmp_path):
    expected = model.encode(clips)
    model.save_pretrained(str(tmp_path / "saved"))
    saved = tmp_path / "saved"
    assert {path.name for path in saved.iterdir()} == {path.name for path in folder.iterdir()}
    assert (saved / "README.md").read_bytes() == (folder / "README.md").read_bytes()
    again = sentence_transformers.SentenceTransformer(str(saved), device="cpu")
    for twin in (again, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert np.array_equal(twin.encode(clips), expected)
    close(hear_axlstm.embed(clips, hear_axlstm.load_model(saved), sample_rate=16_000).matrix, expected)


def test_a_model_by_its_name_needs_no_folder(clips, folder, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    named = door.model("axlstm-tiny-open", device="cpu", truncate_dim=100)
    expected = hear_axlstm.embed(clips, hear_axlstm.load_model("axlstm-tiny-open"), sample_rate=16_000).matrix
    close(named.encode(clips), expected[:, :100])
    assert named[0].model.name_or_path == "axlstm-tiny-open"
    in_memory = hear_axlstm.load_model(folder)
    close(door.model(in_memory).encode(clips), hear_axlstm.embed(clips, in_memory, sample_rate=16_000).matrix)
    for wrong, error in (("axlstm-tinny", WeightsError), (tmp_path, WeightsError)):
        with pytest.raises(error):
            door.model(wrong)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_contrastive_training_changes_and_keeps_the_encoder(folder, clips, tmp_path):
    datasets = pytest.importorskip("datasets")
    model = door.model(folder, device="cpu")
    before = model.encode(clips)

    def sounds(seconds):
        return [{"array": tone(hertz, seconds, 8_000), "sampling_rate": 8_000} for hertz in (300, 600, 1_200, 2_400)]

    arguments = sentence_transformers.SentenceTransformerTrainingArguments(
        str(tmp_path / "run"), max_steps=1, per_device_train_batch_size=4, report_to=[], use_cpu=True, disable_tqdm=True
    )
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    pairs = datasets.Dataset.from_dict({"anchor": sounds(0.3), "positive": sounds(0.5)})
    sentence_transformers.SentenceTransformerTrainer(
        model, arguments, train_dataset=pairs, loss=MultipleNegativesRankingLoss(model)
    ).train()
    after = model.encode(clips)
    assert not np.allclose(after, before)
    model.save_pretrained(str(tmp_path / "saved"))
    close(hear_axlstm.embed(clips, hear_axlstm.load_model(tmp_path / "saved"), sample_rate=16_000).matrix, after)
    assert "finetuned_from" in read_header(tmp_path / "saved/model.safetensors")["provenance"]
