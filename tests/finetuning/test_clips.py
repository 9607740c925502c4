"""Chunks and their steps are those of the embedding, in memory or in a file."""

import pytest
import torch

from hear_axlstm.audio import read_audio
from hear_axlstm.classification.labelled import read_labelled
from hear_axlstm.embedder import Embedder
from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import AudioError
from hear_axlstm.finetuning.clips import CHUNK_BYTES, Shelf, chunks_of, read_clips
from hear_axlstm.finetuning.settings import Settings
from hear_axlstm.finetuning.tuner import Tuner
from hear_axlstm.hear import load_model
from tests.conftest import noise
from tests.finetuning.conftest import SMALL


@pytest.mark.parametrize("limit", [0, 2, 100], ids=["in a file", "both", "in memory"])
def test_a_shelf_gives_back_what_it_was_given(tmp_path, limit):
    shelf, chunks = Shelf(tmp_path, limit * CHUNK_BYTES), noise(5, 200, 80)
    shelf.add(chunks[:3])
    shelf.add(chunks[3:])
    assert len(shelf) == 5
    assert torch.equal(shelf.take([4, 0, 2, 2]), chunks[[4, 0, 2, 2]])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("from_layer", [None, 0, 1, 2], ids=["frozen", "from 0", "from 1", "from 2"])
def test_embeddings_of_chunks_are_those_of_the_model(tmp_path, sounds, weights, from_layer):
    model, labelled = load_model(weights), read_labelled(sounds)
    clips = read_clips(labelled, 25, tmp_path)
    tuner = Tuner(model, clips, labelled.classes, Settings(from_layer=from_layer))
    tuner.begin(range(0, 12, 2), range(1, 12, 2), lambda count: None)
    assert (tuner.states is None) == (not from_layer)
    found = tuner.embed(range(12))
    for clip, sound in enumerate(labelled.sounds):
        with torch.no_grad():
            expected = model(torch.from_numpy(read_audio(sound.path))[None])
        assert (found[clip] - expected[0]).abs().max() < 1e-5


def test_a_clip_that_is_too_short_says_so():
    with pytest.raises(AudioError, match="200 samples at 16 kHz; expected 201"):
        chunks_of(torch.zeros(200), 25)


def test_what_cannot_be_read_is_a_failure_and_the_others_keep_their_labels(tmp_path, sounds):
    for number, name in enumerate(("a", "b")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.wav").write_bytes((sounds / "low" / "1.wav").read_bytes() if number else b"no sound")
    clips = read_clips(read_labelled(tmp_path), 25, tmp_path)
    assert clips.labels == ["b"]
    assert list(clips.failures) == ["a/0.wav"]


def test_gradients_are_the_same_in_one_pass_and_in_several(tmp_path, sounds, weights):
    labelled = read_labelled(sounds)
    clips = read_clips(labelled, 25, tmp_path)
    ends = []
    for size in (1, 100):
        tuner = Tuner(load_model(weights), clips, labelled.classes, Settings(from_layer=1))
        tuner.size = size
        tuner.begin(range(12), range(12), lambda count: None)
        tuner.optimizer.zero_grad = lambda: None
        tuner.update(list(enumerate(clips.chunks)), 1.0)
        ends.append({name: parameter.grad for name, parameter in tuner.trained.items()})
    assert all((ends[0][name] - ends[1][name]).abs().max() < 1e-5 for name in ends[0])


def test_a_model_that_is_given_stays_as_it_is(tmp_path, sounds):
    torch.manual_seed(0)
    model = Embedder(Encoder(SMALL).eval(), layout="time")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    labelled = read_labelled(sounds)
    clips = read_clips(labelled, 25, tmp_path)
    tuner = Tuner(model, clips, labelled.classes, Settings(from_layer=0))
    tuner.begin(range(12), range(12), lambda count: None)
    tuner.update(list(enumerate(clips.chunks)), 1.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
