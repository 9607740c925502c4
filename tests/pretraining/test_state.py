"""A run's folder: whole at any moment, continued by the same recipe only."""

import pytest
import torch

from hear_axlstm.errors import OutputError
from hear_axlstm.pretraining.state import CHECKPOINT, CURVE, Curve, RunFolder, read_curve


def trained(seed):
    """A small module and its optimiser after two steps."""
    torch.manual_seed(seed)
    module = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW([{"params": [module.weight]}, {"params": [module.bias], "weight_decay": 0.0}], fused=True)
    for _ in range(2):
        module(torch.rand(4, 3)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return module, optimizer


def test_a_checkpoint_restores_weights_and_optimiser(tmp_path):
    folder = RunFolder(tmp_path)
    module, optimizer = trained(0)
    folder.save(7, {"encoder": module}, optimizer, {"scaler": {"scale": 4.0}})
    other, other_optimizer = trained(1)
    extra = folder.load({"encoder": other}, other_optimizer)
    assert extra == {"step": 7, "scaler": {"scale": 4.0}}
    assert torch.equal(other.weight, module.weight)
    for one, two in ((module, optimizer), (other, other_optimizer)):
        one(torch.ones(1, 3)).sum().backward()
        two.step()
    assert torch.equal(other.weight, module.weight)
    assert torch.equal(other.bias, module.bias)


def test_a_new_folder_starts_at_update_0(tmp_path):
    module, optimizer = trained(0)
    assert RunFolder(tmp_path).load({"encoder": module}, optimizer) == {"step": 0}


@pytest.mark.parametrize("damage", ["truncated", "foreign", "other model"])
def test_a_damaged_checkpoint_is_told(tmp_path, damage):
    folder = RunFolder(tmp_path)
    module, optimizer = trained(0)
    folder.save(7, {"encoder": module}, optimizer, {})
    if damage == "truncated":
        (tmp_path / CHECKPOINT).write_bytes((tmp_path / CHECKPOINT).read_bytes()[:-5])
    elif damage == "foreign":
        (tmp_path / CHECKPOINT).write_bytes(b"not safetensors")
    else:
        module = torch.nn.Linear(5, 2)
    with pytest.raises(OutputError, match=r"(?s)is damaged .*; start again with --overwrite"):
        folder.load({"encoder": module}, optimizer)


def test_a_run_of_another_recipe_is_refused_unless_overwritten(tmp_path):
    folder = RunFolder(tmp_path)
    folder.open({"batch": 4, "seed": 0})
    folder.open({"batch": 4, "seed": 0})
    with pytest.raises(OutputError, match="another recipe: batch was 4, now 8"):
        folder.open({"batch": 8, "seed": 0})
    module, optimizer = trained(0)
    folder.save(7, {"encoder": module}, optimizer, {})
    folder.open({"batch": 8, "seed": 0}, overwrite=True)
    assert folder.load({"encoder": module}, optimizer) == {"step": 0}


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
