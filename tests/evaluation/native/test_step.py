"""The written-out update against autograd and torch's Adam: equal to the last bit."""

import copy

import pytest
import torch
import torch.nn.functional as F

from hear_axlstm.evaluation.native.faithful import LOSSES
from hear_axlstm.evaluation.native.network import build_network
from hear_axlstm.evaluation.native.step import Step
from hear_axlstm.evaluation.protocols import Settings

POINT = {"hidden_dim": 70, "lr": 1e-3, "patience": 1, "max_epochs": 1, "check_val_every_n_epoch": 1, "batch_size": 32}


@pytest.mark.parametrize("prediction_type", LOSSES)
@pytest.mark.parametrize("dropout", [0.0, 0.25])
@pytest.mark.parametrize("hidden_layers", [0, 1, 2])
def test_five_epochs_leave_the_same_network_and_generator(hidden_layers, dropout, prediction_type):
    torch.manual_seed(0)
    settings = Settings(hidden_layers=hidden_layers, dropout=dropout, initialization="xavier_normal", **POINT)
    theirs = build_network(settings, 33, 7)
    ours = copy.deepcopy(theirs)
    x, targets = torch.randn(66, 33), F.one_hot(torch.arange(66) % 7, 7).float()  # two batches and a last one of two clips
    loss = LOSSES[prediction_type]
    adam = torch.optim.Adam(theirs.parameters(), lr=settings.lr)
    step = Step(ours, loss, settings.lr, settings.batch_size)
    batches = list(zip(x.split(settings.batch_size), targets.split(settings.batch_size), strict=True)) * 5
    before = torch.get_rng_state()
    for batch in batches:
        adam.zero_grad()
        loss(theirs(batch[0]), batch[1]).backward()
        adam.step()
    after = torch.get_rng_state()
    torch.set_rng_state(before)
    for batch in batches:
        step(*batch)
    assert torch.equal(torch.get_rng_state(), after)
    for name, expected in theirs.state_dict().items():
        if not name.endswith("num_batches_tracked"):  # nothing reads it
            assert torch.equal(ours.state_dict()[name], expected), name
    assert not torch.equal(ours[0].weight, build_network(settings, 33, 7)[0].weight)
