"""Encoders that grow as they train: who waits, who joins, and that nothing is said otherwise at that moment."""

from dataclasses import replace

import pytest
import torch

from hear_axlstm.config import AxLSTMConfig, SSAMConfig, SSASTConfig
from hear_axlstm.encoder import Encoder
from hear_axlstm.pretraining.batches import Batch
from hear_axlstm.pretraining.loop import pretrain
from hear_axlstm.pretraining.recipe import Recipe
from hear_axlstm.pretraining.state import CURVE, WEIGHTS, read_curve
from hear_axlstm.pretraining.trainer import Trainer
from hear_axlstm.weights.load import load_weights
from tests.conftest import noise

RECIPE = Recipe(
    encoder=AxLSTMConfig(width=32, depth=4, patch=(8, 16)), growth=(1, 2, 4), steps=6, batch=2, base_lr=1.0, ema=0.5
)
FAMILIES = [
    RECIPE.encoder,
    SSAMConfig(width=32, depth=4, patch=(8, 16)),
    SSASTConfig(width=32, depth=4, heads=2, patch=(8, 16)),
]
SPECTROGRAM = noise(2, 200, 80)


def learn(trainer, updates):
    for _ in range(updates):
        trainer.update([Batch(SPECTROGRAM, torch.rand(2, 125) < 0.5)], lr=1e-2)


@torch.no_grad()
def said(trainer):
    return [encoder(SPECTROGRAM) for encoder in (trainer.encoder, trainer.result)]


@pytest.mark.parametrize("encoder", FAMILIES, ids=lambda encoder: encoder.family)
def test_blocks_that_join_say_nothing_at_first_and_learn_then(encoder):
    trainer = Trainer(replace(RECIPE, encoder=encoder), cpu=True)
    waiting = [parameter.clone() for parameter in trainer.encoder.blocks[1].parameters()]
    learn(trainer, 2)
    assert all(map(torch.equal, waiting, trainer.encoder.blocks[1].parameters()))
    before = said(trainer)
    trainer.grow(4)
    assert all(map(torch.equal, before, said(trainer)))
    assert not torch.equal(*before)  # the average, which grew by its own blocks, is another encoder
    joined = [parameter.clone() for parameter in trainer.encoder.blocks[3].parameters()]
    learn(trainer, 2)  # in the first update only what adds to the stream has gradients
    assert not any(map(torch.equal, joined, trainer.encoder.blocks[3].parameters()))


def test_the_weights_of_an_encoder_that_waits_are_those_of_its_first_blocks():
    trainer = Trainer(RECIPE, cpu=True)
    learn(trainer, 1)
    first = Encoder(replace(RECIPE.encoder, depth=1))
    first.load_state_dict({name: own for name, own in trainer.result.state_dict().items() if name in first.state_dict()})
    with torch.no_grad():
        assert torch.equal(first(SPECTROGRAM), said(trainer)[1])


def test_growth_says_which_of_the_initial_blocks_it_takes(caplog):
    start = Encoder(RECIPE.encoder)
    trainer = Trainer(RECIPE, cpu=True, start=start)
    assert caplog.messages == [
        "of the initial weights, blocks 1 to 1 are used: growth begins with them; growth = [] keeps all"
    ]
    assert torch.equal(trainer.encoder.blocks[0].up.weight, start.blocks[0].up.weight)
    assert torch.equal(trainer.encoder.blocks[3].up.weight, start.blocks[0].up.weight)


def test_an_encoder_does_not_shrink():
    trainer = Trainer(RECIPE, cpu=True)
    for blocks, expected in ((2, 2), (1, 2), (0, 2), (4, 4)):
        trainer.grow(blocks)
        assert trainer.blocks == expected


@pytest.mark.parametrize("kept", [1, 2, 3, 4, 5])
def test_a_run_that_was_stopped_grows_as_one_that_was_not(tmp_path, monkeypatch, kept):
    update, updates = Trainer.update, []

    def stop(trainer, *arguments):
        if len(updates) == kept:
            raise KeyboardInterrupt
        updates.append(trainer)
        return update(trainer, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "update", stop)
        with pytest.raises(KeyboardInterrupt):
            pretrain(RECIPE, tmp_path / "parts", cpu=True)
    for run in ("whole", "parts"):
        pretrain(RECIPE, tmp_path / run, cpu=True)
    curves = [[row["loss"] for row in read_curve(tmp_path / run / CURVE)] for run in ("whole", "parts")]
    assert curves[0] == curves[1]
    ends = [load_weights(tmp_path / run / WEIGHTS)[0].state_dict() for run in ("whole", "parts")]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
