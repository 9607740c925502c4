"""All of an mLSTM layer between its convolution and its projection down."""

from __future__ import annotations

from torch import Tensor

from hear_axlstm.config import InputGate
from hear_axlstm.kernels.mlstm.eager import eager_gated_mlstm
from hear_axlstm.ops.backend import Backend, select

TRITON_WIDTH = 768  # of a head


def gated_mlstm(
    c: Tensor,
    v: Tensor,
    z: Tensor,
    gates: Tensor,
    mix: Tensor,
    norm_weight: Tensor,
    skip: Tensor,
    *,
    input_gate: InputGate = "exp",
    reverse: bool = False,
    overwrite_z: bool = False,
    backend: Backend = "auto",
) -> Tensor:
    """(norm(mLSTM(q, k, v)) * norm_weight + skip * c) * SiLU(z), for each of H heads of K = n / H channels.

    Keys are c itself, and queries are mix c: for projections q = Wq c and k = Wk c, which only meet in k . q, mix is
    Wk^T Wq. The norm is a layer norm over a head's channels.

    gates: pre-activations of the input gates of all heads, then of their forget gates.
    reverse: the tokens are read from the last to the first.
    overwrite_z: nobody reads z after this, so that the result may take its place; not for where gradients are needed.

    Shape: c, v and z (B, L, n), gates (B, L, 2 H), mix (n / 4, 4 out, 4 in), norm_weight and skip (n) -> (B, L, n), in c's
    dtype. Gates, normalisers and norms are float32 or better.
    """
    operands = c, v, z, gates, mix, norm_weight, skip
    width = c.shape[2] // (gates.shape[2] // 2)
    too_wide = None if width <= TRITON_WIDTH else f"heads have {width} channels; it takes {TRITON_WIDTH} or fewer"
    chosen = select(backend, *operands, triton=too_wide)
    if chosen == "triton":
        from hear_axlstm.kernels.mlstm.cuda import fused_gated_mlstm

        return fused_gated_mlstm(*operands, input_gate=input_gate, reverse=reverse, overwrite_z=overwrite_z)
    if chosen == "numba":
        from hear_axlstm.kernels.mlstm.cpu import compiled_gated_mlstm

        return compiled_gated_mlstm(*operands, input_gate=input_gate, reverse=reverse)
    return eager_gated_mlstm(*operands, input_gate=input_gate, reverse=reverse)
