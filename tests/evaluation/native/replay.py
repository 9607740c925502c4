"""Draws for the batched evaluator that are those of the sequential one, which has a single stream of them."""

import torch

from hear_axlstm.evaluation.native.batched_network import TrainingDraws
from hear_axlstm.evaluation.native.network import build_network


class Stream(TrainingDraws):
    """One training's draws, as the sequential evaluator makes them with this generator.

    hidden_layers: of the network. batches: of the train split. check_every: epochs from check to check.
    """

    def __init__(self, generator, *, hidden_layers, batches, check_every):
        self._generator = generator
        self._masks_of_epoch = hidden_layers * batches
        self._masks_between_checks = self._masks_of_epoch * check_every
        self._masks = 0

    def linear(self, settings, width, labels):
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self._generator.get_state())
            network = build_network(settings, width, labels)
            self._generator.set_state(torch.get_rng_state())
        layers = [module for module in network if isinstance(module, torch.nn.Linear)]
        return [(layer.weight.detach(), layer.bias.detach()) for layer in layers]

    def keep(self, mask, probability):
        if self._masks and self._masks % self._masks_between_checks == 0:
            self._seed_of_loader()
        if self._masks % self._masks_of_epoch == 0:
            self._seed_of_loader()
        if probability == 1:  # for which torch draws nothing
            mask.fill_(1)
        else:
            mask.copy_(torch.empty(mask.shape).bernoulli_(probability, generator=self._generator))
        self._masks += 1

    def end(self):
        """The draws of the last check."""
        self._seed_of_loader()

    def _seed_of_loader(self):
        torch.empty((), dtype=torch.int64).random_(generator=self._generator)
