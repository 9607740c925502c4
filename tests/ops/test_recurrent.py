"""The recurrences with carried state against the loops over all tokens."""

from __future__ import annotations

import pytest
import torch

from hear_axlstm.ops.recurrent import recurrent_mlstm, recurrent_scan
from tests.ops.equations import reference_gated_mlstm, reference_gated_scan
from tests.ops.streams import CUTS, LENGTH, in_pieces, mlstm_operands, mlstm_states, scan_operands, scan_states
from tests.tolerances import KERNEL_FLOAT64

FAMILIES = pytest.mark.parametrize(
    ("operation", "reference", "operands", "states"),
    [
        (recurrent_mlstm, reference_gated_mlstm, mlstm_operands, mlstm_states),
        (recurrent_scan, reference_gated_scan, scan_operands, scan_states),
    ],
    ids=["mlstm", "scan"],
)


def double(tensors):
    return [x.double() for x in tensors]


@FAMILIES
@pytest.mark.parametrize("cuts", CUTS, ids=str)
def test_however_tokens_are_cut_the_equations_hold(operation, reference, operands, states, cuts):
    given = double(operands())
    ours = in_pieces(operation, given, states(2, dtype=torch.float64), cuts)
    torch.testing.assert_close(ours, reference(*given), rtol=1e-9, atol=KERNEL_FLOAT64 * 10)


@pytest.mark.parametrize("cuts", CUTS, ids=str)
def test_a_sigmoid_as_input_gate(cuts):
    given = double(mlstm_operands())
    ours = in_pieces(recurrent_mlstm, given, mlstm_states(2, dtype=torch.float64), cuts, input_gate="sigmoid")
    expected = reference_gated_mlstm(*given, input_gate="sigmoid")
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=KERNEL_FLOAT64 * 10)


@FAMILIES
def test_a_stream_has_its_place_and_no_other_changes(operation, reference, operands, states):
    """The places of other streams hold NaN, which would show."""
    given, kept = double(operands()), states(5, dtype=torch.float64)
    for state, fresh in zip(kept, states(2, dtype=torch.float64), strict=True):
        state.fill_(torch.nan)
        state[[3, 1]] = fresh
    ours = in_pieces(operation, given, kept, (5, 12), places=[3, 1])
    torch.testing.assert_close(ours, reference(*given), rtol=1e-9, atol=KERNEL_FLOAT64 * 10)
    for state in kept:
        assert state[[0, 2, 4]].isnan().all()
        assert state[[1, 3]].isfinite().all()


@pytest.mark.parametrize("gate", [-50.0, 50.0])
def test_extreme_gates_stay_finite(gate):
    given = mlstm_operands()
    for input_gate in (gate, -gate):
        given[3][..., :4], given[3][..., 4:] = input_gate, gate
        states = mlstm_states(2)
        assert in_pieces(recurrent_mlstm, given, states, (5, 12), backend="torch").isfinite().all()
        assert all(state.isfinite().all() for state in states)


@FAMILIES
def test_autocast_around_it_leaves_the_state_alone(operation, reference, operands, states):
    given, inside, outside = operands(), states(2), states(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = in_pieces(operation, given, inside, (LENGTH,), backend="torch")
    assert torch.equal(ours, in_pieces(operation, given, outside, (LENGTH,), backend="torch"))
    assert all(torch.equal(*pair) for pair in zip(inside, outside, strict=True))
