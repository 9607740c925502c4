"""The parallel mLSTM against the recurrence."""

import pytest
import torch
import torch.nn.functional as F

from hear_axlstm.ops.mlstm import parallel_mlstm
from tests.ops.equations import recurrent_mlstm
from tests.tolerances import KERNEL_FLOAT64


def inputs(length, width, dtype=torch.float64, gate_scale=3.0, batch=2, heads=4):
    q, k, v = (torch.randn(batch, heads, length, width, dtype=dtype) for _ in range(3))
    log_i = gate_scale * torch.randn(batch, heads, length, dtype=dtype)
    log_f = F.logsigmoid(gate_scale * torch.randn(batch, heads, length, dtype=dtype))
    return q, k, v, log_i, log_f


@pytest.mark.parametrize(("length", "width"), [(1, 4), (2, 8), (17, 6), (126, 24), (128, 4), (129, 4), (251, 36)])
def test_parallel_equals_recurrent(length, width):
    arguments = inputs(length, width)
    expected = recurrent_mlstm(*arguments)
    torch.testing.assert_close(parallel_mlstm(*arguments), expected, rtol=1e-9, atol=KERNEL_FLOAT64)


def test_float32_is_close_to_float64():
    arguments = inputs(251, 36)
    expected = parallel_mlstm(*arguments)
    error = (parallel_mlstm(*(x.float() for x in arguments)) - expected).abs().max() / expected.abs().max()
    largest_exponent = arguments[4].cumsum(-1).abs().max()  # it is rounded to float32, and then exponentiated
    assert error < 4 * torch.finfo(torch.float32).eps * largest_exponent


def test_gradients_of_every_input():
    arguments = [x.requires_grad_() for x in inputs(5, 3, batch=1, heads=2)]
    assert torch.autograd.gradcheck(parallel_mlstm, arguments)


@pytest.mark.parametrize("gate", [-50.0, 50.0])
def test_extreme_gates_stay_finite(gate):
    q, k, v, log_i, _ = inputs(251, 8, dtype=torch.float32)
    log_f = F.logsigmoid(torch.full_like(log_i, gate))
    for log_i_extreme in (torch.full_like(log_i, gate), torch.full_like(log_i, -gate)):
        h = parallel_mlstm(q, k, v, log_i_extreme, log_f)
        assert torch.isfinite(h).all()


def test_a_token_sees_only_those_before_it():
    arguments = inputs(20, 4)
    before = parallel_mlstm(*arguments)[:, :, :11]
    changed = [x.clone() for x in arguments]
    for x in changed:
        x[:, :, 11:] = 0.5
    torch.testing.assert_close(parallel_mlstm(*changed)[:, :, :11], before, rtol=0, atol=KERNEL_FLOAT64)
