"""Many classifiers' logits, gradients and steps, beside torch's own modules, autograd and Adam."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot

from hear_axlstm.evaluation.native import batched_network
from hear_axlstm.evaluation.native.batched import losses, slopes
from hear_axlstm.evaluation.native.batched_network import Adam, BatchedNetwork

CPU = torch.device("cpu")
R, D, H, C = 3, 12, 8, 5


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


class Masked(nn.Module):
    """Dropout whose factors are given."""

    def forward(self, x):
        return x * self.factors if self.training else x


def module(hidden_layers):
    layers, inputs = [], D
    for _ in range(hidden_layers):
        layers += [nn.Linear(inputs, H), nn.BatchNorm1d(H), Masked(), nn.ReLU()]
        inputs = H
    return nn.Sequential(*layers, nn.Linear(inputs, C))


def stacked(modules):
    """The same networks. Their batch norms are no longer 1 and 0."""
    linear = [[(m.weight.detach(), m.bias.detach()) for m in one if isinstance(m, nn.Linear)] for one in modules]
    network = BatchedNetwork.start(linear, CPU)
    for ours, theirs in zip(network.parameters.views, zip(*(one.parameters() for one in modules), strict=True), strict=True):
        agree(ours, theirs)
        for index, parameter in enumerate(theirs):
            ours[index] = parameter.data.add_(0.3 * torch.randn_like(parameter))
    return network


def batch(rows, multilabel):
    x = torch.randn(rows, D)
    targets = (torch.rand(rows, C) < 0.4).double() if multilabel else one_hot(torch.arange(rows) % C, C).double()
    return x, targets, torch.rand(2, R, rows, H)


def given(masks):
    """A dropout that takes these, layer by layer."""
    turn = iter(masks)
    return lambda factors: factors.copy_(next(turn))


def loss_of(logits, targets, multilabel):
    return binary_cross_entropy_with_logits(logits, targets) if multilabel else cross_entropy(logits, targets.argmax(1))


def agree(ours, theirs):
    torch.testing.assert_close(ours, torch.stack(list(theirs)).detach(), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("hidden_layers", [0, 1, 2])
@pytest.mark.parametrize("multilabel", [False, True], ids=["multiclass", "multilabel"])
def test_gradients_are_autograd_s(hidden_layers, multilabel):
    modules = [module(hidden_layers) for _ in range(R)]
    ours = stacked(modules)
    gradients = ours.parameters.empty_like()
    for rows in (32, 7, 2):
        x, targets, masks = batch(rows, multilabel)
        ours.gradients(x, partial(slopes, targets=targets, multilabel=multilabel), given(masks), out=gradients)
        for index, one in enumerate(modules):
            one.zero_grad()
            for layer, own in enumerate(m for m in one if isinstance(m, Masked)):
                own.factors = masks[layer, index]
            loss_of(one(x), targets, multilabel).backward()
        for mine, theirs in zip(gradients.views, zip(*(one.parameters() for one in modules), strict=True), strict=True):
            agree(mine, [parameter.grad for parameter in theirs])
    norms = zip(*([m for m in one if isinstance(m, nn.BatchNorm1d)] for one in modules), strict=True)
    views = iter(ours.statistics.views)
    for layer in norms:
        agree(next(views), [norm.running_mean for norm in layer])
        agree(next(views), [norm.running_var for norm in layer])


@pytest.mark.parametrize("hidden_layers", [0, 1, 2])
def test_logits_and_losses_are_those_of_modules_in_evaluation(hidden_layers, monkeypatch):
    modules = [module(hidden_layers) for _ in range(R)]
    ours = stacked(modules)
    x, targets, masks = batch(16, False)
    ours.gradients(x, torch.zeros_like, given(masks), out=ours.parameters.empty_like())
    for index, one in enumerate(modules):
        for layer, own in enumerate(m for m in one if isinstance(m, Masked)):
            own.factors = masks[layer, index]
        one(x)
        one.eval()
    monkeypatch.setattr(batched_network, "ROWS_AT_ONCE", 7)
    x, targets, _ = batch(33, False)
    logits = ours.logits(x)
    agree(logits, [one(x) for one in modules])
    agree(losses(logits, targets, False), [loss_of(one(x), targets, False) for one in modules])
    x, targets, _ = batch(33, True)
    agree(losses(ours.logits(x), targets, True), [loss_of(one(x), targets, True) for one in modules])


def test_steps_are_adam_s_each_with_its_own_learning_rate():
    modules, lr = [module(1) for _ in range(R)], [1e-3, 3e-2, 1e-4]
    ours = stacked(modules)
    adam = Adam(ours.parameters, torch.tensor(lr))
    optimizers = [torch.optim.Adam(one.parameters(), lr=own) for one, own in zip(modules, lr, strict=True)]
    gradients = ours.parameters.empty_like()
    for _ in range(20):
        for mine, theirs in zip(gradients.views, zip(*(one.parameters() for one in modules), strict=True), strict=True):
            for index, parameter in enumerate(theirs):
                parameter.grad = torch.randn_like(parameter) * 10 ** torch.empty(()).uniform_(-9, 1)
                mine[index] = parameter.grad
        adam.step(ours.parameters, gradients)
        for optimizer in optimizers:
            optimizer.step()
    for mine, theirs in zip(ours.parameters.views, zip(*(one.parameters() for one in modules), strict=True), strict=True):
        agree(mine, theirs)


def test_networks_that_are_selected_or_taken_are_whole():
    modules = [module(2) for _ in range(R)]
    ours, others = stacked(modules), stacked([module(2) for _ in range(R)])
    x = torch.randn(9, D)
    for network in (ours, others):
        network.gradients(x, torch.zeros_like, lambda factors: factors.fill_(1), out=network.parameters.empty_like())
    mine, theirs = ours.logits(x), others.logits(x)
    agree(ours.select(torch.tensor([2, 0])).logits(x), mine[[2, 0]])
    ours.take(others, torch.tensor([False, True, False]))
    agree(ours.logits(x), [mine[0], theirs[1], mine[2]])
