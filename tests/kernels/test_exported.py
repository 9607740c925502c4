"""What torch.export records of the operations, against the equations, and how little that is."""

import pytest
import torch
from torch import nn

from hear_axlstm.kernels.exported import FORMS
from hear_axlstm.ops.conv import causal_conv_silu, conv_mix_gates
from hear_axlstm.ops.mlstm import gated_mlstm
from hear_axlstm.ops.scan import gated_scan
from tests.kernels.scan import operands as scan_operands
from tests.ops.equations import reference_conv_mix_gates, reference_conv_silu, reference_gated_mlstm, reference_gated_scan
from tests.tolerances import KERNEL_FLOAT32, KERNEL_FLOAT64

BOTH_WAYS = pytest.mark.parametrize("reverse", [False, True])


class Operation(nn.Module):
    """An operation as a module, which is what torch.export takes."""

    def __init__(self, operation, **options):
        super().__init__()
        self.operation, self.options = operation, options

    def forward(self, *operands):
        return self.operation(*operands, **self.options)


def recorded(operation, operands, **options):
    with torch.no_grad():
        return torch.export.export(Operation(operation, **options), tuple(operands))


def relative_error(ours, truth):
    assert ours.isfinite().all()
    return ((ours.double() - truth).abs().max() / truth.abs().max()).item()


def double(operands):
    return [None if x is None else x.double() for x in operands]


def mlstm_operands(length, inner=16, heads=4, batch=2):
    c, v, z = (torch.randn(batch, length, inner) for _ in range(3))
    return [c, v, z, torch.randn(batch, length, 2 * heads), torch.randn(inner // 4, 4, 4), *torch.randn(2, inner)]


def conv_operands(length, inner=8, batch=2, taps=4):
    return [torch.randn(batch, length, inner), torch.randn(inner, 1, taps), torch.randn(inner)]


@BOTH_WAYS
@pytest.mark.parametrize("taps", [1, 4])
def test_the_convolution_is_its_equation(taps, reverse):
    operands = conv_operands(13, taps=taps)
    ours = recorded(causal_conv_silu, operands, reverse=reverse).module()(*operands)
    assert relative_error(ours, reference_conv_silu(*double(operands), reverse=reverse)) < KERNEL_FLOAT32


@BOTH_WAYS
def test_the_inputs_of_an_mlstm_are_their_equations(reverse):
    operands = [*conv_operands(13), torch.randn(2, 4, 4), *torch.randn(2, 6, 8)]
    ours = recorded(conv_mix_gates, operands, reverse=reverse).module()(*operands)
    for one, truth in zip(ours, reference_conv_mix_gates(*double(operands), reverse=reverse), strict=True):
        assert relative_error(one, truth) < KERNEL_FLOAT32


@BOTH_WAYS
@pytest.mark.parametrize("input_gate", ["exp", "sigmoid"])
@pytest.mark.parametrize("length", [1, 37, 251])
def test_the_mlstm_is_its_recurrence(length, input_gate, reverse):
    operands, options = mlstm_operands(length), {"input_gate": input_gate, "reverse": reverse}
    truth = reference_gated_mlstm(*double(operands), **options)
    exported = recorded(gated_mlstm, double(operands), **options)
    assert relative_error(exported.module()(*double(operands)), truth) < KERNEL_FLOAT64 * 100  # the norm of a head divides
    assert relative_error(FORMS["gated_mlstm"](*operands, **options), truth) < KERNEL_FLOAT32


@BOTH_WAYS
@pytest.mark.parametrize(("length", "gated"), [(1, True), (23, True), (23, False)])
def test_the_scan_is_its_recurrence(length, gated, reverse):
    operands = scan_operands(length, gated=gated)
    ours = recorded(gated_scan, operands, reverse=reverse).module()(*operands)
    assert relative_error(ours, reference_gated_scan(*double(operands), reverse=reverse)) < KERNEL_FLOAT32


@pytest.mark.parametrize("gate", [-50.0, 50.0])
def test_extreme_gates_stay_finite(gate):
    operands = mlstm_operands(251)
    operands[3] = torch.full_like(operands[3], gate)
    assert FORMS["gated_mlstm"](*operands).isfinite().all()


def test_half_precision_comes_back_as_half_precision():
    c, v, z, *others = mlstm_operands(9)
    halves = [x.half() for x in (c, v, z)]
    assert FORMS["gated_mlstm"](*halves, *others).dtype == torch.float16
    assert FORMS["causal_conv_silu"](halves[0], torch.randn(16, 1, 4), torch.randn(16)).dtype == torch.float16


@pytest.mark.parametrize(
    ("operation", "operands"),
    [(gated_mlstm, mlstm_operands), (gated_scan, scan_operands), (causal_conv_silu, conv_operands)],
)
def test_a_graph_does_not_grow_with_the_tokens(operation, operands):
    few, many = (len(recorded(operation, operands(length)).graph.nodes) for length in (5, 251))
    assert few == many < 100
