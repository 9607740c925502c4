"""The Triton scan against the equations in float64, in Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

pytest.importorskip("triton")

from hear_axlstm.kernels.scan import cuda as fused
from hear_axlstm.kernels.scan import cuda_forward as fused_forward
from hear_axlstm.kernels.scan.cuda import gated_scan as fused_gated_scan
from hear_axlstm.ops.scan import gated_scan
from tests.kernels.scan import NAMES, operands, relative_errors
from tests.ops.equations import reference_gated_scan

# Errors relative to the largest value of each result.
FLOAT32 = 5e-6  # sums over up to 501 tokens in another order; 1e-6 is seen
FLOAT16 = 5e-4  # results are rounded to float16 once: half of its last digit, 2^-11, is 4.9e-4


@pytest.mark.parametrize(
    ("length", "gated", "reverse"),
    [(1, True, False), (7, False, True), (16, True, True), (33, False, False), (126, True, True), (251, True, False)],
)
def test_values_and_gradients_are_those_of_the_equations(length, gated, reverse):
    arguments = operands(length, gated=gated, batch=2 if length < 20 else 1)
    assert max(relative_errors(fused_gated_scan, arguments, reverse).values()) < FLOAT32


@pytest.mark.parametrize("reverse", [False, True])
def test_float16_operands_cost_one_rounding(reverse):
    errors = relative_errors(fused_gated_scan, operands(20, batch=1, dtype=torch.float16), reverse)
    assert max(errors[name] for name in ("y", "x", "step", "b", "c", "z")) < FLOAT16
    assert max(errors[name] for name in ("step_bias", "a", "d")) < FLOAT32


def test_many_tokens():
    arguments = operands(501, batch=1)
    y = fused_gated_scan(*arguments)
    truth = reference_gated_scan(*(x.double() for x in arguments))
    assert (y - truth).abs().max() < FLOAT32 * truth.abs().max()


@pytest.mark.parametrize(("inner", "reverse"), [(8, True), (40, False)])
def test_wide_tiles_are_right_as_well(inner, reverse, monkeypatch):
    monkeypatch.setattr(fused_forward, "FULL", 0)
    assert max(relative_errors(fused_gated_scan, operands(19, inner), reverse).values()) < FLOAT32


@pytest.mark.parametrize("full", [0, 8192])
@pytest.mark.parametrize("states", [1, 13, 64])
def test_any_number_of_states(states, full, monkeypatch):
    monkeypatch.setattr(fused_forward, "FULL", full)
    assert max(relative_errors(fused_gated_scan, operands(9, states=states, batch=1)).values()) < FLOAT32


def test_rows_of_b_and_c_may_begin_anywhere():
    aligned, odd = operands(9), operands(9, spare=1)
    assert fused_forward.together(aligned[4], aligned[5]) == 4
    assert fused_forward.together(odd[4], odd[5]) == 1
    assert max(relative_errors(fused_gated_scan, odd).values()) < FLOAT32


def test_columns_that_are_not_contiguous_are_copied():
    arguments = operands(9)
    strided = [x if x is None or x.dim() < 3 else x.mT.contiguous().mT for x in arguments]
    assert strided[0].stride(-1) != 1
    assert torch.equal(fused_gated_scan(*strided), fused_gated_scan(*arguments))


@pytest.mark.parametrize("bias", [-50.0, 50.0])
def test_steps_of_any_length_stay_finite_and_right(bias):
    arguments = operands(17, batch=1)
    arguments[2].fill_(bias)
    assert max(relative_errors(fused_gated_scan, arguments).values()) < FLOAT32


def test_short_steps_keep_their_digits():
    """softplus(-12) is 6e-6: the logarithm of 1 + 6e-6 in float32 would be wrong by 1 %."""
    arguments = operands(3, gated=False)
    arguments[1].fill_(0.0)
    arguments[2].fill_(-12.0)
    arguments[6].fill_(0.0)
    assert max(relative_errors(fused_gated_scan, arguments).values()) < FLOAT32


def test_a_clip_is_the_same_beside_one_of_nan():
    mixed, alone = operands(17), operands(17)
    for i, name in enumerate(NAMES):
        if name in ("step_bias", "a", "d"):
            alone[i] = mixed[i]
        else:
            mixed[i][1] = torch.nan
            alone[i] = mixed[i][:1]
    grad_y = torch.randn(2, 17, 5)
    gradients = []
    for arguments in (mixed, alone):
        leaves = [x.detach().requires_grad_() for x in arguments]
        y = fused_gated_scan(*leaves)
        y.backward(grad_y[: len(y)])
        gradients.append([y.detach()[0]] + [leaf.grad[0] for leaf in leaves if leaf.dim() == 3])
    for beside, by_itself in zip(*gradients, strict=True):
        assert by_itself.isfinite().all()
        assert torch.equal(beside, by_itself)


def test_states_are_kept_only_for_gradients(monkeypatch):
    kept = []
    forward = fused.scan_forward
    monkeypatch.setattr(fused, "scan_forward", lambda *x, **named: kept.append(named["entries"]) or forward(*x, **named))
    arguments = operands(20)
    without = fused_gated_scan(*arguments)
    arguments[3].requires_grad_()
    with torch.no_grad():
        forbidden = fused_gated_scan(*arguments)
    with_gradient = fused_gated_scan(*arguments)
    assert [None if x is None else x.shape for x in kept] == [None, None, (2, 2, 5, 24)]
    assert with_gradient.requires_grad
    assert not forbidden.requires_grad
    assert torch.equal(without, forbidden)
    assert torch.equal(without, with_gradient)


def test_autocast_around_it_changes_nothing():
    arguments = operands(9)
    with torch.autocast(arguments[0].device.type, dtype=torch.bfloat16):
        inside = fused_gated_scan(*arguments)
    assert torch.equal(inside, fused_gated_scan(*arguments))


def test_the_public_function_finds_it():
    arguments = operands(9)
    assert torch.equal(gated_scan(*arguments, backend="triton"), fused_gated_scan(*arguments))
    torch.testing.assert_close(
        gated_scan(*arguments, backend="triton"), gated_scan(*arguments, backend="torch"), rtol=0, atol=1e-4
    )


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from hear_axlstm.kernels.scan import cuda_backward as fused_backward, cuda_forward as fused_forward

HALF = "x step z b c y grad_y grad_x grad_step grad_z".split()
ALIGNED = "inner x_row step_row z_row grad_y_row".split()  # multiples of 16 in our models

def shared_memory(kernel, tile, **constants):
    constants |= dict(STATES=24, TOGETHER=4, REVERSE=True, BLOCK=fused_forward.BLOCK, B_CHANNELS=tile.channels,
                      B_STATES=tile.states)
    signature, attributes = {}, {}
    for index, name in enumerate(kernel.arg_names):
        if name in constants:
            signature[name] = "constexpr"
        elif name.startswith("p_"):
            signature[name] = "*fp16" if name[2:] in HALF else "*fp32"
        else:
            signature[name] = "i32"
        if name in ALIGNED or signature[name][0] == "*" and name not in ("p_b", "p_c"):
            attributes[index,] = [["tt.divisibility", 16]]
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
    options = {"num_warps": 1, "num_stages": 1}
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).metadata.shared

for tile in (fused_forward.WIDE, fused_forward.NARROW):
    print(shared_memory(fused_forward._scan, tile, B_TOKENS=tile.tokens))
print(shared_memory(fused_backward._scan, fused_backward.TILE))
"""


def test_it_compiles_for_hopper_with_the_states_in_registers():
    """Shared memory would mean that operands change lanes at every token."""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["0", "0", "0"]
