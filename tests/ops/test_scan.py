"""The selective scan, plain and with gradients by hand, against the two equations."""

import pytest
import torch

from hear_axlstm.kernels.scan.saving import BLOCK
from hear_axlstm.ops import scan as module
from hear_axlstm.ops.scan import gated_scan
from tests.ops.equations import reference_scan
from tests.tolerances import KERNEL_FLOAT32, KERNEL_FLOAT64


def inputs(length, inner=6, state=24, batch=2, dtype=torch.float64):
    torch.manual_seed(0)
    x, b, c = (torch.randn(batch, length, n, dtype=dtype) for n in (inner, state, state))
    delta = torch.rand(batch, length, inner, dtype=dtype)
    a = -torch.arange(1.0, state + 1, dtype=dtype).repeat(inner, 1)
    return x, delta, a, b, c, torch.randn(inner, dtype=dtype)


@pytest.fixture(params=["plain", "saving"])
def selective_scan(request, monkeypatch):
    """The scan of the two equations; "saving" keeps few states for backward."""
    if request.param == "plain":
        monkeypatch.setattr(module, "find_kernel", lambda *_: None)

    def scan(x, delta, a, b, c, d):
        tokens_first = (t.transpose(0, 1) for t in (delta * x, delta, b, c))
        return module.selective_scan(*tokens_first, a).transpose(0, 1) + d * x

    scan.keeps_few_states = request.param == "saving"
    return scan


@pytest.mark.parametrize("length", [1, BLOCK - 1, BLOCK, BLOCK + 1, 126, 251])
def test_equals_the_equations(selective_scan, length):
    arguments = inputs(length)
    torch.testing.assert_close(selective_scan(*arguments), reference_scan(*arguments), rtol=0, atol=KERNEL_FLOAT64 * 100)


def test_float32_is_close_to_float64(selective_scan):
    arguments = inputs(251)
    expected = reference_scan(*arguments)
    error = (selective_scan(*(x.float() for x in arguments)) - expected).abs().max() / expected.abs().max()
    assert error < KERNEL_FLOAT32


def test_gradients_of_every_input(selective_scan):
    arguments = [x.requires_grad_() for x in inputs(BLOCK + 3, inner=2, state=3, batch=1)]
    assert torch.autograd.gradcheck(selective_scan, arguments)


def test_gradients_over_many_blocks_are_those_of_the_equations(selective_scan):
    ours, theirs = ([x.clone().requires_grad_() for x in inputs(5 * BLOCK + 2)] for _ in range(2))
    for arguments, scan in ((ours, selective_scan), (theirs, reference_scan)):
        torch.manual_seed(1)
        (scan(*arguments) * torch.randn_like(arguments[0])).sum().backward()
    for mine, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, expected.grad, rtol=1e-9, atol=1e-10)


def test_backward_keeps_one_state_in_a_block(selective_scan):
    arguments, kept = [x.requires_grad_() for x in inputs(10 * BLOCK, inner=64)], []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        selective_scan(*arguments)
    states_of_all_tokens = 10 * BLOCK * 2 * 64 * 24
    assert (sum(kept) < states_of_all_tokens / 3) == selective_scan.keeps_few_states


def test_autocast_around_it_changes_nothing():
    x, delta, a, b, c, d = (x.float() for x in inputs(40))
    arguments = x, delta, torch.zeros(6), a, b, c, d, x
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = gated_scan(*arguments, backend="torch")
    assert torch.equal(inside, gated_scan(*arguments, backend="torch"))
