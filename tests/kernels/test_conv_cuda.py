"""The Triton convolution, mix and gates against the equations in float64, in Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from hear_axlstm.kernels.conv import cuda as fused
from hear_axlstm.kernels.conv import cuda_backward as fused_backward
from hear_axlstm.kernels.conv.cuda import causal_conv_silu as fused_conv_silu
from hear_axlstm.kernels.conv.cuda import conv_mix_gates as fused_conv_mix_gates
from hear_axlstm.ops.conv import causal_conv_silu, conv_mix_gates
from tests.ops.equations import reference_conv_mix_gates, reference_conv_silu

# Errors relative to the largest value of each result.
FLOAT32 = 5e-6  # sums over up to 251 tokens or 136 channels in another order; 1e-6 is seen
FLOAT16 = 5e-4  # results are rounded to float16 once: half of its last digit, 2^-11, is 4.9e-4
FLOAT16_GRADIENT = 1e-3  # twice: the gradient of SiLU's argument is as well

RESULTS = "c", "v", "gates"
NAMES = "x", "weight", "bias", "mix", "gate_c", "gate_x"


def within_nan(values: Tensor, before: int, after: int) -> Tensor:
    """The values as a view with NaN on every side: clips, rows, and as many columns as said."""
    batch, length, width = values.shape
    around = torch.full((batch + 2, length + 2, before + width + after), torch.nan, dtype=values.dtype)
    view = around[1 : batch + 1, 1 : length + 1, before : before + width]
    view.copy_(values)
    return view


def flat_within_nan(values: Tensor) -> Tensor:
    """Contiguous values between NaN."""
    around = torch.full((values.numel() + 64,), torch.nan)
    around[32:-32] = values.flatten()
    return around[32:-32].view(values.shape)


def operands(
    length: int,
    inner: int = 20,
    *,
    taps: int = 4,
    gates: int = 8,
    batch: int = 1,
    dtype: torch.dtype = torch.float32,
) -> list[Tensor]:
    """Arguments of ``conv_mix_gates``; x is the first half of its rows."""
    parameters = (
        torch.randn(inner, 1, taps) / 2,
        torch.randn(inner),
        torch.randn(inner // 4, 4, 4) / 2,
        torch.randn(gates, inner) / inner**0.5,
        torch.randn(gates, inner) / inner**0.5,
    )
    return [within_nan(torch.randn(batch, length, inner).to(dtype), 0, inner), *map(flat_within_nan, parameters)]


def results(operation, arguments: list[Tensor], reverse: bool, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """What the operation returns, and the gradient of every argument; gradients of results come within NaN, too."""
    leaves = [x.detach().to(dtype or x.dtype).requires_grad_() for x in arguments]
    returned = operation(*leaves, reverse=reverse)
    returned = [returned] if isinstance(returned, Tensor) else list(returned)
    torch.manual_seed(1)
    rounded = [arguments[0].dtype, arguments[0].dtype, torch.float32]
    gradients = [torch.randn(x.shape).to(to).to(x.dtype) for x, to in zip(returned, rounded, strict=False)]
    torch.autograd.backward(returned, [within_nan(gradient, 2, 3) for gradient in gradients])
    found = dict(zip(RESULTS, (x.detach() for x in returned), strict=False))
    return found | {f"gradient of {name}": leaf.grad for name, leaf in zip(NAMES, leaves, strict=False)}


def relative_errors(arguments: list[Tensor], reverse: bool = False, *, silu: bool = False) -> dict[str, float]:
    arguments = arguments[:3] if silu else arguments
    ours = results(fused_conv_silu if silu else fused_conv_mix_gates, arguments, reverse)
    truth = results(reference_conv_silu if silu else reference_conv_mix_gates, arguments, reverse, torch.float64)
    assert ours.keys() == truth.keys()
    assert all(x.isfinite().all() for x in ours.values())  # max() passes over NaN
    for name, x in zip(NAMES, arguments, strict=False):
        assert ours[f"gradient of {name}"].dtype == x.dtype
    return {key: ((ours[key] - truth[key]).abs().max() / truth[key].abs().max()).item() for key in truth}


@pytest.mark.parametrize(
    ("length", "inner", "reverse"),
    [(1, 20, False), (2, 4, True), (7, 20, False), (7, 20, True), (126, 72, True), (251, 20, False)],
)
def test_values_and_gradients_are_those_of_the_equations(length, inner, reverse):
    arguments = operands(length, inner, batch=2 if length < 20 else 1)
    assert max(relative_errors(arguments, reverse).values()) < FLOAT32


@pytest.mark.parametrize(
    ("length", "inner", "reverse"), [(1, 5, True), (7, 5, False), (7, 5, True), (126, 72, False), (251, 5, True)]
)
def test_the_convolution_alone_as_well(length, inner, reverse):
    arguments = operands(length, inner, batch=2 if length < 20 else 1)
    assert max(relative_errors(arguments, reverse, silu=True).values()) < FLOAT32


@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_float16_operands_cost_a_rounding(reverse, silu):
    errors = relative_errors(operands(35, 72, batch=2, dtype=torch.float16), reverse, silu=silu)
    assert max(error for name, error in errors.items() if name in RESULTS) < FLOAT16
    assert max(error for name, error in errors.items() if name not in RESULTS) < FLOAT16_GRADIENT


def test_a_shipped_width_in_float16():
    arguments = operands(126, 384, dtype=torch.float16)
    truth = reference_conv_mix_gates(*(x.double() for x in arguments))
    for ours, expected in zip(fused_conv_mix_gates(*arguments), truth, strict=True):
        assert (ours - expected).abs().max() < FLOAT16 * expected.abs().max()


def test_many_tokens():
    arguments = operands(501, 72)
    truth = reference_conv_mix_gates(*(x.double() for x in arguments))
    for ours, expected in zip(fused_conv_mix_gates(*arguments), truth, strict=True):
        assert (ours - expected).abs().max() < FLOAT32 * expected.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("programs", [1, 1000])
def test_large_tiles_whose_channels_one_program_takes_or_several(programs, dtype, monkeypatch):
    monkeypatch.setattr(fused, "FEW", 0)
    monkeypatch.setattr(fused, "MANY", programs)
    arguments = operands(67, 136, dtype=dtype)
    truth = reference_conv_mix_gates(*(x.double() for x in arguments), reverse=True)
    for ours, expected in zip(fused_conv_mix_gates(*arguments, reverse=True), truth, strict=True):
        assert (ours - expected).abs().max() < (FLOAT16 if dtype == torch.float16 else FLOAT32) * expected.abs().max()
    c = fused_conv_silu(*arguments[:3], reverse=True)
    assert (c - truth[0]).abs().max() < (FLOAT16 if dtype == torch.float16 else FLOAT32) * truth[0].abs().max()


@pytest.mark.parametrize("programs", [1, 2, 1000])
def test_gradients_from_one_program_or_several(programs, monkeypatch):
    monkeypatch.setattr(fused_backward, "PROGRAMS", programs)
    assert max(relative_errors(operands(37, batch=2)).values()) < FLOAT32


@pytest.mark.parametrize("taps", [1, 2, 8])
def test_any_number_of_taps(taps):
    assert max(relative_errors(operands(9, taps=taps)).values()) < FLOAT32
    assert max(relative_errors(operands(9, taps=taps), reverse=True, silu=True).values()) < FLOAT32


@pytest.mark.parametrize("gates", [1, 12, 16])
def test_any_number_of_gates(gates):
    assert max(relative_errors(operands(9, gates=gates)).values()) < FLOAT32


def test_gates_keep_the_digits_of_their_weights_beside_float16():
    """Their weights as float16 would move them by 2^-11; what is left is the rounding of c, which is excluded here."""
    arguments = operands(9, 72, dtype=torch.float16)
    arguments[4].zero_()
    gates = fused_conv_mix_gates(*arguments)[2]
    truth = arguments[0].double() @ arguments[5].double().T
    assert (gates - truth).abs().max() < FLOAT32 * truth.abs().max()
    assert (arguments[0].double() @ arguments[5].half().double().T - truth).abs().max() > 10 * FLOAT32 * truth.abs().max()


def test_columns_that_are_not_contiguous_are_copied():
    arguments = operands(9)
    strided = [arguments[0].mT.contiguous().mT, *arguments[1:]]
    assert strided[0].stride(-1) != 1
    for ours, expected in zip(fused_conv_mix_gates(*strided), fused_conv_mix_gates(*arguments), strict=True):
        assert torch.equal(ours, expected)


def test_a_clip_is_the_same_beside_one_of_nan():
    alone = operands(17)
    x = torch.cat([alone[0], torch.full_like(alone[0], torch.nan)])
    gradients = []
    for batch in (x, x[:1]):
        leaf = batch.detach().requires_grad_()
        returned = fused_conv_mix_gates(leaf, *alone[1:])
        torch.autograd.backward(returned, [torch.ones_like(result) for result in returned])
        gradients.append([leaf.grad[0], *(result.detach()[0] for result in returned)])
    for beside, by_itself in zip(*gradients, strict=True):
        assert by_itself.isfinite().all()
        assert torch.equal(beside, by_itself)


@pytest.mark.filterwarnings("ignore:overflow encountered in exp2")
def test_arguments_far_from_zero_stay_finite_and_right():
    arguments = operands(5)
    arguments[2].copy_(torch.linspace(-200, 200, 20))
    assert max(relative_errors(arguments).values()) < FLOAT32


def test_a_result_without_a_gradient_counts_as_zero():
    arguments = [x.detach().requires_grad_() for x in operands(9)]
    fused_conv_mix_gates(*arguments)[1].sum().backward()
    truth = [x.detach().double().requires_grad_() for x in arguments]
    reference_conv_mix_gates(*truth)[1].sum().backward()
    assert (arguments[3].grad - truth[3].grad).abs().max() < FLOAT32 * truth[3].grad.abs().max()
    assert (arguments[0].grad - truth[0].grad).abs().max() < FLOAT32 * truth[0].grad.abs().max()
    assert not arguments[1].grad.any()


def test_a_gradient_is_recorded_only_where_one_is_wanted():
    arguments = operands(9)
    assert not any(result.requires_grad for result in fused_conv_mix_gates(*arguments))
    arguments[4].requires_grad_()
    assert all(result.requires_grad for result in fused_conv_mix_gates(*arguments))
    with torch.no_grad():
        assert not any(result.requires_grad for result in fused_conv_mix_gates(*arguments))


def test_autocast_around_it_changes_nothing():
    arguments = operands(9)
    with torch.autocast(arguments[0].device.type, dtype=torch.bfloat16):
        inside = fused_conv_mix_gates(*arguments)
    for ours, expected in zip(inside, fused_conv_mix_gates(*arguments), strict=True):
        assert ours.dtype == expected.dtype
        assert torch.equal(ours, expected)


def test_the_public_functions_find_it():
    arguments = operands(9)
    for ours, expected in zip(conv_mix_gates(*arguments, backend="triton"), fused_conv_mix_gates(*arguments), strict=True):
        assert torch.equal(ours, expected)
    assert torch.equal(causal_conv_silu(*arguments[:3], backend="triton"), fused_conv_silu(*arguments[:3]))


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from hear_axlstm.kernels.conv import cuda as fused, cuda_backward as fused_backward

HALF = "p_x p_c p_v p_grad_c p_grad_v p_grad_total p_grad_x".split()
ALIGNED = "inner share x_clip x_row grad_clip grad_row weight_tap mix_entry".split()  # multiples of 16 in our models
GATED = "p_mix p_gate_c p_gate_x p_v p_sums p_grad_v p_grad_gates p_grad_mix p_grad_gate_c p_grad_gate_x".split()

def shared_memory(kernel, warps, gated, registers=None, **constants):
    constants |= dict(GATES=8 if gated else 0, TAPS=4, REVERSE=True)
    constants |= {} if gated else {name: None for name in GATED if name in kernel.arg_names}
    signature, attributes = {}, {}
    for i, name in enumerate(kernel.arg_names):
        kind = ("*fp16" if name in HALF else "*fp32") if name.startswith("p_") else "i32"
        signature[name] = "constexpr" if name in constants else kind
        if name not in constants and (kind[0] == "*" or name in ALIGNED):
            attributes[i,] = [["tt.divisibility", 16]]
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
    options = dict(num_warps=warps, num_stages=1, maxnreg=registers)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).metadata.shared

for tile, gated, strides in [
    (fused.MIX, True, dict(weight_channel=1, mix_group=1)),
    (fused.PLAIN, False, dict(weight_channel=1)),
    (fused.LATENCY, True, dict(weight_tap=1, mix_entry=1)),
]:
    print(shared_memory(fused._conv_forward, tile.warps, gated, B_TOKENS=tile.tokens, B_CHANNELS=tile.channels, B_GATES=8,
                        **strides))
block = dict(B_TOKENS=fused_backward.TOKENS, B_CHANNELS=fused_backward.CHANNELS, B_GATES=16, PRECISION="tf32")
print(shared_memory(fused_backward._through_silu, fused_backward.WARPS, True, fused_backward.REGISTERS, **block))
print(shared_memory(fused_backward._through_conv, fused_backward.WARPS, True, **block))
"""


def test_kernels_compile_for_hopper():
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 5
    assert max(map(int, done.stdout.split())) < 48 * 1024  # with more, fewer programs would share a multiprocessor
