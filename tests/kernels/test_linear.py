"""Linear maps by oneDNN, in place of those of a copy of an encoder."""

import pytest
import torch
from torch import nn

from hear_axlstm.kernels import linear


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")
@pytest.mark.parametrize("bias", [True, False])
def test_onednn_computes_the_same_map_of_any_operand(bias, monkeypatch):
    monkeypatch.setattr(linear, "_is_faster", lambda: True)
    plain = nn.Linear(24, 40, bias=bias)
    ours = nn.Linear(24, 40, bias=bias)
    ours.weight, ours.bias = plain.weight, plain.bias
    linear.prefer_onednn(nn.Sequential(ours))
    assert type(ours) is linear.OneDnnLinear
    with torch.inference_mode():
        for x in (torch.randn(3, 7, 24), torch.randn(3, 7, 60).split([30, 24, 6], dim=-1)[1], torch.randn(1, 1, 24)):
            torch.testing.assert_close(ours(x), plain(x), rtol=0, atol=1e-5)


def test_bfloat16_stays_as_it_is(monkeypatch):
    monkeypatch.setattr(linear, "_is_faster", lambda: True)
    layer = nn.Linear(4, 4).bfloat16()
    linear.prefer_onednn(nn.Sequential(layer))
    assert type(layer) is nn.Linear
