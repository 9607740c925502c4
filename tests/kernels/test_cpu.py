"""The Numba kernels against the equations in float64."""

import pytest
import torch

from hear_axlstm.ops.conv import causal_conv_silu, conv_mix_gates
from hear_axlstm.ops.mlstm import fold, gated_mlstm
from hear_axlstm.ops.norm import add_norm
from hear_axlstm.ops.scan import gated_scan
from tests.ops.equations import reference_conv_mix_gates, reference_conv_silu, reference_gated_mlstm, reference_gated_scan
from tests.tolerances import KERNEL_FLOAT32

pytest.importorskip("numba")

BOTH_WAYS = pytest.mark.parametrize("reverse", [False, True])


def double(operands):
    return [None if x is None else x.double() for x in operands]


def halves(batch, length, inner):
    """The two halves of one projection: tokens lie twice as far apart as they are long."""
    return torch.randn(batch, length, 2 * inner).chunk(2, dim=-1)


def assert_close(ours, expected):
    assert ours.dtype == torch.float32
    assert ours.shape == expected.shape
    assert (ours - expected).abs().max() <= KERNEL_FLOAT32 * expected.abs().max()


def conv_operands(inner=32, gates=8, batch=2, length=37):
    weights = torch.randn(inner, 1, 4), torch.randn(inner), torch.randn(inner // 4, 4, 4)
    return halves(batch, length, inner)[0], *weights, torch.randn(gates, inner), torch.randn(gates, inner)


def mlstm_operands(length=70, inner=48, heads=4, batch=2, gate_scale=3.0):
    c, v, (_, z) = torch.randn(batch, length, inner), torch.randn(batch, length, inner), halves(batch, length, inner)
    gates = gate_scale * torch.randn(batch, length, 2 * heads)
    return c, v, z, gates, torch.randn(inner // 4, 4, 4), torch.randn(inner), torch.randn(inner)


def scan_operands(length=37, inner=40, states=24, batch=2):
    x, step, (_, z) = torch.randn(batch, length, inner), torch.randn(batch, length, inner), halves(batch, length, inner)
    _, b, c = torch.randn(batch, length, 3 + 2 * states).split([3, states, states], dim=-1)
    a = -torch.arange(1.0, states + 1).repeat(inner, 1) * torch.rand(inner, 1)
    return x, step, torch.randn(inner), a, b, c, torch.randn(inner), z


@BOTH_WAYS
@pytest.mark.parametrize(("length", "inner", "gates"), [(1, 4, 2), (3, 12, 8), (37, 32, 8), (126, 576, 8)])
def test_the_convolution_and_what_is_read_off_it(length, inner, gates, reverse):
    operands = conv_operands(inner, gates, length=length)
    expected = reference_conv_mix_gates(*double(operands), reverse=reverse)
    for ours, theirs in zip(conv_mix_gates(*operands, reverse=reverse, backend="numba"), expected, strict=True):
        assert_close(ours, theirs)
    alone = causal_conv_silu(*operands[:3], reverse=reverse, backend="numba")
    assert_close(alone, reference_conv_silu(*double(operands[:3]), reverse=reverse))


@pytest.mark.parametrize(("inner", "heads"), [(4, 1), (48, 4), (576, 4)])
def test_the_folded_projections(inner, heads):
    operands = *(torch.randn(inner // 4, 4, 4) for _ in range(3)), torch.randn(2 * heads, 3 * inner)
    for ours, expected in zip(fold(*operands, backend="numba"), fold(*double(operands), backend="torch"), strict=True):
        assert_close(ours, expected)


@BOTH_WAYS
@pytest.mark.parametrize("input_gate", ["exp", "sigmoid"])
@pytest.mark.parametrize(("length", "inner"), [(1, 16), (63, 48), (64, 16), (65, 80), (251, 576)])
def test_the_mlstm(length, inner, input_gate, reverse):
    operands = mlstm_operands(length, inner)
    expected = reference_gated_mlstm(*double(operands), input_gate=input_gate, reverse=reverse)
    assert_close(gated_mlstm(*operands, input_gate=input_gate, reverse=reverse, backend="numba"), expected)


@BOTH_WAYS
@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize(("length", "inner", "states"), [(1, 4, 1), (37, 40, 24), (126, 32, 24), (9, 65, 7)])
def test_the_scan(length, inner, states, gated, reverse):
    *operands, z = scan_operands(length, inner, states)
    operands.append(z if gated else None)
    expected = reference_gated_scan(*double(operands), reverse=reverse)
    assert_close(gated_scan(*operands, reverse=reverse, backend="numba"), expected)


@pytest.mark.parametrize("gate", [-50.0, 50.0])
def test_extreme_gates_stay_finite(gate):
    c, v, z, gates, *weights = mlstm_operands(length=251)
    for input_gate in (gate, -gate):
        gates[..., :4], gates[..., 4:] = input_gate, gate
        assert torch.isfinite(gated_mlstm(c, v, z, gates, *weights, backend="numba")).all()


def test_bfloat16_is_computed_in_float32():
    """Inputs and outputs are rounded, and the products of the mLSTM; sums, gates and states are not."""
    for operation, reference, operands in (
        (causal_conv_silu, reference_conv_silu, conv_operands()[:3]),
        (gated_mlstm, reference_gated_mlstm, mlstm_operands(gate_scale=1.0)),
        (gated_scan, reference_gated_scan, scan_operands()),
    ):
        rounded = [x.bfloat16() if x.ndim == 3 and len(x) == 2 and x.shape[1] > 4 else x for x in operands]
        ours, expected = operation(*rounded, backend="numba"), reference(*double(rounded))
        assert ours.dtype == torch.bfloat16
        assert (ours - expected).norm() <= 0.01 * expected.norm()


def test_silu_far_from_zero():
    x = torch.tensor([-3e38, -1e3, -89.0, -20.0, 0.0, 20.0, 1e3, 3e38])[None, None]
    weight, bias = torch.tensor([0.0, 0.0, 0.0, 1.0]).expand(8, 1, 4), torch.zeros(8)
    ours = causal_conv_silu(x, weight, bias, backend="numba")
    torch.testing.assert_close(ours, torch.nn.functional.silu(x), rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize(
    ("operation", "operands"),
    [(causal_conv_silu, conv_operands()[:3]), (gated_mlstm, mlstm_operands()), (gated_scan, scan_operands())],
    ids=["conv", "mlstm", "scan"],
)
def test_a_clip_does_not_see_its_batch_mates(operation, operands):
    per_clip = [x is not None and x.ndim == 3 and len(x) == 2 and x.shape[1] > 4 for x in operands]
    both = operation(*operands, backend="numba")
    poisoned = [x.clone() if clip else x for x, clip in zip(operands, per_clip, strict=True)]
    for x, clip in zip(poisoned, per_clip, strict=True):
        if clip:
            x[0] = torch.nan
    assert torch.equal(operation(*poisoned, backend="numba")[1], both[1])


def test_the_number_of_threads_changes_nothing():
    operands, threads = scan_operands(), torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        three = gated_scan(*operands, backend="numba")
        torch.set_num_threads(1)
        assert torch.equal(gated_scan(*operands, backend="numba"), three)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("added", [None, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_the_sum_and_its_norm(added, dtype):
    x, weight, bias = torch.randn(2, 37, 24), torch.randn(24), torch.randn(24)
    update = None if added is None else torch.randn(2, 37, 24).to(added)
    total, normed = add_norm(x, update, weight, bias, eps=1e-5, dtype=dtype, backend="numba")
    expected_total, expected = add_norm(*double([x, update, weight, bias]), eps=1e-5, dtype=torch.float64, backend="torch")
    assert_close(total, expected_total)
    assert normed.dtype == dtype
    torch.testing.assert_close(normed.double(), expected, rtol=2 * torch.finfo(dtype).eps, atol=KERNEL_FLOAT32 * 10)
