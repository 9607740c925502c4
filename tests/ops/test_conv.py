"""Causal convolution and SiLU against torch's convolution."""

import pytest
import torch
import torch.nn.functional as F

from hear_axlstm.ops.conv import causal_conv_silu
from tests.tolerances import KERNEL_FLOAT64


@pytest.mark.parametrize(("length", "taps"), [(1, 4), (3, 4), (251, 4), (9, 2)])
def test_equals_a_padded_depthwise_convolution(length, taps):
    x, weight, bias = torch.randn(2, length, 5).double(), torch.randn(5, 1, taps).double(), torch.randn(5).double()
    full = F.conv1d(x.transpose(1, 2), weight, bias, padding=taps - 1, groups=5)[..., :length]
    torch.testing.assert_close(causal_conv_silu(x, weight, bias), F.silu(full).transpose(1, 2), rtol=0, atol=KERNEL_FLOAT64)


def test_gradients_of_every_input():
    arguments = [torch.randn(2, 5, 3), torch.randn(3, 1, 4), torch.randn(3)]
    assert torch.autograd.gradcheck(causal_conv_silu, [x.double().requires_grad_() for x in arguments])


def test_half_precision_input_is_summed_in_float32():
    x, weight, bias = torch.randn(1, 7, 3).half(), torch.randn(3, 1, 4), torch.randn(3)
    out = causal_conv_silu(x, weight, bias)
    assert out.dtype == torch.float16
    torch.testing.assert_close(out, causal_conv_silu(x.float(), weight, bias).half())
