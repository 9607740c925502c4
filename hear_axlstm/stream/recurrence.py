"""The encoder of streams: tokens go through the blocks as they come, and each block carries its state on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hear_axlstm.blocks import product_dtype
from hear_axlstm.blocks.mamba import MambaBlock
from hear_axlstm.blocks.mlstm import MLSTMBlock
from hear_axlstm.config import require
from hear_axlstm.encoder import Encoder
from hear_axlstm.ops import wide
from hear_axlstm.ops.backend import Backend
from hear_axlstm.ops.conv import causal_conv_silu, conv_mix_gates
from hear_axlstm.ops.norm import add_norm
from hear_axlstm.ops.recurrent import at_places, put_at_places, recurrent_mlstm, recurrent_scan

State = dict[str, Tensor]


def reads_forward(encoder: Encoder) -> bool:
    """Whether every block reads tokens from the first to the last alone, so that they can come one after the other."""
    return all(
        (isinstance(block, MLSTMBlock) and not block.reverse)
        or (isinstance(block, MambaBlock) and block.reverse_scan is None)
        for block in encoder.blocks
    )


class Recurrence:
    """The encoder of many streams at once, token by token, with carried state.

    state: for every block, by its number, the last three inputs of the convolution, "0.conv" (places, 3, n), and of an mLSTM
    "0.C" (places, H, K, K), "0.n" (places, H, K) and "0.m" (places, H), of a scan "0.h" (places, N, n). float32, float64
    when the weights are.

    What is made of weights, such as products of projections, is made here once: the encoder must stay as it is, which
    ``Streams`` sees to.
    Raises ConfigError unless the encoder ``reads_forward``.
    """

    @torch.no_grad()
    def __init__(self, encoder: Encoder, places: int, backend: Backend = "auto") -> None:
        require(reads_forward(encoder), "the encoder reads tokens backwards, too; expected one that reads_forward")
        self._encoder, self._places, self._backend = encoder, places, backend
        kinds = {MLSTMBlock: _MLSTMSteps, MambaBlock: _MambaSteps}
        self._blocks = [kinds[type(block)](block, backend) for block in encoder.blocks]
        self._begun = self._empty(1)
        self._forward(encoder.cls_token + encoder.pos_embed[:, :1], self._begun, None)
        self.state = self._empty(places)

    def _empty(self, places: int) -> State:
        like = wide(self._encoder.cls_token)
        return {
            f"{index}.{name}": like.new_full((places, *shape), -math.inf if name == "m" else 0.0)
            for index, block in enumerate(self._blocks)
            for name, shape in block.shapes.items()
        }

    def begin(self, place: int) -> None:
        """Set a place's state to that after the class token of a chunk, which depends on weights alone."""
        for name, begun in self._begun.items():
            self.state[name][place].copy_(begun[0])

    def copy(self, source: int, target: int) -> None:
        """Set one place's state to another's."""
        for values in self.state.values():
            values[target].copy_(values[source])

    def advance(self, places: Sequence[int], mel: Tensor, columns: Tensor) -> Tensor:
        """The tokens of the next k patch columns of S different streams; the state of their places moves on.

        mel: standardised log-mel, (S, k * p, 80), p frames a column. columns: where in its chunk the first of a stream's
        columns lies, from 0; with k, no further than the chunk's end. -> (S, k * rows, D), after the final norm, float32.

        To be called under ``torch.inference_mode()`` or ``torch.no_grad()``. Raises ConfigError, before any state has moved,
        unless there is one place for each stream and the frames are whole columns.
        """
        encoder, rows, frames = self._encoder, self._encoder.config.grid[1], self._encoder.config.patch[0]
        different = len(set(places) & set(range(self._places))) == len(places) == len(mel) > 0
        require(different, f"places are {places}; expected {len(mel)} different ones from 0 to {self._places - 1}")
        require(mel.shape[1] % frames == 0, f"there are {mel.shape[1]} frames; expected a multiple of {frames}")
        patches = encoder.patch_embed(mel.unsqueeze(1).to(encoder.patch_embed.weight.dtype))
        tokens = wide(patches).flatten(2).transpose(1, 2)
        index = 1 + rows * columns.to(tokens.device)[:, None] + torch.arange(tokens.shape[1], device=tokens.device)
        first, last = places[0], places[-1] + 1
        if list(places) == list(range(first, last)):
            state, at = {name: values[first:last] for name, values in self.state.items()}, None
        else:
            state, at = self.state, torch.tensor(places, device=tokens.device)
        return self._forward(tokens + encoder.pos_embed[0, index], state, at)

    def _forward(self, x: Tensor, state: State, places: Tensor | None) -> Tensor:
        """What follows the patch embedding in ``Encoder.forward``. Shape: (S, L, D) -> (S, L, D)."""
        update = None
        for number, block in enumerate(self._blocks):
            x, update = block(x, update, {name: state[f"{number}.{name}"] for name in block.shapes}, places)
        weight, bias, eps = self._encoder.norm.weight, self._encoder.norm.bias, self._encoder.norm.eps
        return add_norm(x, update, weight, bias, eps=eps, dtype=x.dtype, backend=self._backend)[1]


class _MLSTMSteps:
    """``MLSTMBlock.forward`` of tokens that come after others."""

    def __init__(self, block: MLSTMBlock, backend: Backend) -> None:
        self.block, self.backend = block, backend
        self.norm, head_norm, mix, gate_c, gate_x = block.fold(backend)
        convolution = laid_out(block.conv.weight, 2, 1, 0), block.conv.bias, laid_out(block.v, 2, 0, 1)
        self.convolution: Any = (*convolution, gate_c, gate_x)
        self.mlstm = laid_out(mix, 2, 0, 1), head_norm, block.skip
        taps, inner, heads = block.conv.weight.shape[2], len(block.skip), len(block.gate_bias) // 2
        width = inner // heads
        self.shapes = {"conv": (taps - 1, inner), "C": (heads, width, width), "n": (heads, width), "m": (heads,)}

    def __call__(self, x: Tensor, update: Tensor | None, state: State, places: Tensor | None) -> tuple[Tensor, Tensor]:
        block, dtype, backend = self.block, product_dtype(self.block.up.weight), self.backend
        x, normed = add_norm(x, update, self.norm, None, eps=1e-5, dtype=dtype, backend=backend)
        u, z = block.up(normed).chunk(2, dim=-1)
        u, before = after_last(u, state["conv"], places)
        c, v, gates = (y[:, before:] for y in conv_mix_gates(u, *self.convolution, backend=backend))
        mlstm = c, v, z, gates + block.gate_bias, *self.mlstm, state["C"], state["n"], state["m"], places
        return x, block.down(recurrent_mlstm(*mlstm, input_gate=block.input_gate, backend=backend))


class _MambaSteps:
    """``MambaBlock.forward`` of tokens that come after others."""

    def __init__(self, block: MambaBlock, backend: Backend) -> None:
        self.block, self.backend = block, backend
        self.rates = laid_out(-block.scan.A_log.exp(), 1, 0)
        self.convolution: Any = laid_out(block.scan.conv.weight, 2, 1, 0), block.scan.conv.bias
        inner, states = self.rates.shape
        self.shapes = {"conv": (block.scan.conv.weight.shape[2] - 1, inner), "h": (states, inner)}

    def __call__(self, x: Tensor, update: Tensor | None, state: State, places: Tensor | None) -> tuple[Tensor, Tensor]:
        block, scan = self.block, self.block.scan
        x, normed = block.norm(x, update, block.in_proj.weight, self.backend)
        u, z = block.in_proj(normed).chunk(2, dim=-1)
        u, before = after_last(u, state["conv"], places)
        c = causal_conv_silu(u, *self.convolution, backend=self.backend)[:, before:].contiguous()
        dt, b, c_out = scan.x_proj(c).split(scan.sizes, dim=-1)
        operands = c, scan.dt_proj(dt), scan.dt_bias, self.rates, b, c_out, scan.D, z
        return x, block.out_proj(recurrent_scan(*operands, state["h"], places, backend=self.backend))


def after_last(u: Tensor, state: Tensor, places: Tensor | None) -> tuple[Tensor, int]:
    """New inputs of a convolution behind the last ones, which they replace in the state; and how many these are."""
    before = state.shape[1]
    u = torch.cat([at_places(state, places).to(u.dtype), u], dim=1)
    put_at_places(state, places, u[:, -before:])
    return u, before


def laid_out(weight: Tensor, *order: int) -> Tensor:
    """The same values, in memory in the order of dimensions in which a kernel reads them, which then need not copy them."""
    back = [order.index(dimension) for dimension in range(weight.ndim)]
    return weight.detach().permute(order).contiguous().permute(back)
