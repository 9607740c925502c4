"""A run's folder: whole at any moment, continued by the same recipe only."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from hear_axlstm.config import AxLSTMConfig
from hear_axlstm.errors import OutputError
from hear_axlstm.pretraining.batches import Share, updates
from hear_axlstm.pretraining.recipe import Recipe
from hear_axlstm.pretraining.shard_clips import ShardClips
from hear_axlstm.pretraining.state import CHECKPOINT, CURVE, METADATA_KEY, Curve, RunFolder, read_curve
from hear_axlstm.pretraining.trainer import Trainer

RECIPE = Recipe(encoder=AxLSTMConfig(width=16, depth=1, patch=(40, 16)), steps=9, batch=2, ema=0.5)


def trained(seed, updates_made=2, recipe=RECIPE):
    """A trainer after some updates."""
    trainer = Trainer(replace(recipe, seed=seed), cpu=True)
    for update in batches(updates_made):
        trainer.update(update, lr=0.01)
    return trainer


def batches(count):
    share = Share(batch=2, micro_batch=2)
    made = updates(RECIPE, ShardClips([]), share, range(count), torch.device("cpu"), workers=0)
    return [list(passes) for passes in made]


def weights(trainer):
    return torch.cat([tensor.flatten() for module in trainer.modules.values() for tensor in module.state_dict().values()])


def test_a_checkpoint_restores_weights_average_and_optimiser(tmp_path):
    folder = RunFolder(tmp_path)
    before, after = trained(seed=0), trained(seed=1)
    folder.save(7, before)
    assert not torch.equal(weights(after), weights(before))
    assert folder.load(after) == 7
    assert torch.equal(weights(after), weights(before))
    (update,) = batches(1)
    assert torch.equal(before.update(update, lr=0.01), after.update(update, lr=0.01))
    assert torch.equal(weights(after), weights(before))


def test_the_scale_of_float16_gradients_goes_on(tmp_path):
    half = replace(RECIPE, precision="float16")
    before, after = trained(seed=0, recipe=half), trained(seed=0, recipe=half, updates_made=0)
    before.scaler.update(1024.0)
    RunFolder(tmp_path).save(7, before)
    RunFolder(tmp_path).load(after)
    assert after.scaler.get_scale() == 1024.0


def test_gradients_that_overflow_float16_leave_the_weights_alone_and_halve_the_scale():
    trainer = trained(seed=0, recipe=replace(RECIPE, precision="float16"))
    trainer.scaler.update(2.0**40)
    encoder = torch.cat([tensor.flatten() for tensor in trainer.encoder.state_dict().values()])
    (update,) = batches(1)
    assert torch.isfinite(trainer.update(update, lr=0.01))
    assert torch.equal(torch.cat([tensor.flatten() for tensor in trainer.encoder.state_dict().values()]), encoder)
    assert trainer.scaler.get_scale() == 2.0**39


def test_a_new_folder_starts_at_update_0(tmp_path):
    assert RunFolder(tmp_path).load(trained(seed=0, updates_made=0)) == 0


@pytest.mark.parametrize("damage", ["truncated", "foreign", "without average"])
def test_a_damaged_checkpoint_is_told(tmp_path, damage):
    folder = RunFolder(tmp_path)
    trainer = trained(seed=0)
    if damage == "without average":
        folder.save(7, trained(seed=0, recipe=replace(RECIPE, ema=None)))
    else:
        folder.save(7, trainer)
        content = (tmp_path / CHECKPOINT).read_bytes()
        (tmp_path / CHECKPOINT).write_bytes(content[:-5] if damage == "truncated" else b"not safetensors")
    with pytest.raises(OutputError, match=r"(?s)is damaged .*; start again with --overwrite"):
        folder.load(trainer)


def test_a_checkpoint_of_another_version_is_refused_with_the_ways_to_go_on(tmp_path):
    trainer = trained(seed=0)
    RunFolder(tmp_path).save(7, trainer)
    tensors = load_file(tmp_path / CHECKPOINT)
    old = {"step": 7, "scaler": {}}  # as it was before checkpoints had a format
    save_file(tensors, tmp_path / CHECKPOINT, metadata={METADATA_KEY: json.dumps(old)})
    with pytest.raises(
        OutputError, match=r"has format 1, .*; expected 3\. Finish this run .*, or start again with --overwrite"
    ):
        RunFolder(tmp_path).load(trainer)


def test_a_run_of_another_recipe_is_refused_unless_overwritten(tmp_path):
    folder = RunFolder(tmp_path)
    folder.open({"batch": 4, "seed": 0})
    folder.open({"batch": 4, "seed": 0})
    with pytest.raises(OutputError, match="other settings: --batch was 4 and is 8 now"):
        folder.open({"batch": 8, "seed": 0})
    trainer = trained(seed=0)
    folder.save(7, trainer)
    folder.open({"batch": 8, "seed": 0}, overwrite=True)
    assert folder.load(trainer) == 0


def test_a_run_may_change_its_length_alone(tmp_path):
    folder = RunFolder(tmp_path)
    folder.open({"batch": 4, "steps": 6})
    assert folder.lengthen(0, 6, 6, 6) == [{"after": 0, "updates": 6}]
    folder.open({"batch": 4, "steps": 8})
    assert folder.recorded()["steps"] == 6  # until the run is known to have made no more than 8
    for _ in range(2):
        assert folder.lengthen(6, 8, 8, 6) == [{"after": 0, "updates": 6}, {"after": 6, "updates": 8}]
    assert folder.recorded()["steps"] == 8
    assert folder.lengthen(6, 20, 20, 6) == [{"after": 0, "updates": 6}, {"after": 6, "updates": 20}]
    with pytest.raises(OutputError, match="holds a run of 7 updates, more than 6; give --steps 7 or more"):
        folder.lengthen(7, 6, 6, 6)
    with pytest.raises(
        OutputError, match="--batch was 4 and is 2 now; a run keeps all settings but --steps: choose another folder, or"
    ):
        folder.open({"batch": 2, "steps": 8})


def test_the_length_of_a_run_of_an_earlier_version_is_that_of_its_recipe(tmp_path):
    folder = RunFolder(tmp_path)
    folder.open({"batch": 4, "steps": 6})
    assert folder.lengthen(3, 8, 8, before=6) == [{"after": 0, "updates": 6}, {"after": 3, "updates": 8}]


def test_a_run_that_began_with_other_weights_is_refused(tmp_path):
    folder = RunFolder(tmp_path)
    first, other = ({"name": name, "sha256": name * 32, "layout": "time"} for name in ("aa", "bb"))
    folder.open({"init": first})
    folder.open({"init": {**first, "name": "where/it/is/now"}})  # by its fingerprint, the same
    assert folder.recorded()["init"] == first
    with pytest.raises(
        OutputError, match=r"began with the weights aa .* aaaa.*not with the weights bb .* bbbb.*--overwrite"
    ):
        folder.open({"init": other})
    with pytest.raises(OutputError, match="not with random weights"):
        folder.open({"init": None})
    folder.open({"init": other}, overwrite=True)


def test_what_a_killed_run_was_writing_is_removed(tmp_path):
    (tmp_path / ".checkpoint.safetensors.12345678.part").write_bytes(b"half of it")
    RunFolder(tmp_path).open({})
    assert not list(tmp_path.glob(".*"))


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        RunFolder(tmp_path / "file" / "run").open({})


def row(step):
    return {"step": step, "loss": 1 / step, "lr": 0.1, "clips_per_second": 2.5}


def test_the_curve_goes_on_where_the_checkpoint_is(tmp_path):
    folder = RunFolder(tmp_path)
    curve = Curve(folder, 0)
    for step in range(1, 6):
        curve.add(row(step))
    curve.close()
    with open(tmp_path / CURVE, "a") as file:
        file.write("6,0.1")  # killed while writing
    curve = Curve(folder, 3)
    curve.add(row(4))
    curve.close()
    rows = read_curve(tmp_path / CURVE)
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4]
    assert [float(row["loss"]) for row in rows] == [1 / step for step in range(1, 5)]


def test_a_curve_has_plain_line_ends_and_goes_on_from_one_that_has_others(tmp_path):
    (tmp_path / CURVE).write_bytes(b"step,loss,lr,clips_per_second\r\n1,1.0,0.1,2.5\r\n2,0.5,0.1,2.5\r\n3,0.25,0.1,2.5\r\n")
    curve = Curve(RunFolder(tmp_path), 2)
    curve.add(row(3))
    curve.close()
    assert (tmp_path / CURVE).read_bytes() == (
        b"step,loss,lr,clips_per_second\n1,1.0,0.1,2.5\n2,0.5,0.1,2.5\n3,0.3333333333333333,0.1,2.5\n"
    )
