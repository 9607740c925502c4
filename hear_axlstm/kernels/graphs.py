"""An encoder as inference runs it: parameters in the dtype of matrix products, folded once, replayed as CUDA graphs."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hear_axlstm.blocks.layers import Folding
from hear_axlstm.config import CHUNK_FRAMES, N_MELS
from hear_axlstm.encoder import Encoder

# Batches that graphs are captured for: others are filled up to the next, by a third of it at most.
GRAPH_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
WARM_UPS = 2  # runs before a capture: kernels are compiled and workspaces allocated in them


class Inference:
    """Runs an encoder without gradients, from a copy that follows every change of its parameters.

    The copy shares what is not converted. On CUDA, a batch size is captured as a graph when it is first met, and replayed
    from then on: a small batch costs what its kernels take, not what launching them takes.
    """

    def __init__(self) -> None:
        self._made_of: Any = None
        self._copy: Encoder | None = None
        self._graphs: dict[int, Graph] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Inference:
        return Inference()

    def __reduce__(self) -> tuple[type[Inference], tuple[()]]:
        return Inference, ()

    def __call__(self, encoder: Encoder, dtype: torch.dtype, spectrogram: Tensor) -> Tensor:
        """Tokens of chunks, computed in ``dtype``. Shape: (C, 200, 80) -> (C, L, D)."""
        with torch.no_grad(), torch.autocast(spectrogram.device.type, enabled=False):
            frozen = self._up_to_date(encoder, dtype)
            if spectrogram.device.type != "cuda" or len(spectrogram) > GRAPH_SIZES[-1]:
                return _tokens(frozen, spectrogram)
            size = next(size for size in GRAPH_SIZES if size >= len(spectrogram))
            if size not in self._graphs:
                pool = next(iter(self._graphs.values())).graph.pool() if self._graphs else None
                self._graphs[size] = Graph.of(frozen, size, spectrogram, pool)
            return self._graphs[size].replay(spectrogram)

    def _up_to_date(self, encoder: Encoder, dtype: torch.dtype) -> Encoder:
        made_of = (dtype, encoder.backend, *map(_identity, encoder.parameters()), *map(_identity, encoder.buffers()))
        if self._copy is None or self._made_of != made_of:
            self._graphs.clear()
            self._copy = frozen_copy(encoder, dtype)
            self._made_of = made_of
        return self._copy


def frozen_copy(encoder: Encoder, dtype: torch.dtype) -> Encoder:
    """A copy with matrices in ``dtype`` and everything folded; it shares the tensors unless they are converted."""
    convert = encoder.patch_embed.proj.weight.dtype != dtype
    shared = [] if convert else [*encoder.parameters(), *encoder.buffers()]
    with torch.inference_mode(False), torch.no_grad():
        frozen = copy.deepcopy(encoder, {id(tensor): tensor for tensor in shared}).eval()
        frozen.checkpointing = False
        if convert:
            frozen.to(dtype)
        for module in frozen.modules():
            if isinstance(module, Folding):
                module.fold_once()
    return frozen


def has_hooks(encoder: nn.Module) -> bool:
    """Whether somebody watches the forward pass of a part of it, which a copy or a graph would not let them."""
    return any(module._forward_hooks or module._forward_pre_hooks for module in encoder.modules())


def _identity(tensor: Tensor) -> tuple[int, int]:
    """Changes when the tensor is replaced or written to."""
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version


def _tokens(encoder: nn.Module, spectrogram: Tensor) -> Tensor:
    return encoder(spectrogram.unsqueeze(1))


class Graph(NamedTuple):
    """A captured run, and the memory that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    spectrogram: Tensor
    tokens: Tensor

    @classmethod
    def of(cls, encoder: Encoder, size: int, like: Tensor, pool: Any) -> Graph:
        """Capture ``encoder`` on ``size`` chunks, on the device and in the dtype of ``like``."""
        with torch.cuda.device_of(like):
            spectrogram = torch.zeros(size, CHUNK_FRAMES, N_MELS, device=like.device, dtype=like.dtype)
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(WARM_UPS):
                    _tokens(encoder, spectrogram)
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            # Other threads, such as those that load data, may use CUDA while this one captures.
            with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
                tokens = _tokens(encoder, spectrogram)
        return cls(graph, spectrogram, tokens)

    def replay(self, spectrogram: Tensor) -> Tensor:
        """Chunks beyond those given keep what they held, which no other chunk sees."""
        count = len(spectrogram)
        with torch.cuda.device_of(spectrogram):
            self.spectrogram[:count].copy_(spectrogram)
            self.graph.replay()
            return self.tokens[:count].clone()
