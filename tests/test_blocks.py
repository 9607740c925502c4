"""What the blocks do with the order of tokens, and how they start out."""

import math

import pytest
import torch

from hear_axlstm.blocks import BLOCKS
from hear_axlstm.blocks.mamba import DT_MAX, DT_MIN
from hear_axlstm.config import AxLSTMConfig, SSAMConfig, SSASTConfig
from hear_axlstm.kernels.conv.reference import reference_conv_silu, reference_mix
from hear_axlstm.kernels.mlstm.reference import recurrent_mlstm

AXLSTM = AxLSTMConfig(width=24, expansion=2, flip=True)
L = 21


def applied(block, x):
    """The residual stream after the block."""
    stream, update = block(x)
    return stream + update


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
    before = applied(block, x)
    columns = []
    for t in range(L):
        moved = x.clone()
        moved[:, t] += torch.randn(24, dtype=torch.float64)
        columns.append((applied(block, moved) != before).any(-1)[0])
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
    torch.testing.assert_close(applied(odd, x), applied(plain, x.flip(1)).flip(1))


def test_an_update_is_added_before_the_norm():
    for config in (AXLSTM, SSAMConfig(width=24), SSASTConfig(width=24, heads=3)):
        block = shaken(config)
        x, update = torch.randn(2, 2, L, 24, dtype=torch.float64)
        stream, change = block(x, update)
        torch.testing.assert_close(stream + change, applied(block, x + update))


def test_the_folded_mlstm_layer_is_the_papers():
    """q, k and v projected one by one, gates read off all three, and the recurrence of equations 1 to 9."""
    layer = shaken(AXLSTM).layer
    x = torch.randn(2, L, 24, dtype=torch.float64)
    x_m, z = layer.proj_up(x).chunk(2, dim=-1)
    c = reference_conv_silu(x_m, layer.conv1d.conv.weight, layer.conv1d.conv.bias)
    q, k, v = (reference_mix(y, w.weight) for y, w in ((c, layer.q_proj), (c, layer.k_proj), (x_m, layer.v_proj)))
    cell, together = layer.mlstm_cell, torch.cat([q, k, v], dim=-1)
    log_f = torch.nn.functional.logsigmoid(cell.fgate(together))
    heads = (y.unflatten(-1, (4, -1)).transpose(1, 2) for y in (q, k, v))
    h = recurrent_mlstm(*heads, cell.igate(together).mT, log_f.mT)
    h = torch.nn.functional.layer_norm(h, h.shape[-1:]).transpose(1, 2).flatten(2) * (1 + cell.outnorm.weight)
    expected = layer.proj_down((h + layer.learnable_skip * c) * torch.nn.functional.silu(z))
    torch.testing.assert_close(layer(x, "torch"), expected)


def test_attention_does_not_know_the_order_of_tokens():
    block = shaken(SSASTConfig(width=24, heads=3))
    x, order = torch.randn(2, L, 24, dtype=torch.float64), torch.randperm(L)
    torch.testing.assert_close(applied(block, x[:, order]), applied(block, x)[:, order])


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
