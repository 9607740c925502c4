"""The matrix products of an encoder's forward pass and nothing else: what its speed is compared with.

They are every linear map, the patch embedding, and the two products of attention or of the mLSTM, at their shapes and in
their order, with the weights of all blocks in turn, written to memory that is there already. Products of 4 x 4, the
convolution, the scan, norms and gates are what an encoder does beyond them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hear_axlstm.blocks.attention import AttentionBlock
from hear_axlstm.blocks.mamba import MambaBlock
from hear_axlstm.blocks.mlstm import MLSTMBlock
from hear_axlstm.encoder import Encoder

QUERY_BLOCK = 64  # queries of the mLSTM that are multiplied at once, with the keys up to the last of them


@dataclass(frozen=True, eq=False)
class Product:
    """``count`` products of (rows, inner) by (inner, columns), by ``weight`` (columns, inner) unless that is None."""

    rows: int
    inner: int
    columns: int
    count: int = 1
    weight: Tensor | None = None

    @property
    def flop(self) -> int:
        return 2 * self.count * self.rows * self.inner * self.columns


def products(encoder: Encoder, chunks: int) -> Iterator[Product]:
    """The products of one forward pass over ``chunks`` chunks, in order."""
    columns, rows = encoder.config.grid
    patches = columns * rows
    yield _linear(encoder.patch_embed.weight.flatten(1), chunks * patches)
    for block in encoder.blocks:
        yield from OF_BLOCK[type(block)](block, chunks, 1 + patches)


def _linear(weight: Tensor, rows: int) -> Product:
    return Product(rows, weight.shape[1], weight.shape[0], weight=weight)


def _of_mlstm(block: MLSTMBlock, chunks: int, length: int) -> Iterator[Product]:
    inner, heads = len(block.skip), len(block.gate_bias) // 2
    count, width = chunks * heads, inner // heads
    yield _linear(block.up.weight, chunks * length)
    of_c, _, of_x = block.gates.chunk(3, dim=1)
    yield from (_linear(gate, chunks * length) for gate in (of_c, of_x))
    for start in range(0, length, QUERY_BLOCK):
        seen = min(start + QUERY_BLOCK, length)
        yield Product(seen - start, width, seen, count)
        yield Product(seen - start, seen, width, count)
    yield _linear(block.down.weight, chunks * length)


def _of_mamba(block: MambaBlock, chunks: int, length: int) -> Iterator[Product]:
    for layer in (block.in_proj, block.scan.x_proj, block.scan.dt_proj, block.out_proj):
        yield _linear(layer.weight, chunks * length)


def _of_attention(block: AttentionBlock, chunks: int, length: int) -> Iterator[Product]:
    count, width = chunks * block.heads, block.proj.in_features // block.heads
    yield _linear(block.qkv.weight, chunks * length)
    yield Product(length, width, length, count)
    yield Product(length, length, width, count)
    for layer in (block.proj, block.mlp[0], block.mlp[2]):
        yield _linear(layer.weight, chunks * length)  # type: ignore[arg-type]


OF_BLOCK = {MLSTMBlock: _of_mlstm, MambaBlock: _of_mamba, AttentionBlock: _of_attention}


class Products:
    """The products of one forward pass, which a call computes. Operands of one shape share their memory."""

    def __init__(self, encoder: Encoder, chunks: int) -> None:
        self.products = list(products(encoder, chunks))
        self._memory: dict[tuple[object, ...], Tensor] = {}
        self._steps = [self._operands(product) for product in self.products]

    @property
    def flop(self) -> int:
        return sum(product.flop for product in self.products)

    @torch.no_grad()
    def __call__(self) -> None:
        for left, right, out in self._steps:
            (torch.bmm if left.ndim == 3 else torch.mm)(left, right, out=out)

    def _operands(self, product: Product) -> tuple[Tensor, Tensor, Tensor]:
        rows, inner, columns, count = product.rows, product.inner, product.columns, product.count
        if product.weight is not None:
            return self._at("left", rows, inner), product.weight.detach().T, self._at("out", rows, columns)
        scores = inner < columns  # of queries and keys, whose channels lie side by side
        right = self._at("keys", count, columns, inner).mT if scores else self._at("values", count, inner, columns)
        return self._at("left", count, rows, inner), right, self._at("out", count, rows, columns)

    def _at(self, role: str, *shape: int) -> Tensor:
        return self._memory.setdefault((role, *shape), torch.randn(shape))
