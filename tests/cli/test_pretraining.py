"""pretrain at the command line: what it begins with, how long it is, and what it says."""

import json
import tarfile

import numpy as np
import pytest
import soundfile
import torch

from hear_axlstm.config import AxLSTMConfig
from hear_axlstm.encoder import Encoder
from hear_axlstm.pretraining import watch
from hear_axlstm.pretraining.shard_clips import ShardClips
from hear_axlstm.pretraining.trainer import Trainer
from hear_axlstm.weights.load import read_header
from hear_axlstm.weights.save import save_weights

SMALL = AxLSTMConfig(width=16, depth=1, patch=(40, 16))


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(5)
    save_weights(Encoder(SMALL), tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


@pytest.fixture
def train(run, tmp_path, monkeypatch):
    """A short run in the folder "run", with further options, that draws no guesses unless it is to."""
    monkeypatch.setattr(watch, "CLIPS", ())

    def train(*options):
        return run("pretrain", "-o", tmp_path / "run", "--cpu", "--batch", 2, *options)

    return train


def test_a_run_that_begins_with_weights_needs_no_recipe(train, weights, tmp_path):
    result = train("--init", weights, "--steps", 2)
    assert result.exit_code == 0, result.stderr
    header = read_header(tmp_path / "run" / "model.safetensors")
    assert header["config"] == SMALL
    assert header["provenance"]["init"]["name"] == str(weights)


def test_a_recipe_and_weights_that_fit_train_together(train):
    result = train("axlstm_tiny", "--init", "axlstm-tiny-synth", "--steps", 1, "-q")
    assert (result.exit_code, result.stderr) == (0, "")


def test_weights_that_do_not_fit_are_refused_with_both_architectures(train, weights):
    result = train("axlstm-tiny", "--init", weights, "--steps", 1)
    assert result.exit_code == 2
    assert "hold AxLSTMConfig(width=16" in result.stderr
    assert "the recipe trains AxLSTMConfig(width=192" in result.stderr
    assert "their width is 16, the recipe's 192" in result.stderr


def test_weights_in_the_place_of_a_recipe_are_told_from_one(train, weights):
    result = train(weights)
    assert result.exit_code == 2
    assert f"weights to begin with are named by --init {weights}" in result.stderr
    assert "no recipe is named; `hear-axlstm recipes` lists them" in train().stderr
    assert "did you mean axlstm-tiny?" in train("axlstm-tini").stderr


def test_a_finished_run_is_prolonged_and_nothing_else_of_it_is_changed(train, weights, tmp_path):
    begin = ("--init", weights)
    assert train(*begin, "--steps", 2).exit_code == 0
    again = train(*begin, "--steps", 2)
    assert again.exit_code == 0
    assert again.stderr == "finished already (2 steps); --steps 4, for example, prolongs it\n"
    assert train(*begin, "--steps", 2, "-q").stderr == ""
    longer = train(*begin, "--steps", 4)
    assert longer.exit_code == 0
    assert "going on after update 2: the run now has 4 updates, not 2" in longer.stderr
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["steps"] == 4
    refused = train(*begin, "--steps", 4, "--seed", 1)
    assert refused.exit_code == 2
    assert "--seed was 0 and is 1 now; a run keeps all settings but --steps" in refused.stderr
    assert "give --steps 4 or more" in train(*begin, "--steps", 3).stderr


def test_ctrl_c_says_what_is_kept(train, weights, tmp_path, monkeypatch):
    update = Trainer.update

    def stopping(self, *arguments):
        if self.optimizer.state_dict()["state"]:
            raise KeyboardInterrupt
        return update(self, *arguments)

    monkeypatch.setattr(Trainer, "update", stopping)
    result = train("--init", weights, "--steps", 3)
    assert result.exit_code == 1
    assert f"1 of 3 updates are kept in {tmp_path / 'run'}" in result.stderr
    monkeypatch.undo()
    assert "going on after update 1 of 3" in train("--init", weights, "--steps", 3).stderr


def broken_shard(folder):
    """A shard of one clip that cannot be decoded."""
    folder.mkdir()
    (folder / "clip.flac").write_bytes(b"no sound")
    with tarfile.open(folder / "broken.tar", "w") as tar:
        tar.add(folder / "clip.flac", "clip.flac")
    return folder / "broken.tar"


def test_a_run_whose_first_clips_cannot_be_decoded_leaves_nothing_behind(train, weights, tmp_path):
    options = ("--init", weights, "--steps", 2, "--shards", broken_shard(tmp_path / "shards"))
    result = train(*options)
    assert result.exit_code == 1
    assert "member clip.flac: " in result.stderr
    assert result.stderr.endswith("the run had made no update, and nothing of it was kept\n")
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    assert train(*options).exit_code == 1
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]


def test_a_run_with_a_checkpoint_keeps_it_when_a_clip_cannot_be_decoded(train, weights, tmp_path, monkeypatch):
    shards = tmp_path / "shards"
    options = ("--init", weights, "--shards", broken_shard(shards), "--steps")
    monkeypatch.setattr(ShardClips, "log_mel", lambda self, index: torch.zeros(200, 80))
    assert train(*options, 1).exit_code == 0
    before = {path.name for path in (tmp_path / "run").iterdir()}
    monkeypatch.undo()
    result = train(*options, 2)
    assert result.exit_code == 1
    assert result.stderr.endswith(f"the last checkpoint is kept in {tmp_path / 'run'}\n")
    assert {path.name for path in (tmp_path / "run").iterdir()} == before


def test_shards_of_nothing_that_can_be_read_are_not_written(run, tmp_path):
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds" / "broken.wav").write_bytes(b"no sound")
    result = run("shards", tmp_path / "sounds", "-o", tmp_path / "shards", "-q")
    assert result.exit_code == 1
    assert "failed: broken.wav: " in result.stderr
    assert "none of the 1 recordings can be read: nothing was written" in result.stderr
    assert not (tmp_path / "shards").exists()


def test_a_run_is_watched_on_recordings_of_ones_own(train, weights, tmp_path):
    begin = ("--init", weights, "--steps", 1, "--overwrite")
    soundfile.write(tmp_path / "noise.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 16_000), 16_000)
    assert train(*begin).exit_code == 0
    assert not (tmp_path / "run" / "guesses.png").exists()
    assert train(*begin, "--watch", tmp_path / "noise.wav").exit_code == 0
    assert (tmp_path / "run" / "guesses.png").exists()
    refused = train(*begin, "--watch", tmp_path / "gone.wav")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("error: gone.wav: ")
