"""The AxLSTM block (Yadav et al., 2025, figure 1 right): x + down(mLSTM(up(norm(x))))."""

import math

import torch
from torch import Tensor, nn

from hear_axlstm.blocks import product_dtype
from hear_axlstm.config import AxLSTMConfig
from hear_axlstm.ops.backend import Backend
from hear_axlstm.ops.conv import conv_mix_gates
from hear_axlstm.ops.mlstm import fold, gated_mlstm
from hear_axlstm.ops.norm import add_norm


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
        self.folded: tuple[Tensor, ...] | None = None  # set in the copy that CUDA graphs run, anew in each call

    def reset(self) -> None:
        """Draw the paper's initial values."""
        small, heads = math.sqrt(2 / (5 * self.up.in_features)), len(self.gate_bias) // 2
        for weight in (self.up.weight, self.q, self.k, self.v):
            nn.init.normal_(weight, std=small)
        nn.init.normal_(self.down.weight, std=2 / math.sqrt(self.up.in_features))
        nn.init.normal_(self.gate_bias[:heads], std=0.1)
        self.gate_bias[heads:] = torch.linspace(3.0, 6.0, heads)

    def fold(self, backend: Backend = "auto") -> tuple[Tensor, ...]:
        """The parameters as they are applied: both norms' weights, and what ``ops.mlstm.fold`` makes of the others."""
        return 1 + self.norm, 1 + self.head_norm, *fold(self.q, self.k, self.v, self.gates, backend=backend)

    def forward(self, x: Tensor, update: Tensor | None = None, backend: Backend = "auto") -> tuple[Tensor, Tensor]:
        norm, head_norm, mix_q, gate_c, gate_x = self.folded or self.fold(backend)
        x, normed = add_norm(x, update, norm, None, eps=1e-5, dtype=product_dtype(self.up.weight), backend=backend)
        u, z = self.up(normed).chunk(2, dim=-1)
        convolution: tuple[Tensor, ...] = u, self.conv.weight, self.conv.bias, self.v, gate_c, gate_x  # type: ignore[assignment]
        c, v, gates = conv_mix_gates(*convolution, reverse=self.reverse, backend=backend)
        mlstm = c, v, z, gates + self.gate_bias, mix_q, head_norm, self.skip
        return x, self.down(gated_mlstm(*mlstm, input_gate=self.input_gate, reverse=self.reverse, backend=backend))
