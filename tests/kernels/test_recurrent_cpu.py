"""The Numba recurrences against the loops in float64."""

from __future__ import annotations

import pytest
import torch

from hear_axlstm.errors import BackendError
from hear_axlstm.ops.recurrent import recurrent_mlstm
from tests.kernels.test_cpu import assert_close, double
from tests.ops.equations import reference_gated_mlstm
from tests.ops.streams import CUTS, LENGTH, in_pieces, mlstm_operands, mlstm_states
from tests.ops.test_recurrent import FAMILIES

pytest.importorskip("numba")


@FAMILIES
@pytest.mark.parametrize("cuts", CUTS, ids=str)
@pytest.mark.parametrize("inner", [16, 80, 576])
def test_however_tokens_are_cut_the_equations_hold(operation, reference, operands, states, cuts, inner):
    given = operands(inner=inner)
    assert_close(in_pieces(operation, given, states(2, inner), cuts, backend="numba"), reference(*double(given)))


def test_a_sigmoid_as_input_gate():
    given = mlstm_operands()
    ours = in_pieces(recurrent_mlstm, given, mlstm_states(2), (5, 12), input_gate="sigmoid", backend="numba")
    expected = in_pieces(
        recurrent_mlstm, double(given), mlstm_states(2, dtype=torch.float64), (LENGTH,), input_gate="sigmoid"
    )
    assert_close(ours, expected)


@FAMILIES
def test_the_state_is_that_of_plain_torch(operation, reference, operands, states):
    given, ours, plain = operands(), states(2), states(2, dtype=torch.float64)
    in_pieces(operation, given, ours, (5, 12), backend="numba")
    in_pieces(operation, double(given), plain, (LENGTH,), backend="torch")
    for state, expected in zip(ours, plain, strict=True):
        assert_close(state, expected)


@FAMILIES
def test_a_stream_has_its_place_and_no_other_changes(operation, reference, operands, states):
    """The places of other streams hold NaN, which would show."""
    given, kept = operands(), states(5)
    for state, fresh in zip(kept, states(2), strict=True):
        state.fill_(torch.nan)
        state[[3, 1]] = fresh
    assert_close(in_pieces(operation, given, kept, (5, 12), places=[3, 1], backend="numba"), reference(*double(given)))
    for state in kept:
        assert state[[0, 2, 4]].isnan().all()
        assert state[[1, 3]].isfinite().all()


@FAMILIES
def test_a_stream_does_not_hear_its_neighbours(operation, reference, operands, states):
    given = operands()
    both = in_pieces(operation, given, states(2), (5, 12), backend="numba")
    beside_nan = [x.clone() for x in given]
    for x in beside_nan:
        if x.ndim == 3 and x.shape[1] == LENGTH:
            x[0] = torch.nan
    assert torch.equal(in_pieces(operation, beside_nan, states(2), (5, 12), backend="numba")[1], both[1])


@FAMILIES
def test_the_number_of_threads_changes_nothing(operation, reference, operands, states):
    given, threads = operands(), torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        three = in_pieces(operation, given, states(2), (5, 12), backend="numba")
        torch.set_num_threads(1)
        assert torch.equal(in_pieces(operation, given, states(2), (5, 12), backend="numba"), three)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("gate", [-50.0, 50.0])
def test_extreme_gates_stay_finite(gate):
    given = mlstm_operands()
    for input_gate in (gate, -gate):
        given[3][..., :4], given[3][..., 4:] = input_gate, gate
        states = mlstm_states(2)
        assert in_pieces(recurrent_mlstm, given, states, (5, 12), backend="numba").isfinite().all()
        assert all(state.isfinite().all() for state in states)


@FAMILIES
def test_bfloat16_is_computed_in_float32(operation, reference, operands, states):
    given = [x.bfloat16() if x.ndim == 3 and x.shape[1] == LENGTH else x for x in operands()]
    ours, expected = in_pieces(operation, given, states(2), (5, 12), backend="numba"), reference(*double(given))
    assert ours.dtype == torch.bfloat16
    assert (ours - expected).norm() <= 0.01 * expected.norm()


def test_states_that_it_could_not_change_in_place_are_refused():
    memory, *others = mlstm_states(2)
    operands = mlstm_operands()
    for spoilt in (memory.bfloat16(), with_gaps := memory.mT.contiguous().mT):
        with pytest.raises(BackendError, match="states are not float32 without gaps"):
            recurrent_mlstm(*operands, spoilt, *others, backend="numba")
    plain = in_pieces(recurrent_mlstm, operands, [with_gaps, *others], (LENGTH,))
    assert_close(plain, reference_gated_mlstm(*double(operands)))
    assert with_gaps.any()
