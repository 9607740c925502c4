"""What the blocks do with the order of tokens, and how they start out."""

import math

import pytest
import torch

from hear_axlstm.blocks.mamba import DT_MAX, DT_MIN
from hear_axlstm.config import AxLSTMConfig, SSAMConfig, SSASTConfig
from hear_axlstm.encoder import BLOCKS
from tests.ops.equations import recurrent_mlstm, reference_conv_silu, reference_mix

AXLSTM = AxLSTMConfig(width=24, expansion=2, flip=True)
L = 21


def new_block(config, index=0):
    """A block with the papers' initial values."""
    block = BLOCKS[config.family](config, index)
    with torch.no_grad():
        for module in block.modules():
            if hasattr(module, "reset"):
                module.reset()
    return block


def applied(block, x):
    """The residual stream after the block."""
    stream, update = block(x)
    return stream + update


def shaken(config, index=0):
    """A block in float64 whose every parameter was moved off its initial value."""
    block = new_block(config, index).double()
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
    odd, plain = shaken(AXLSTM, 1), new_block(AXLSTM).double()
    plain.load_state_dict(odd.state_dict())
    x = torch.randn(2, L, 24, dtype=torch.float64)
    torch.testing.assert_close(applied(odd, x), applied(plain, x.flip(1)).flip(1))


def test_an_update_is_added_before_the_norm():
    for config in (AXLSTM, SSAMConfig(width=24), SSASTConfig(width=24, heads=3)):
        block = shaken(config)
        x, update = torch.randn(2, 2, L, 24, dtype=torch.float64)
        stream, change = block(x, update)
        torch.testing.assert_close(stream + change, applied(block, x + update))


def test_the_folded_mlstm_block_is_the_papers():
    """q, k and v projected one by one, gates read off all three, and the recurrence of equations 1 to 9."""
    block = shaken(AXLSTM)
    x = torch.randn(2, L, 24, dtype=torch.float64)
    normed = torch.nn.functional.layer_norm(x, (24,), 1 + block.norm, eps=1e-5)
    u, z = block.up(normed).chunk(2, dim=-1)
    c = reference_conv_silu(u, block.conv.weight, block.conv.bias)
    q, k, v = (reference_mix(y, weight) for y, weight in ((c, block.q), (c, block.k), (u, block.v)))
    log_i, f = (torch.cat([q, k, v], dim=-1) @ block.gates.T + block.gate_bias).mT.chunk(2, dim=1)
    heads = (y.unflatten(-1, (4, -1)).transpose(1, 2) for y in (q, k, v))
    h = recurrent_mlstm(*heads, log_i, torch.nn.functional.logsigmoid(f))
    h = torch.nn.functional.layer_norm(h, h.shape[-1:]).transpose(1, 2).flatten(2) * (1 + block.head_norm)
    expected = block.down((h + block.skip * c) * torch.nn.functional.silu(z))
    torch.testing.assert_close(block(x, backend="torch")[1], expected)


def test_attention_does_not_know_the_order_of_tokens():
    block = shaken(SSASTConfig(width=24, heads=3))
    x, order = torch.randn(2, L, 24, dtype=torch.float64), torch.randperm(L)
    torch.testing.assert_close(applied(block, x[:, order]), applied(block, x)[:, order])


def test_axlstm_starts_with_the_papers_gates():
    block = new_block(AxLSTMConfig(width=192))
    assert torch.equal(block.gate_bias[4:], torch.tensor([3.0, 4.0, 5.0, 6.0]))
    assert (block.gates == 0).all()
    assert (block.skip == 1).all()
    assert (block.head_norm == 0).all()
    assert block.up.weight.std().item() == pytest.approx(math.sqrt(2 / (5 * 192)), rel=0.02)
    assert block.down.weight.std().item() == pytest.approx(2 / math.sqrt(192), rel=0.02)
    assert block.q.std().item() == pytest.approx(math.sqrt(2 / (5 * 192)), rel=0.1)


def test_ssam_starts_with_steps_between_the_limits():
    block = new_block(SSAMConfig(width=192))
    dt = torch.nn.functional.softplus(block.scan.dt_bias)
    assert dt.min() >= 0.99 * DT_MIN
    assert dt.max() <= 1.01 * DT_MAX
    torch.testing.assert_close(block.scan.A_log.exp(), torch.arange(1.0, 25.0).expand(576, -1))
    assert (block.scan.D == 1).all()
    assert block.out_proj.weight.abs().max() <= 1 / math.sqrt(576 * 12)
