"""Whole encoders on the Triton kernels: as accurate as on plain torch operations, and as trainable."""

import copy

import pytest
import torch

from hear_axlstm.config import AxLSTMConfig, SSAMConfig, SSASTConfig
from hear_axlstm.encoder import Encoder
from hear_axlstm.kernels.graphs import replayed
from tests.tolerances import HALF_VS_AUTOCAST

pytest.importorskip("triton")
SMALL = {"width": 32, "depth": 2, "patch": (40, 16)}
CONFIGS = {
    "axlstm": AxLSTMConfig(**SMALL, flip=True),
    "axlstm sigmoid": AxLSTMConfig(**SMALL, expansion=2, input_gate="sigmoid"),
    "ssam": SSAMConfig(width=16, depth=1, patch=(40, 16), bidirectional=True),
    "ssast": SSASTConfig(**SMALL, heads=2),
}
EVERY_KIND = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
FLOAT32 = 2e-5  # relative to the largest value; both sides are float32, and differ by the order of sums


def active(config):
    """An encoder whose every parameter was moved off its initial value."""
    encoder = Encoder(config)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return encoder


def assert_close(ours, expected, tolerance=FLOAT32):
    assert (ours - expected).abs().max() <= tolerance * expected.abs().max()


@EVERY_KIND
def test_tokens_and_gradients_are_those_of_plain_torch(config):
    plain = active(config)
    fused = copy.deepcopy(plain)
    chunks, target = torch.randn(2, 200, 80), torch.randn(2, 25, config.width)
    tokens = {}
    for encoder, backend in ((plain, "torch"), (fused, "triton")):
        tokens[backend] = encoder(chunks, backend=backend)
        (tokens[backend] * target).sum().backward()
    assert_close(tokens["triton"].detach(), tokens["torch"].detach())
    for ours, expected in zip(fused.parameters(), plain.parameters(), strict=True):
        if expected.grad is not None:
            assert_close(ours.grad, expected.grad, 10 * FLOAT32)


@EVERY_KIND
def test_float16_deviates_no_more_than_eager_autocast(config):
    encoder = active(config)
    chunks = torch.randn(2, 200, 80)
    with torch.no_grad():
        truth = copy.deepcopy(encoder).double()(chunks.double(), backend="torch")
        with torch.autocast(chunks.device.type, dtype=torch.float16):
            eager = encoder(chunks, backend="torch")
        fused = replayed(encoder, torch.float16, "triton")(chunks)
    assert (fused - truth).norm() <= HALF_VS_AUTOCAST * (eager - truth).norm()


def test_silence_and_extreme_gates_give_no_nan():
    encoder = active(CONFIGS["axlstm"])
    with torch.no_grad():
        for block in encoder.blocks:
            block.gate_bias.copy_(torch.tensor([50.0, -50.0, 50.0, -50.0, -50.0, 50.0, -50.0, 50.0]))
        for dtype in (torch.float32, torch.float16):
            tokens = replayed(encoder, dtype, "triton")(torch.zeros(1, 200, 80))
            assert torch.isfinite(tokens).all()
