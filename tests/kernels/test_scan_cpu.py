"""The Numba scan with its gradients against the equations in float64."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from hear_axlstm.ops.scan import gated_scan
from tests.kernels.scan import operands, relative_errors, results
from tests.tolerances import KERNEL_FLOAT32

pytest.importorskip("numba")

from hear_axlstm.kernels.scan.cpu import BLOCK, LANES

BFLOAT16 = 4e-3  # results are rounded to bfloat16 once: half of its last digit, 2^-8, is 3.9e-3

numba_scan = partial(gated_scan, backend="numba")


@pytest.mark.parametrize(
    ("length", "inner", "states", "gated", "reverse"),
    [
        (1, 4, 1, True, False),
        (7, 5, 24, False, True),
        (BLOCK, LANES, 24, True, True),
        (BLOCK + 1, LANES + 1, 7, False, False),
        (3 * BLOCK - 1, 2 * LANES, 24, True, False),
        (251, 13, 24, True, True),
    ],
)
def test_values_and_gradients_are_those_of_the_equations(length, inner, states, gated, reverse):
    arguments = operands(length, inner, states, gated=gated)
    assert max(relative_errors(numba_scan, arguments, reverse).values()) < KERNEL_FLOAT32


@pytest.mark.parametrize("reverse", [False, True])
def test_bfloat16_operands_cost_one_rounding(reverse):
    errors = relative_errors(numba_scan, operands(20, dtype=torch.bfloat16), reverse)
    assert max(errors[name] for name in ("y", "x", "step", "b", "c", "z")) < BFLOAT16
    assert max(errors[name] for name in ("step_bias", "a", "d")) < KERNEL_FLOAT32


@pytest.mark.parametrize("bias", [-50.0, -12.0, 50.0])
def test_steps_of_any_length_keep_their_digits(bias):
    """softplus(-12) is 6e-6: the logarithm of 1 + 6e-6 in float32 would be wrong by 1 %."""
    arguments = operands(17, gated=False)
    arguments[1].mul_(0.1)
    arguments[2].fill_(bias)
    assert max(relative_errors(numba_scan, arguments).values()) < KERNEL_FLOAT32


def test_the_number_of_threads_changes_no_gradient():
    arguments, threads = operands(40, LANES + 3), torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        three = results(numba_scan, arguments, False)
        torch.set_num_threads(1)
        one = results(numba_scan, arguments, False)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one[name], three[name]) for name in three)


def test_a_clip_has_the_same_gradients_beside_one_of_nan():
    mixed = operands(17)
    of_clips = [index for index, x in enumerate(mixed) if x.ndim == 3]
    alone = [x[:1] if index in of_clips else x for index, x in enumerate(mixed)]
    for index in of_clips:
        mixed[index][1] = torch.nan
    gradients = []
    for arguments in (mixed, alone):
        leaves = [x.detach().requires_grad_() for x in arguments]
        y = numba_scan(*leaves)
        y.sum().backward()  # by a tensor of one value, without strides
        gradients.append([y.detach()[0], *(leaves[index].grad[0] for index in of_clips)])
    for beside, by_itself in zip(*gradients, strict=True):
        assert by_itself.isfinite().all()
        assert torch.equal(beside, by_itself)
