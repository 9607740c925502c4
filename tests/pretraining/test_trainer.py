"""What is minimised, and which weights decay."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from hear_axlstm.config import AxLSTMConfig, SSAMConfig, SSASTConfig
from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import ConfigError
from hear_axlstm.kernels import products
from hear_axlstm.patches import steps_from_tokens
from hear_axlstm.pretraining.batches import Batch
from hear_axlstm.pretraining.objective import reconstruction_loss, teaching_loss
from hear_axlstm.pretraining.recipe import Recipe
from hear_axlstm.pretraining.trainer import MaskedModel, Trainer, compile_blocks, optimizer_of
from tests.conftest import noise

RECIPE = Recipe(encoder=AxLSTMConfig(width=32, depth=2), steps=1)


def test_the_loss_is_that_of_the_encoders_guess():
    encoder, mask = Encoder(RECIPE.encoder), torch.rand(2, 250) < 0.5
    spectrogram = noise(2, 200, 80)
    expected = reconstruction_loss(encoder.reconstruct(spectrogram, mask), spectrogram, mask, (4, 16), RECIPE.loss)
    assert torch.equal(MaskedModel(encoder, RECIPE, {})(Batch(spectrogram, mask)), expected)


def test_the_loss_is_float32_under_autocast():
    recipe = replace(RECIPE, targets={"pitch": 0.5})
    batch = Batch(noise(2, 200, 80), torch.rand(2, 250) < 0.5, {"pitch": noise(2, 50, 6)})
    with torch.autocast("cpu", torch.bfloat16):
        assert MaskedModel(Encoder(RECIPE.encoder), recipe, {"pitch": 6})(batch).dtype == torch.float32


def test_teachers_add_to_the_loss_by_their_weights():
    encoder, mask = Encoder(RECIPE.encoder), torch.zeros(2, 250, dtype=torch.bool)
    recipe = replace(RECIPE, targets={"pitch": 0.5, "speech": 2.0}, reconstruction=0.1)
    model = MaskedModel(encoder, recipe, {"pitch": 6, "speech": 3})
    targets = {"pitch": noise(2, 50, 6), "speech": torch.zeros(2, 50, 3)}
    spectrogram = noise(2, 200, 80)
    moments = steps_from_tokens(encoder(spectrogram, mask), (50, 5), "time")
    expected = 0.5 * teaching_loss(model.heads["pitch"](moments), targets["pitch"])  # nothing is hidden, and nobody speaks
    torch.testing.assert_close(model(Batch(spectrogram, mask, targets)), expected)


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


@pytest.mark.parametrize(
    ("config", "graphs"),
    [
        (AxLSTMConfig(width=48, depth=5, patch=(40, 16)), 2),
        (SSAMConfig(width=48, depth=5, patch=(40, 16)), 3),
        (SSASTConfig(width=48, depth=5, patch=(40, 16), heads=3), 2),
    ],
    ids=lambda value: getattr(value, "family", str(value)),
)
def test_blocks_share_what_is_compiled(config, graphs, monkeypatch):
    compile_module = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda module, **options: compile_module(module, backend="eager", **options))
    torch._dynamo.reset()
    counters.clear()
    encoder, spectrogram = Encoder(config), noise(1, 200, 80)
    expected = encoder(spectrogram)
    compile_blocks(encoder)
    torch.testing.assert_close(encoder(spectrogram), expected)
    assert counters["stats"]["unique_graphs"] == graphs


def test_what_compiles_needs_a_compiler(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigError, match="there is no no-such-compiler; install it"):
        compile_blocks(Encoder(RECIPE.encoder))


def test_a_run_says_that_its_precision_is_slow_here(monkeypatch, caplog):
    monkeypatch.setattr(products, "slow_products", lambda dtype: "slow" if dtype == torch.bfloat16 else None)
    Trainer(RECIPE, cpu=True)
    assert not caplog.messages
    Trainer(replace(RECIPE, precision="bfloat16"), cpu=True)
    assert caplog.messages == ["slow"]
