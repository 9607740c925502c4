"""The AxLSTM block (Yadav et al., 2025, figure 1 right): x + down(mLSTM(up(norm(x))))."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hear_axlstm.blocks import product_dtype
from hear_axlstm.config import AxLSTMConfig
from hear_axlstm.ops import wide
from hear_axlstm.ops.backend import Backend
from hear_axlstm.ops.conv import conv_mix_gates
from hear_axlstm.ops.mlstm import gated_mlstm
from hear_axlstm.ops.norm import add_norm


class Folded(NamedTuple):
    """A block's parameters as they are applied: neither q nor k is ever computed.

    k . q = c . (Wk^T Wq) c, and the gates, linear in q, k and v, are linear in c and in the input of the convolution.
    """

    norm: Tensor  # (D)
    head_norm: Tensor  # (n)
    mix_q: Tensor  # (n / 4, 4, 4), Wk^T Wq
    gate_c: Tensor  # (2 H, n), of the input gates, then of the forget gates
    gate_x: Tensor  # (2 H, n)


class MLSTMBlock(nn.Module):
    """Odd blocks read the tokens backwards, class token included, where ``config.flip`` says so."""

    def __init__(self, config: AxLSTMConfig, index: int) -> None:
        super().__init__()
        inner, heads = config.expansion * config.width, config.heads
        self.input_gate, self.reverse = config.input_gate, config.flip and index % 2 == 1
        self.norm = nn.Parameter(torch.zeros(config.width))  # weights of norms are kept as their difference from one
        self.up = nn.Linear(config.width, 2 * inner, bias=False)
        self.conv = nn.Conv1d(inner, inner, kernel_size=4, groups=inner)
        self.q, self.k, self.v = (nn.Parameter(torch.empty(inner // 4, 4, 4)) for _ in range(3))
        self.gates = nn.Parameter(torch.zeros(2 * heads, 3 * inner))  # of q, k and v, side by side
        self.gate_bias = nn.Parameter(torch.empty(2 * heads))
        self.head_norm = nn.Parameter(torch.zeros(inner))
        self.skip = nn.Parameter(torch.ones(inner))
        self.down = nn.Linear(inner, config.width, bias=False)
        self.folded: Folded | None = None  # set in a copy whose parameters will not change

    def reset(self) -> None:
        """Draw the paper's initial values."""
        small, heads = math.sqrt(2 / (5 * self.up.in_features)), len(self.gate_bias) // 2
        for weight in (self.up.weight, self.q, self.k, self.v):
            nn.init.normal_(weight, std=small)
        nn.init.normal_(self.down.weight, std=2 / math.sqrt(self.up.in_features))
        nn.init.normal_(self.gate_bias[:heads], std=0.1)
        self.gate_bias[heads:] = torch.linspace(3.0, 6.0, heads)

    def fold(self) -> Folded:
        with torch.autocast(self.skip.device.type, enabled=False):
            blocks = wide(torch.stack([self.q, self.k, self.v]))  # (3, n / 4, 4, 4)
            gates = wide(self.gates).unflatten(1, (3, -1, 4))  # (2 H, 3, n / 4, 4)
            of_q, of_k, of_v = torch.einsum("hpgo,pgoi->phgi", gates, blocks).flatten(2)
            return Folded(1 + self.norm, 1 + self.head_norm, blocks[1].mT @ blocks[0], of_q + of_k, of_v)

    def forward(self, x: Tensor, update: Tensor | None = None, backend: Backend = "auto") -> tuple[Tensor, Tensor]:
        norm, head_norm, mix_q, gate_c, gate_x = self.folded or self.fold()
        x, normed = add_norm(x, update, norm, None, eps=1e-5, dtype=product_dtype(self.up.weight), backend=backend)
        u, z = self.up(normed).chunk(2, dim=-1)
        convolution: tuple[Tensor, ...] = u, self.conv.weight, self.conv.bias, self.v, gate_c, gate_x  # type: ignore[assignment]
        c, v, gates = conv_mix_gates(*convolution, reverse=self.reverse, backend=backend)
        mlstm = c, v, z, gates + self.gate_bias, mix_q, head_norm, self.skip
        h = gated_mlstm(*mlstm, input_gate=self.input_gate, reverse=self.reverse, backend=backend)
        return x, self.down(h)
