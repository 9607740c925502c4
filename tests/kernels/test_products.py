"""What is known of a processor, and linear maps by oneDNN in place of those of a copy of an encoder."""

import pytest
import torch
from torch import nn

from hear_axlstm.kernels import products
from hear_axlstm.kernels.products import slow_products


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")
@pytest.mark.parametrize("bias", [True, False])
def test_onednn_computes_the_same_map_of_any_operand(bias, monkeypatch):
    monkeypatch.setattr(products, "_is_faster", lambda: True)
    plain = nn.Linear(24, 40, bias=bias)
    ours = nn.Linear(24, 40, bias=bias)
    ours.weight, ours.bias = plain.weight, plain.bias
    products.prefer_onednn(nn.Sequential(ours))
    assert type(ours) is products.OneDnnLinear
    with torch.inference_mode():
        for x in (torch.randn(3, 7, 24), torch.randn(3, 7, 60).split([30, 24, 6], dim=-1)[1], torch.randn(1, 1, 24)):
            torch.testing.assert_close(ours(x), plain(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "weight", [torch.zeros(4, 4, dtype=torch.bfloat16), torch.zeros(4, 4, 2)[..., 0]], ids=["bfloat16", "with gaps"]
)
def test_other_weights_are_multiplied_as_before(weight, monkeypatch):
    monkeypatch.setattr(products, "_is_faster", lambda: True)
    layer = nn.Linear(4, 4)
    layer.weight = nn.Parameter(weight)
    products.prefer_onednn(nn.Sequential(layer))
    assert type(layer) is nn.Linear


@pytest.mark.parametrize(
    ("flags", "slow"),
    [
        ("flags : avx2 fma", True),
        ("flags : avx512f avx512_bf16", False),
        ("flags : amx_tile amx_bf16", False),
        ("bf16", False),
    ],
)
def test_bfloat16_is_warned_of_where_it_is_slow(flags, slow, tmp_path):
    facts = tmp_path / "cpuinfo"
    facts.write_text(flags)
    assert bool(slow_products(torch.bfloat16, facts)) == slow
    assert slow_products(torch.float32, facts) is None
    assert slow_products(torch.bfloat16, tmp_path / "on another system") is None
