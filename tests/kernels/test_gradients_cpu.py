"""The gradients of the Numba kernels against those of the equations in float64."""

import pytest
import torch

from hear_axlstm.ops.conv import causal_conv_silu, conv_mix_gates
from hear_axlstm.ops.mlstm import fold, gated_mlstm
from tests.kernels.test_cpu import BOTH_WAYS, conv_operands, mlstm_operands
from tests.ops.equations import reference_conv_mix_gates, reference_conv_silu, reference_gated_mlstm
from tests.tolerances import KERNEL_FLOAT32

pytest.importorskip("numba")

HALF = 0.02  # of the norm: roundings to bfloat16, of 2^-9 each; gates' gradients are differences of sums that nearly cancel


def results(operation, operands, dtype=None, wanted=None, **options):
    """What an operation returns, and the gradients of its operands for one gradient of each result."""
    leaves = [x.detach().to(dtype or x.dtype).requires_grad_(wanted is None or i in wanted) for i, x in enumerate(operands)]
    returned = operation(*leaves, **options)
    returned = [returned] if isinstance(returned, torch.Tensor) else list(returned)
    generator = torch.Generator().manual_seed(1)
    gradients = [torch.randn(x.shape, generator=generator).bfloat16().to(x.dtype) for x in returned]
    torch.autograd.backward(returned, gradients)
    return [x.detach() for x in returned], [leaf.grad for leaf in leaves]


def assert_gradients_are_those_of(reference, operation, operands, **options):
    _, expected = results(reference, operands, torch.float64, **options)
    _, ours = results(operation, operands, backend="numba", **options)
    for found, truth, operand in zip(ours, expected, operands, strict=True):
        assert found.dtype == operand.dtype
        if operands[0].dtype == torch.bfloat16:
            assert (found - truth).norm() <= HALF * truth.norm()
        else:
            assert (found - truth).abs().max() <= KERNEL_FLOAT32 * truth.abs().max()


def in_bfloat16(operands):
    """As under autocast: what comes from a linear map is, parameters and gates are not."""
    tokens = operands[0].shape
    return [x.bfloat16() if x.shape == tokens else x for x in operands]


def moderate(*arguments, **sizes):
    """Operands of an mLSTM few of whose normalisers cancel: queries are turned away from their keys."""
    c, v, z, gates, mix, norm_weight, skip = mlstm_operands(*arguments, **sizes, gate_scale=1.0)
    gates[..., gates.shape[2] // 2 :] += 2
    return c, v, z, gates, 0.05 * mix - 0.1 * torch.eye(4), 1 + 0.1 * norm_weight, skip


@BOTH_WAYS
@pytest.mark.parametrize("halved", [False, True])
@pytest.mark.parametrize(("length", "inner", "gates"), [(1, 4, 2), (3, 12, 3), (37, 32, 8), (126, 80, 8)])
def test_the_convolution_and_what_is_read_off_it(length, inner, gates, halved, reverse):
    operands = conv_operands(inner, gates, length=length)
    operands = in_bfloat16(operands) if halved else operands
    assert_gradients_are_those_of(reference_conv_mix_gates, conv_mix_gates, operands, reverse=reverse)
    alone = operands[0][..., 1:], operands[1][1:], operands[2][1:]
    assert_gradients_are_those_of(reference_conv_silu, causal_conv_silu, alone, reverse=reverse)


def test_the_folded_projections():
    operands = *(torch.randn(12, 4, 4) for _ in range(3)), torch.randn(8, 144)
    assert_gradients_are_those_of(lambda *x: fold(*x, backend="torch"), fold, operands)


@BOTH_WAYS
@pytest.mark.parametrize("halved", [False, True])
@pytest.mark.parametrize("input_gate", ["exp", "sigmoid"])
@pytest.mark.parametrize(("batch", "length", "inner", "heads"), [(3, 2, 16, 2), (2, 63, 48, 4), (1, 130, 144, 1)])
def test_the_mlstm(batch, length, inner, heads, input_gate, halved, reverse):
    operands = moderate(length, inner, heads, batch)
    operands = in_bfloat16(operands) if halved else operands
    assert_gradients_are_those_of(reference_gated_mlstm, gated_mlstm, operands, input_gate=input_gate, reverse=reverse)


@BOTH_WAYS
def test_where_only_epsilon_is_left_of_the_normaliser_gradients_pass_through_the_running_maximum(reverse):
    c, v, z, gates, mix, *weights = moderate(40, 16, 1)
    gates[..., 0] += 20
    assert_gradients_are_those_of(
        reference_gated_mlstm, gated_mlstm, (c, v, z, gates, 1e-7 * mix, *weights), reverse=reverse
    )


@pytest.mark.parametrize("gate", [-50.0, 50.0, 1e4])
def test_extreme_gates_have_finite_gradients(gate):
    c, v, z, gates, *weights = mlstm_operands(length=70)
    for input_gate in (gate, -gate):
        gates[..., :4], gates[..., 4:] = input_gate, gate
        for gradient in results(gated_mlstm, (c, v, z, gates, *weights), backend="numba")[1]:
            assert gradient.isfinite().all()


OPERATIONS = pytest.mark.parametrize(
    ("operation", "operands"), [(conv_mix_gates, conv_operands()), (gated_mlstm, moderate())], ids=["conv", "mlstm"]
)


@OPERATIONS
def test_a_clip_does_not_see_its_batch_mates(operation, operands):
    tokens = operands[0].shape[:2]
    both = results(operation, operands, backend="numba")[1]
    poisoned = [x.clone() for x in operands]
    for x in poisoned:
        if x.shape[:2] == tokens:
            x[0] = torch.nan
    found = results(operation, poisoned, backend="numba")[1]
    for x, alone, beside in zip(operands, both, found, strict=True):
        if x.shape[:2] == tokens:
            assert torch.equal(beside[1], alone[1])


@OPERATIONS
def test_the_same_bits_every_time_whatever_else_is_wanted(operation, operands):
    _, first = results(operation, operands, backend="numba")
    for wanted in range(len(operands)):
        gradient = results(operation, operands, wanted=[wanted], backend="numba")[1][wanted]
        assert torch.equal(gradient, first[wanted])


@OPERATIONS
@pytest.mark.parametrize("threads", [1, 3])
def test_any_number_of_threads(operation, operands, threads):
    reference = {conv_mix_gates: reference_conv_mix_gates, gated_mlstm: reference_gated_mlstm}[operation]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        assert_gradients_are_those_of(reference, operation, operands)
    finally:
        torch.set_num_threads(before)


def test_a_result_without_a_gradient_counts_as_zero():
    operands = [x.detach().requires_grad_() for x in conv_operands()]
    conv_mix_gates(*operands, backend="numba")[1].sum().backward()
    expected = operands[0].detach().unflatten(-1, (-1, 4)).sum((0, 1)).unsqueeze(1).expand_as(operands[3])
    torch.testing.assert_close(operands[3].grad, expected, rtol=1e-4, atol=1e-4)
    assert not operands[1].grad.any()


@OPERATIONS
def test_autocast_around_it_changes_nothing(operation, operands):
    expected = results(operation, operands, backend="numba")
    with torch.autocast("cpu", torch.bfloat16):
        found = results(operation, operands, backend="numba")
    for ours, theirs in zip(found, expected, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(ours, theirs, strict=True))


@OPERATIONS
def test_gradients_of_gradients_are_plain_torchs(operation, operands):
    found = []
    for backend in ("numba", "torch"):
        leaves = [x.detach().requires_grad_() for x in operands]
        returned = operation(*leaves, backend=backend)
        returned = returned if isinstance(returned, torch.Tensor) else torch.cat(returned, dim=-1)
        gradients = torch.autograd.grad(returned.square().mean(), leaves[:1], create_graph=True)
        found.append(torch.autograd.grad(gradients[0].square().sum(), leaves))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * theirs.abs().max().item())
