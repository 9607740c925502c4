"""The Triton residual addition and layer norm against the equations in float64, in Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from hear_axlstm.errors import BackendError
from hear_axlstm.kernels.norm import cuda as fused
from hear_axlstm.kernels.norm.cuda import add_norm as fused_add_norm
from hear_axlstm.ops.norm import add_norm
from tests.ops.equations import reference_add_norm

# Errors relative to the largest value of each result.
FLOAT32 = 2e-6  # sums over up to 4096 channels in another order; 3e-7 is seen
FLOAT16 = 5e-4  # results are rounded to float16 once: half of its last digit, 2^-11, is 4.9e-4

EPS = 1e-5
NAMES = "x", "update", "weight", "bias"


def within_nan(values: Tensor) -> Tensor:
    """Contiguous values between NaN, one row's worth and more."""
    around = torch.full((values.numel() + 2 * 4096,), torch.nan, dtype=values.dtype)
    around[4096:-4096] = values.flatten()
    return around[4096:-4096].view(values.shape)


def operands(*shape: int, update: bool = True, bias: bool = True, dtype: torch.dtype = torch.float32) -> list[Tensor | None]:
    """Arguments of ``add_norm``, x not centred."""
    return [
        within_nan(3 * torch.randn(shape) + 1),
        within_nan(torch.randn(shape).to(dtype)) if update else None,
        within_nan(torch.randn(shape[-1])),
        within_nan(torch.randn(shape[-1])) if bias else None,
    ]


def results(arguments: list[Tensor | None], *, truly: bool, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """The sum, its norm in ``dtype``, and the gradient of every argument; truly: by the equations in float64."""
    leaves = [None if x is None else x.detach().to(torch.float64 if truly else x.dtype).requires_grad_() for x in arguments]
    total, normed = reference_add_norm(*leaves, eps=EPS) if truly else fused_add_norm(*leaves, eps=EPS, dtype=dtype)
    assert truly or (total.dtype, normed.dtype) == (torch.float32, dtype)
    torch.manual_seed(1)
    of_total, of_normed = within_nan(torch.randn(total.shape)), within_nan(torch.randn(total.shape).to(dtype))
    torch.autograd.backward([total, normed], [of_total.to(total.dtype), of_normed.to(normed.dtype)])
    gradients = {f"gradient of {name}": x.grad for name, x in zip(NAMES, leaves, strict=True) if x is not None}
    return {"total": total.detach(), "normed": normed.detach()} | gradients


def relative_errors(arguments: list[Tensor | None], dtype: torch.dtype = torch.float32) -> dict[str, float]:
    ours, truth = results(arguments, truly=False, dtype=dtype), results(arguments, truly=True, dtype=dtype)
    assert all(x.isfinite().all() for x in ours.values())  # max() passes over NaN
    for name, x in zip(NAMES, arguments, strict=True):
        assert x is None or ours[f"gradient of {name}"].dtype == x.dtype
    return {key: ((ours[key] - truth[key]).abs().max() / truth[key].abs().max()).item() for key in truth}


@pytest.mark.parametrize("shape", [(1, 5), (3, 1, 7), (2, 126, 192), (251, 384), (33, 768), (3, 1000), (2, 4096)])
@pytest.mark.parametrize(("update", "bias"), [(True, True), (False, False)])
def test_values_and_gradients_are_those_of_the_equations(shape, update, bias):
    assert max(relative_errors(operands(*shape, update=update, bias=bias)).values()) < FLOAT32


@pytest.mark.parametrize("update", [False, True])
def test_float16_costs_a_rounding_of_what_is_float16(update):
    errors = relative_errors(operands(2, 20, 192, update=update, dtype=torch.float16), torch.float16)
    halves = {"normed", "gradient of update"}
    assert max(error for name, error in errors.items() if name in halves) < FLOAT16
    assert max(error for name, error in errors.items() if name not in halves) < FLOAT32


@pytest.mark.parametrize("width", [48, 384, 3000])
def test_blocks_of_many_rows_are_right_as_well(width, monkeypatch):
    monkeypatch.setattr(fused, "FEW", 0)
    assert max(relative_errors(operands(23, width)).values()) < FLOAT32


@pytest.mark.parametrize("programs", [1, 3])
def test_gradients_of_the_weights_from_programs_of_many_rows(programs, monkeypatch):
    monkeypatch.setattr(fused, "PROGRAMS", programs)
    assert max(relative_errors(operands(23, 192)).values()) < FLOAT32


def test_rows_far_from_zero_keep_their_digits():
    """The variance from the mean of squares would lose them all: 1e4 squared has no room for the 1 of the variance."""
    arguments = operands(4, 192, update=False)
    arguments[0].copy_(1e4 + torch.randn(4, 192))
    truth = results(arguments, truly=True)["normed"]
    assert (results(arguments, truly=False)["normed"] - truth).abs().max() < 1e-3 * truth.abs().max()  # x: 1e4 * 2^-24


def test_a_constant_row_is_normed_to_the_bias():
    arguments = operands(3, 192, update=False)
    arguments[0].fill_(2.0)
    total, normed = fused_add_norm(*arguments, eps=EPS, dtype=torch.float32)
    assert torch.equal(normed, arguments[3].expand_as(normed))
    assert torch.equal(total, arguments[0])


def test_the_sum_is_x_itself_where_nothing_is_added():
    x, _, weight, bias = operands(3, 192, update=False)
    assert fused_add_norm(x, None, weight, bias, eps=EPS, dtype=torch.float16)[0] is x
    x.requires_grad_()
    assert fused_add_norm(x, None, weight, bias, eps=EPS, dtype=torch.float16)[0] is x


def test_x_stays_what_it_was():
    arguments = operands(3, 192)
    before = arguments[0].clone()
    total, _ = fused_add_norm(*arguments, eps=EPS, dtype=torch.float32)
    assert torch.equal(arguments[0], before)
    assert not torch.equal(total, before)


@pytest.mark.parametrize("used", [0, 1])
def test_a_result_without_a_gradient_counts_as_zero(used):
    arguments = operands(3, 192)
    leaves = [x.detach().requires_grad_() for x in arguments]
    truth = [x.detach().double().requires_grad_() for x in arguments]
    direction = torch.randn(3, 192)
    (fused_add_norm(*leaves, eps=EPS, dtype=torch.float32)[used] * direction).sum().backward()
    (reference_add_norm(*truth, eps=EPS)[used] * direction).sum().backward()
    for ours, expected in zip(leaves[:2], truth[:2], strict=True):
        assert (ours.grad - expected.grad).abs().max() < FLOAT32 * expected.grad.abs().max()


def test_a_stream_in_half_precision_is_widened_and_gets_its_gradient():
    x, _, weight, bias = operands(3, 192, update=False)
    x = x.half().requires_grad_()
    total, normed = fused_add_norm(x, None, weight, bias, eps=EPS, dtype=torch.float16)
    assert (total.dtype, normed.dtype) == (torch.float32, torch.float16)
    (total.sum() + normed.float().sum()).backward()
    assert x.grad.dtype == torch.float16
    assert x.grad.isfinite().all()


def test_operands_that_are_not_contiguous_are_copied():
    arguments = operands(6, 192)
    strided = [x.T.contiguous().T if x.dim() == 2 else x for x in arguments]
    assert not strided[0].is_contiguous()
    for ours, expected in zip(
        fused_add_norm(*strided, eps=EPS, dtype=torch.float32),
        fused_add_norm(*arguments, eps=EPS, dtype=torch.float32),
        strict=True,
    ):
        assert torch.equal(ours, expected)


def test_a_row_is_the_same_beside_one_of_nan():
    arguments = operands(2, 192)
    alone = [arguments[0][:1].clone(), arguments[1][:1].clone(), *arguments[2:]]
    arguments[0][1] = torch.nan
    for beside, by_itself in zip(
        fused_add_norm(*arguments, eps=EPS, dtype=torch.float32),
        fused_add_norm(*alone, eps=EPS, dtype=torch.float32),
        strict=True,
    ):
        assert by_itself.isfinite().all()
        assert torch.equal(beside[:1], by_itself)


def test_a_gradient_is_recorded_only_where_one_is_wanted():
    arguments = operands(3, 192)
    assert not any(result.requires_grad for result in fused_add_norm(*arguments, eps=EPS, dtype=torch.float32))
    arguments[1].requires_grad_()
    assert all(result.requires_grad for result in fused_add_norm(*arguments, eps=EPS, dtype=torch.float32))
    with torch.no_grad():
        assert not any(result.requires_grad for result in fused_add_norm(*arguments, eps=EPS, dtype=torch.float32))


def test_autocast_around_it_changes_nothing():
    arguments = operands(3, 192)
    expected = fused_add_norm(*arguments, eps=EPS, dtype=torch.float32)
    with torch.autocast(arguments[0].device.type, dtype=torch.bfloat16):
        inside = fused_add_norm(*arguments, eps=EPS, dtype=torch.float32)
    assert all(map(torch.equal, inside, expected))


def test_the_public_function_finds_it():
    arguments = operands(3, 192)
    total, normed = add_norm(*arguments, eps=EPS, dtype=torch.float32, backend="triton")
    assert torch.equal(normed, fused_add_norm(*arguments, eps=EPS, dtype=torch.float32)[1])
    plain = add_norm(*arguments, eps=EPS, dtype=torch.float32, backend="torch")
    torch.testing.assert_close((total, normed), plain, rtol=0, atol=1e-5)


def test_too_many_channels_are_refused():
    with pytest.raises(BackendError, match="there are 4097 channels; it takes 4096 or fewer"):
        add_norm(*operands(1, 4097), eps=EPS, dtype=torch.float32, backend="triton")


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from hear_axlstm.kernels.norm import cuda as fused

HALF = "p_update p_normed p_grad_normed p_grad_update".split()
SIZES = {"rows": "i32", "width": "i32", "share": "i32", "eps": "fp32"}

def shared_memory(kernel, width, numbers):
    b_width, b_rows, warps = fused._block(width, numbers)
    constants = dict(B_ROWS=b_rows, B_WIDTH=b_width)
    signature, attributes = {}, {}
    for i, name in enumerate(kernel.arg_names):
        kind = SIZES.get(name) or ("*fp16" if name in HALF else "*fp32")
        signature[name] = "constexpr" if name in constants else kind
        if kind[0] == "*" and name not in constants or name == "width":
            attributes[i,] = [["tt.divisibility", 16]]
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=dict(num_warps=warps)).metadata.shared

for width, numbers in [(192, fused.FORWARD), (384, fused.LATENCY), (768, fused.FORWARD)]:
    print(shared_memory(fused._add_norm, width, numbers))
for width in 384, 768:
    print(shared_memory(fused._add_norm_backward, width, fused.BACKWARD))
"""


def test_kernels_compile_for_hopper():
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    one_warp, two_warps, widest, *backward = map(int, done.stdout.split())
    assert one_warp == widest == backward[0] == 0  # a row is in one warp, and its sums need no shared memory
    assert 0 < two_warps <= 4096
    assert 0 < backward[1] <= 4096
