"""What is minimised, and which weights decay."""

import torch

from hear_axlstm.config import AxLSTMConfig
from hear_axlstm.encoder import Encoder
from hear_axlstm.pretraining.objective import reconstruction_loss
from hear_axlstm.pretraining.recipe import Recipe
from hear_axlstm.pretraining.trainer import MaskedModel, optimizer_of
from tests.conftest import noise

RECIPE = Recipe(encoder=AxLSTMConfig(width=32, depth=2), steps=1)


def test_the_loss_is_that_of_the_encoders_guess():
    encoder, mask = Encoder(RECIPE.encoder), torch.rand(2, 250) < 0.5
    spectrogram = noise(2, 200, 80)
    expected = reconstruction_loss(encoder.reconstruct(spectrogram, mask), spectrogram, mask, (4, 16), RECIPE.loss)
    assert torch.equal(MaskedModel(encoder, RECIPE)(spectrogram, mask), expected)


def test_the_loss_is_float32_under_autocast():
    model, mask = MaskedModel(Encoder(RECIPE.encoder), RECIPE), torch.rand(2, 250) < 0.5
    with torch.autocast("cpu", torch.bfloat16):
        assert model(noise(2, 200, 80), mask).dtype == torch.float32


def test_biases_norms_and_vectors_do_not_decay():
    encoder = Encoder(RECIPE.encoder)
    decaying, others = optimizer_of(encoder, RECIPE).param_groups
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.05, 0.0)
    names = {id(parameter): name for name, parameter in encoder.named_parameters()}
    still = {names[id(parameter)] for parameter in others["params"]}
    assert {"blocks.0.norm", "blocks.0.skip", "norm.bias", "head.0.bias"} <= still
    assert all(name.endswith(("bias", "norm", "norm.weight", "skip")) for name in still)
    assert len(decaying["params"]) + len(still) == len(names)
    assert decaying["betas"] == (0.9, 0.95)
