"""A run that begins with weights: they fit, all of them are taken, and the result says which they were."""

from dataclasses import replace

import pytest
import torch

from hear_axlstm.config import AxLSTMConfig, SSAMConfig
from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import ConfigError, OutputError, WeightsError
from hear_axlstm.pretraining.loop import pretrain
from hear_axlstm.pretraining.recipe import Recipe, read_recipe
from hear_axlstm.pretraining.start import start_of
from hear_axlstm.pretraining.state import CURVE, RunFolder, read_curve
from hear_axlstm.pretraining.trainer import Trainer
from hear_axlstm.weights.load import load_weights, read_header
from hear_axlstm.weights.save import save_weights

SMALL = AxLSTMConfig(width=16, depth=1, patch=(40, 16))


@pytest.fixture
def weights(tmp_path):
    """A file of weights that are not those of any seed."""
    torch.manual_seed(12)
    encoder = Encoder(SMALL)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter += 0.01
    save_weights(encoder, tmp_path / "weights" / "model.safetensors", layout="time")
    return tmp_path / "weights" / "model.safetensors"


def recipe(init, **options):
    return Recipe(**{"encoder": SMALL, "steps": 4, "batch": 2, **options}, init=None if init is None else str(init))


def losses(folder):
    return [row["loss"] for row in read_curve(folder / CURVE)]


def test_training_begins_with_all_weights_of_the_file_mask_token_and_head_included(weights, tmp_path):
    begun = recipe(weights)
    trainer = Trainer(begun, cpu=True, start=start_of(begun, RunFolder(tmp_path / "run"), overwrite=False).encoder)
    expected = load_weights(weights)[0].state_dict()
    assert {"mask_token", "head.0.weight"} <= expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in trainer.encoder.state_dict().items())
    averaged = Trainer(replace(begun, ema=0.9), cpu=True, start=load_weights(weights)[0])
    assert all(torch.equal(tensor, expected[name]) for name, tensor in averaged.result.state_dict().items())


def test_the_result_says_what_it_began_with_and_keeps_the_layout(weights, tmp_path):
    header = read_header(pretrain(recipe(weights), tmp_path / "run", cpu=True))
    origin = {"name": str(weights), "sha256": read_header(weights)["sha256"], "layout": "time"}
    assert header["provenance"]["init"] == origin
    assert header["layout"] == "time"
    assert RunFolder(tmp_path / "run").recorded()["init"] == origin
    assert "init" not in read_header(pretrain(recipe(None), tmp_path / "random", cpu=True))["provenance"]
    assert losses(tmp_path / "run") != losses(tmp_path / "random")


def test_a_folder_is_as_good_as_its_file(weights, tmp_path):
    pretrain(recipe(weights), tmp_path / "a", cpu=True)
    pretrain(recipe(weights.parent), tmp_path / "b", cpu=True)
    assert losses(tmp_path / "a") == losses(tmp_path / "b")


def test_a_run_goes_on_without_the_weights_that_it_began_with_and_not_with_others(weights, tmp_path):
    pretrain(recipe(weights), tmp_path / "run", cpu=True)
    before = losses(tmp_path / "run")
    other = tmp_path / "other.safetensors"
    save_weights(Encoder(SMALL), other)
    for init in (other, None):
        with pytest.raises(OutputError, match=r"holds a run that began with the weights .*, not with"):
            pretrain(recipe(init), tmp_path / "run", cpu=True)
    moved = weights.rename(tmp_path / "moved.safetensors")
    pretrain(recipe(moved), tmp_path / "run", cpu=True)  # under another name the same
    moved.unlink()
    pretrain(recipe(weights, steps=6), tmp_path / "run", cpu=True)  # they are in its checkpoint
    assert losses(tmp_path / "run")[:4] == before
    with pytest.raises(WeightsError, match="no such file"):
        pretrain(recipe(weights), tmp_path / "new", cpu=True)


@pytest.mark.parametrize(
    ("encoder", "difference"),
    [
        (replace(SMALL, width=32), "their width is 16, the recipe's 32"),
        (SSAMConfig(width=16, depth=1, patch=(40, 16)), "their family is axlstm, the recipe's ssam"),
    ],
    ids=["width", "family"],
)
def test_weights_of_another_architecture_are_refused_with_both(weights, tmp_path, encoder, difference):
    with pytest.raises(ConfigError, match=r"hold AxLSTMConfig\(width=16.*the recipe trains") as caught:
        pretrain(recipe(weights, encoder=encoder), tmp_path / "run", cpu=True)
    assert str(encoder) in str(caught.value)
    assert difference in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_run_does_not_begin_with_its_own_result(tmp_path):
    own = pretrain(recipe(None), tmp_path / "run", cpu=True)
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match=r"those of the run in .* itself; leave --init out to go on"):
            pretrain(recipe(own), tmp_path / "run", cpu=True, overwrite=overwrite)
    assert own.is_file()


def test_the_weights_say_which_encoder_is_trained_where_no_recipe_does(weights):
    assert read_recipe(init="axlstm-tiny-synth", steps=3) == read_recipe("axlstm-tiny", init="axlstm-tiny-synth", steps=3)
    assert read_recipe(init=weights, steps=4, batch=2) == recipe(weights)
    with pytest.raises(ConfigError, match="no recipe is named"):
        read_recipe()
