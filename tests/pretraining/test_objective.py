"""Masks hide half of every chunk, each clip its own; the loss averages over them, and has the gradient that it should."""

import pytest
import torch

from hear_axlstm.config import AxLSTMConfig, SSAMConfig, SSASTConfig
from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import ConfigError
from hear_axlstm.pretraining.objective import patchify, random_mask, reconstruction_loss
from hear_axlstm.synthesis.draws import Draws
from tests.conftest import noise

PATCH = (4, 16)


def masks(clips, seed=0, ratio=0.5):
    return random_mask(Draws(torch.tensor(clips), seed), 250, ratio)


def test_every_clip_hides_the_same_share():
    assert (masks(list(range(50))).sum(1) == 125).all()
    assert (masks(list(range(50)), ratio=0.75).sum(1) == 188).all()


def test_a_clip_keeps_its_mask_in_any_company():
    assert torch.equal(masks([7]), masks([3, 7, 9])[1:2])


def test_clips_and_seeds_differ():
    assert not torch.equal(masks([1]), masks([2]))
    assert not torch.equal(masks([1]), masks([1], seed=1))


def test_every_patch_is_hidden_about_as_often():
    often = masks(list(range(4_000))).float().mean(0)
    assert (often - 0.5).abs().max() < 0.04  # 5 standard deviations of 4,000 fair coins


def mask(batch, hidden):
    return torch.rand(batch, 250).argsort(1) < hidden


def test_masked_patches_alone_count_unless_all_are_asked_for():
    spectrogram, hidden = noise(2, 200, 80), mask(2, 100)
    prediction = patchify(spectrogram, PATCH)
    prediction[hidden] += 2.0
    assert reconstruction_loss(prediction, spectrogram, hidden, PATCH).item() == pytest.approx(4.0)
    assert reconstruction_loss(prediction, spectrogram, hidden, PATCH, "all").item() == pytest.approx(4.0 * 100 / 250)
    prediction[~hidden] += 7.0
    assert reconstruction_loss(prediction, spectrogram, hidden, PATCH).item() == pytest.approx(4.0)


def test_another_average_is_refused():
    with pytest.raises(ConfigError, match="expected one of 'masked', 'all'"):
        reconstruction_loss(torch.zeros(1, 250, 64), noise(1, 200, 80), mask(1, 100), PATCH, "visible")


@pytest.mark.parametrize("over", ["masked", "all"])
@pytest.mark.parametrize(
    "config",
    [
        AxLSTMConfig(width=16, depth=2, expansion=2, flip=True, patch=(40, 16)),
        AxLSTMConfig(width=16, depth=2, input_gate="sigmoid", patch=(40, 16)),
        SSAMConfig(width=16, depth=2, patch=(40, 16)),
        SSAMConfig(width=16, depth=2, patch=(40, 16), bidirectional=True),
        SSASTConfig(width=16, depth=2, heads=2, patch=(40, 16)),
    ],
    ids=["axlstm flip", "axlstm sigmoid", "ssam", "ssam both ways", "ssast"],
)
def test_the_gradient_is_that_of_finite_differences(config, over):
    """Along a random direction of each parameter, in float64."""
    encoder = Encoder(config).double()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    spectrogram, hidden = noise(2, 200, 80).double(), torch.rand(2, 25) < 0.5

    def loss():
        return reconstruction_loss(encoder.reconstruct(spectrogram, hidden), spectrogram, hidden, config.patch, over)

    loss().backward()
    step = 1e-5
    for name, parameter in encoder.named_parameters():
        direction = torch.randn_like(parameter)
        direction /= direction.norm()
        slope = (parameter.grad * direction).sum().item()
        with torch.no_grad():
            parameter += step * direction
            above = loss().item()
            parameter -= 2 * step * direction
            below = loss().item()
            parameter += step * direction
        assert slope == pytest.approx((above - below) / (2 * step), rel=1e-5, abs=1e-9), name
