"""The Triton mLSTM, run by Triton's interpreter, against the recurrence in float64."""

import os
import subprocess
import sys
from itertools import pairwise

import pytest
import torch

pytest.importorskip("triton")

from hear_axlstm.errors import BackendError
from hear_axlstm.kernels.mlstm.cuda import gated_mlstm as fused_gated_mlstm
from hear_axlstm.kernels.mlstm.cuda_tiles import HALF, SINGLE, Saved, pieces, tiling
from hear_axlstm.ops.mlstm import gated_mlstm
from tests.ops.equations import reference_gated_mlstm

OPERANDS = ["c", "v", "z", "gates", "mix", "norm_weight", "skip"]
FLOAT32 = 2e-5  # of the largest value: float32 sums of hundreds of terms, divided by normalisers that may nearly cancel
FLOAT16 = 1e-3  # of the norm: some roundings to float16, of 2^-11 at most
FLOAT16_GATES = 5e-3  # their gradients are differences of sums that nearly cancel, since the norm ignores what they scale
SHARED_MEMORY = 227 * 1024  # bytes that a program may have on Hopper


def operands(length, heads, width, dtype=torch.float32, batch=1):
    """Gates as after training: tokens are remembered for one to a hundred tokens.

    A token's query is turned away from its own key, so that few normalisers cancel: those have no digits left in float16.
    """
    inner = heads * width
    c, v, z = (torch.randn(batch, length, inner).to(dtype) for _ in range(3))
    gates = torch.cat([torch.randn(batch, length, heads), 2 + 2 * torch.randn(batch, length, heads)], dim=-1)
    mix = 0.05 * torch.randn(inner // 4, 4, 4) - 0.1 * torch.eye(4)
    return [c, v, z, gates, mix, 1 + 0.1 * torch.randn(inner), torch.randn(inner)]


def with_gradients(function, inputs, dy, **options):
    """Output and the gradient of every operand, by name."""
    inputs = [x.detach().requires_grad_() for x in inputs]
    y = function(*inputs, **options)
    return {"y": y.detach(), **dict(zip(OPERANDS, torch.autograd.grad(y, inputs, dy.to(y.dtype)), strict=True))}


def errors(found, expected, dtype):
    """By name, in parts of the tolerance."""
    differences = {name: found[name] - x for name, x in expected.items()}
    if dtype == torch.float32:
        return {name: (differences[name].abs().max() / x.abs().max()).item() / FLOAT32 for name, x in expected.items()}
    return {
        name: (differences[name].norm() / x.norm()).item() / (FLOAT16_GATES if name == "gates" else FLOAT16)
        for name, x in expected.items()
    }


def assert_equations_hold(inputs, dtype, **options):
    dy = torch.randn_like(inputs[0], dtype=torch.float32).to(dtype)
    expected = with_gradients(reference_gated_mlstm, [x.double() for x in inputs], dy.double(), **options)
    found = with_gradients(fused_gated_mlstm, inputs, dy, **options)
    assert all(found[name].dtype == x.dtype for name, x in zip(OPERANDS, inputs, strict=True))
    large = {name: error for name, error in errors(found, expected, dtype).items() if not error < 1}
    assert not large, large


@pytest.mark.parametrize(
    ("length", "heads", "width", "reverse", "input_gate"),
    [(2, 2, 16, False, "exp"), (7, 2, 20, True, "exp"), (126, 1, 96, False, "sigmoid"), (251, 1, 16, True, "exp")],
)
def test_float32_is_the_recurrence(length, heads, width, reverse, input_gate):
    assert_equations_hold(operands(length, heads, width), torch.float32, reverse=reverse, input_gate=input_gate)


WIDTHS = [(251, 16), (70, 96), (126, 144), (70, 192), (33, 288), (130, 292), (33, 384), (66, 388), (33, 576), (17, 768)]


@pytest.mark.parametrize(("length", "width"), WIDTHS)
def test_float16_is_the_recurrence_up_to_roundings(length, width):
    assert_equations_hold(operands(length, 1, width, torch.float16), torch.float16, reverse=length % 2 == 0)


def test_one_token_reads_what_it_writes():
    inputs = operands(1, 2, 16, batch=2)
    expected = reference_gated_mlstm(*(x.double() for x in inputs))
    y = fused_gated_mlstm(*inputs)
    assert (y - expected).abs().max() < FLOAT32 * expected.abs().max()


def test_ten_seconds_of_tokens():
    inputs = operands(501, 1, 16)
    expected = reference_gated_mlstm(*(x.double() for x in inputs), reverse=True)
    y = fused_gated_mlstm(*inputs, reverse=True)
    assert (y - expected).abs().max() < FLOAT32 * expected.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_mix_as_small_as_at_the_start_of_training_loses_nothing(dtype):
    """Products of two small random matrices: float16 itself has no such numbers, or with few digits."""
    inputs = operands(40, 1, 32, dtype)
    inputs[4] *= 1e-5
    assert_equations_hold(inputs, dtype)


@pytest.mark.parametrize("reverse", [False, True])
def test_where_only_epsilon_is_left_of_the_normaliser_gradients_pass_through_the_running_maximum(reverse):
    inputs = operands(40, 1, 16)
    inputs[3][..., 0] += 20
    inputs[4] *= 1e-7
    assert_equations_hold(inputs, torch.float32, reverse=reverse)


def test_what_is_hardly_forgotten_is_exact_after_ten_seconds():
    inputs = operands(501, 1, 16)
    inputs[3] = torch.stack([0.1 * inputs[3][..., 0], torch.full((1, 501), 9.0)], dim=-1)
    expected = reference_gated_mlstm(*(x.double() for x in inputs))
    assert (fused_gated_mlstm(*inputs) - expected).abs().max() < 1e-6 * expected.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("forget", [-50.0, 50.0])
@pytest.mark.parametrize("write", [-50.0, 50.0])
def test_extreme_gates(dtype, forget, write):
    inputs = operands(40, 1, 16, dtype)
    inputs[3] = torch.tensor([write, forget]) + 0.1 * inputs[3]
    dy = torch.randn_like(inputs[0])
    found = with_gradients(fused_gated_mlstm, inputs, dy)
    assert all(torch.isfinite(x).all() for x in found.values())
    expected = reference_gated_mlstm(*(x.double() for x in inputs))
    assert errors(found, {"y": expected}, dtype)["y"] < 1


def test_gates_that_jump_between_extremes():
    inputs = operands(501, 1, 16)
    inputs[3] = 50 * inputs[3].sign()
    y = fused_gated_mlstm(*inputs)
    expected = reference_gated_mlstm(*(x.double() for x in inputs))
    forgotten = 50 * 501 / 2  # the cumulative log of the forget gates is rounded to float32, and then exponentiated
    assert (y - expected).abs().max() < 2 * torch.finfo(torch.float32).eps * forgotten * expected.abs().max()


@pytest.mark.filterwarnings("ignore:overflow encountered in exp2")  # of a sigmoid that is 0
@pytest.mark.parametrize("gate", [-1e4, 1e4])
def test_gates_beyond_the_range_of_exponentials_stay_finite(gate):
    inputs = operands(20, 1, 16)
    inputs[3] = torch.full_like(inputs[3], gate)
    found = with_gradients(fused_gated_mlstm, inputs, torch.randn_like(inputs[0]))
    assert all(torch.isfinite(x).all() for x in found.values())


@pytest.mark.parametrize("reverse", [False, True])
def test_a_token_sees_only_those_read_before_it(reverse):
    inputs = operands(70, 1, 16, torch.float16)
    before = fused_gated_mlstm(*inputs, reverse=reverse)
    unread, read = (slice(0, 30), slice(30, 70)) if reverse else (slice(40, 70), slice(0, 40))
    for x in inputs[:4]:
        x[:, unread] = 0.5
    after = fused_gated_mlstm(*inputs, reverse=reverse)
    torch.testing.assert_close(after[:, read], before[:, read], rtol=0, atol=0)
    assert not torch.equal(after[:, unread], before[:, unread])


def test_the_clips_of_a_batch_do_not_know_of_each_other():
    inputs = operands(33, 1, 16, batch=3)
    dy = torch.randn_like(inputs[0])
    alone = with_gradients(fused_gated_mlstm, [x[1:2] for x in inputs[:4]] + inputs[4:], dy[1:2])
    for x in inputs[:4]:
        x[::2] = torch.nan
    together = with_gradients(fused_gated_mlstm, inputs, dy)
    for name in ["y", *OPERANDS[:4]]:
        torch.testing.assert_close(together[name][1:2], alone[name], rtol=0, atol=0)


def amid_nan(x):
    """A copy of ``x`` whose neighbours in memory, before, after and between its rows, are NaN."""
    if x.ndim == 3 and x.shape[1:] != (4, 4):
        batch, length, channels = x.shape
        buffer = x.new_full((batch, length + 2, channels + 8), torch.nan)
        view = buffer[:, 1:-1, 4:-4]
    else:
        buffer = x.new_full((len(x) + 2, *x.shape[1:]), torch.nan)
        view = buffer[1:-1]
    return view.copy_(x)


def test_operands_may_be_views_and_their_neighbours_are_not_read():
    inputs = operands(33, 2, 20, batch=2)
    dy = torch.randn_like(inputs[0])
    expected = with_gradients(fused_gated_mlstm, inputs, dy, reverse=True)
    found = with_gradients(fused_gated_mlstm, [amid_nan(x) for x in inputs], amid_nan(dy), reverse=True)
    for name, x in expected.items():
        torch.testing.assert_close(found[name], x, rtol=0, atol=0)


def test_channels_need_not_be_next_to_each_other():
    inputs = operands(7, 2, 16)
    dy = torch.randn_like(inputs[0])
    expected = with_gradients(fused_gated_mlstm, inputs, dy)
    spread = [x.mT.contiguous().mT if x.ndim == 3 else x for x in inputs]
    found = with_gradients(fused_gated_mlstm, spread, dy.mT.contiguous().mT)
    for name, x in expected.items():
        torch.testing.assert_close(found[name], x, rtol=0, atol=0)


def test_without_gradients_nothing_is_kept(monkeypatch):
    inputs = operands(7, 1, 16)
    expected = with_gradients(fused_gated_mlstm, inputs, torch.ones_like(inputs[0]))["y"]
    monkeypatch.setattr(Saved, "empty", lambda _: pytest.fail("nobody asked for gradients"))
    assert torch.equal(fused_gated_mlstm(*inputs), expected)
    with torch.no_grad():
        assert torch.equal(fused_gated_mlstm(*(x.requires_grad_() for x in inputs)), expected)


def test_only_some_operands_need_gradients():
    inputs = operands(7, 1, 16)
    dy = torch.randn_like(inputs[0])
    expected = with_gradients(fused_gated_mlstm, inputs, dy)
    inputs[4].requires_grad_()
    (found,) = torch.autograd.grad(fused_gated_mlstm(*inputs), [inputs[4]], dy)
    assert torch.equal(found, expected["mix"])


def test_pieces_cover_the_channels_of_any_head():
    for width in range(4, 769, 4):
        for dtype in (torch.float16, torch.float32):
            cut = pieces(width, tiling(width, dtype).piece)
            assert width <= sum(cut) < width + 16
            assert all(piece >= 16 and piece & piece - 1 == 0 for piece in cut)
            assert all(wide >= narrow for wide, narrow in pairwise(cut))


@pytest.mark.parametrize("table", [HALF, SINGLE])
def test_a_head_that_is_too_wide_is_refused(table):
    with pytest.raises(BackendError, match="heads have 772 channels; it takes 768 or fewer"):
        gated_mlstm(*operands(1, 1, max(table) + 4, torch.float16 if table is HALF else torch.float32), backend="triton")


COMPILE = """
import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction
from hear_axlstm.kernels.mlstm.cuda import gated_mlstm as fused_gated_mlstm

class Hopper:
    def get_current_device(self):
        return 0
    def get_current_stream(self, device):
        return 0
    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)

def compile_only(kernel, *arguments, warmup, **options):
    compiled = launch(kernel, *arguments, warmup=True, **options)
    print(kernel.__name__, compiled.metadata.shared, "wgmma" in compiled.asm["ptx"])

driver.set_active(Hopper())
launch, JITFunction.run = JITFunction.run, compile_only
for width, gradients in [(144, True), (576, False)]:
    inner = 4 * width
    c, v = (torch.zeros(1, 126, inner, dtype=torch.float16) for _ in range(2))
    z = torch.zeros(1, 126, 2 * inner, dtype=torch.float16)[..., inner:]
    inputs = [c, v, z, torch.zeros(1, 126, 8), torch.zeros(inner // 4, 4, 4), torch.zeros(inner), torch.zeros(inner)]
    y = fused_gated_mlstm(*(x.requires_grad_(gradients) for x in inputs))
    if gradients:
        y.backward(torch.zeros_like(y))
"""
FORWARD = ["_scan_gates", "_mlstm"]
BACKWARD = ["_norm_backward", "_keys_and_values_backward", "_queries_backward", "_gates_backward"]
PRODUCTS = ["_mlstm", "_keys_and_values_backward", "_queries_backward"]


def test_the_kernels_compile_for_hopper_and_multiply_on_its_tensor_cores(tmp_path):
    """As they would be launched, by a driver that knows no device."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    command = [sys.executable, "-W", "ignore", "-c", COMPILE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    compiled = [line.split() for line in done.stdout.splitlines()]
    assert [name for name, _, _ in compiled] == FORWARD + BACKWARD + FORWARD
    for name, shared, wgmma in compiled:
        assert int(shared) <= SHARED_MEMORY, name
        assert (wgmma == "True") == (name in PRODUCTS), name
