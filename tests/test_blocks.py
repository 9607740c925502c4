"""What the blocks do with the order of tokens, and how they start out."""

import math

import pytest
import torch

from hear_axlstm.blocks import BLOCKS
from hear_axlstm.blocks.layers import BlockDiagonalLinear
from hear_axlstm.blocks.mamba import DT_MAX, DT_MIN
from hear_axlstm.config import AxLSTMConfig, SSAMConfig, SSASTConfig

AXLSTM = AxLSTMConfig(width=24, expansion=2, flip=True)
L = 21


def shaken(config, index=0):
    """A block in float64 whose every parameter was moved off its initial value."""
    block = BLOCKS[config.family](config, index).double()
    with torch.no_grad():
        for p in block.parameters():
            p += 0.3 * torch.randn_like(p)
    return block


def influence(block):
    """Which input token changes which output token: bool (out, in)."""
    x = torch.randn(1, L, 24, dtype=torch.float64)
    before = block(x)
    columns = []
    for t in range(L):
        moved = x.clone()
        moved[:, t] += torch.randn(24, dtype=torch.float64)
        columns.append((block(moved) != before).any(-1)[0])
    return torch.stack(columns, dim=1)


FORWARD = torch.ones(L, L, dtype=torch.bool).tril()


@pytest.mark.parametrize(
    ("config", "index", "expected"),
    [
        (AxLSTMConfig(width=24, expansion=2), 0, FORWARD),
        (AxLSTMConfig(width=24, expansion=2), 1, FORWARD),
        (AXLSTM, 0, FORWARD),
        (AXLSTM, 1, FORWARD.T),
        (SSAMConfig(width=24), 0, FORWARD),
        (SSAMConfig(width=24, bidirectional=True), 0, FORWARD | FORWARD.T),
        (SSASTConfig(width=24, heads=3), 0, FORWARD | FORWARD.T),
    ],
    ids=["axlstm", "axlstm odd", "flip even", "flip odd", "ssam", "ssam both ways", "ssast"],
)
def test_which_tokens_are_seen(config, index, expected):
    assert torch.equal(influence(shaken(config, index)), expected)


def test_an_odd_block_with_flip_is_the_block_on_reversed_tokens():
    odd, plain = shaken(AXLSTM, 1), BLOCKS["axlstm"](AXLSTM, 0).double()
    plain.load_state_dict(odd.state_dict())
    x = torch.randn(2, L, 24, dtype=torch.float64)
    torch.testing.assert_close(odd(x), plain(x.flip(1)).flip(1))


@pytest.mark.parametrize("width", [4, 8, 12, 40, 96])
def test_a_block_diagonal_map_is_the_dense_one(width):
    layer = BlockDiagonalLinear(width, std=1.0)
    x = torch.randn(2, 5, width)
    torch.testing.assert_close(layer(x), x @ torch.block_diag(*layer.weight).T)


def test_attention_does_not_know_the_order_of_tokens():
    block = shaken(SSASTConfig(width=24, heads=3))
    x, order = torch.randn(2, L, 24, dtype=torch.float64), torch.randperm(L)
    torch.testing.assert_close(block(x[:, order]), block(x)[:, order])


def test_axlstm_starts_with_the_papers_gates():
    layer = BLOCKS["axlstm"](AxLSTMConfig(width=192), 0).layer
    assert torch.equal(layer.mlstm_cell.fgate.bias, torch.tensor([3.0, 4.0, 5.0, 6.0]))
    assert (layer.mlstm_cell.fgate.weight == 0).all()
    assert (layer.mlstm_cell.igate.weight == 0).all()
    assert (layer.learnable_skip == 1).all()
    assert (layer.mlstm_cell.outnorm.weight == 0).all()
    assert layer.proj_up.weight.std().item() == pytest.approx(math.sqrt(2 / (5 * 192)), rel=0.02)
    assert layer.proj_down.weight.std().item() == pytest.approx(2 / math.sqrt(192), rel=0.02)
    assert layer.q_proj.weight.std().item() == pytest.approx(math.sqrt(2 / (5 * 192)), rel=0.1)


def test_ssam_starts_with_steps_between_the_limits():
    scan = BLOCKS["ssam"](SSAMConfig(width=192), 0).mixer.scan
    dt = torch.nn.functional.softplus(scan.dt_proj.bias)
    assert dt.min() >= 0.99 * DT_MIN
    assert dt.max() <= 1.01 * DT_MAX
    torch.testing.assert_close(scan.A_log.exp(), torch.arange(1.0, 25.0).expand(576, -1))
    assert (scan.D == 1).all()
