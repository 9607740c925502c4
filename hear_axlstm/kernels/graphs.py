"""An encoder as inference on CUDA runs it: parameters in the dtype of products, folded once, replayed as CUDA graphs."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

# Batches that graphs are captured for: others are filled up to the next, by a third of it at most.
GRAPH_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
WARM_UPS = 2  # runs before a capture: kernels are compiled and workspaces allocated in them

Encode = Callable[[Tensor], Tensor]

_lock = threading.Lock()  # a graph's memory is read and written by one thread at a time
_replays: WeakKeyDictionary[nn.Module, dict[tuple[torch.dtype, str], Replay]] = WeakKeyDictionary()


def replayed(encoder: nn.Module, dtype: torch.dtype, backend: str) -> Encode | None:
    """A function that encodes as ``encoder`` does, in ``dtype`` and without gradients; each encoder keeps its own.

    None when a part of the encoder has a forward hook, which a copy or a graph would not run.
    """
    if any(module._forward_hooks or module._forward_pre_hooks for module in encoder.modules()):
        return None
    with _lock:
        of_encoder = _replays.setdefault(encoder, {})
        if (dtype, backend) not in of_encoder:
            of_encoder[dtype, backend] = Replay(dtype, backend)
        replay = of_encoder[dtype, backend]
        replay.follow(encoder)
        return replay


class Replay:
    """Runs a copy of an encoder that follows changes of its parameters which torch counts, and shares what it can.

    A batch size is captured as a graph when it is first met, and replayed from then on: a small batch costs what its
    kernels take, not what launching them takes.
    """

    def __init__(self, dtype: torch.dtype, backend: str) -> None:
        self.dtype, self.backend = dtype, backend
        self._made_of: Any = None
        self._copy: Any = None
        self._graphs: dict[int, Graph] = {}

    def follow(self, encoder: nn.Module) -> None:
        """Copy the encoder anew if one of its tensors was replaced or written to."""
        made_of = [*map(_identity, encoder.parameters()), *map(_identity, encoder.buffers())]
        if self._made_of != made_of:
            self._graphs.clear()
            self._copy, self._made_of = frozen_copy(encoder, self.dtype), made_of

    def __call__(self, spectrogram: Tensor) -> Tensor:
        """The tokens of chunks. Shape: (C, N, F) -> (C, L, D)."""
        with _lock, torch.no_grad(), torch.autocast(spectrogram.device.type, enabled=False):
            if spectrogram.device.type != "cuda" or len(spectrogram) > GRAPH_SIZES[-1]:
                return self._encode(spectrogram)
            size = next(size for size in GRAPH_SIZES if size >= len(spectrogram))
            if size not in self._graphs:
                pool = next(iter(self._graphs.values())).graph.pool() if self._graphs else None
                self._graphs[size] = Graph.of(self._encode, size, spectrogram, pool)
            return self._graphs[size].replay(spectrogram)

    def _encode(self, spectrogram: Tensor) -> Tensor:
        tokens: Tensor = self._copy(spectrogram, backend=self.backend)
        return tokens


def frozen_copy(encoder: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy with matrices in ``dtype`` and everything folded; it shares the tensors unless they are converted."""
    convert = any(parameter.dtype != dtype for parameter in encoder.parameters())
    shared = [] if convert else [*encoder.parameters(), *encoder.buffers()]
    with torch.inference_mode(False), torch.no_grad():
        frozen = copy.deepcopy(encoder, {id(tensor): tensor for tensor in shared}).eval()
        if convert:
            frozen.to(dtype)
        for module in frozen.modules():
            if hasattr(module, "fold"):
                module.folded = module.fold()  # type: ignore[operator]
    return frozen


def _identity(tensor: Tensor) -> tuple[int, int]:
    """Changes when the tensor is replaced or written to."""
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version


class Graph(NamedTuple):
    """A captured run, and the memory that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    spectrogram: Tensor
    tokens: Tensor

    @classmethod
    def of(cls, encode: Encode, size: int, like: Tensor, pool: Any) -> Graph:
        """Capture ``encode`` on ``size`` chunks of the shape, device and dtype of those of ``like``."""
        with torch.cuda.device_of(like):
            spectrogram = like.new_zeros(size, *like.shape[1:])
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(WARM_UPS):
                    encode(spectrogram)
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            # Other threads, such as those that load data, may use CUDA while this one captures.
            with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
                tokens = encode(spectrogram)
        return cls(graph, spectrogram, tokens)

    def replay(self, spectrogram: Tensor) -> Tensor:
        """Chunks beyond those given keep what they held, which no other chunk sees."""
        count = len(spectrogram)
        with torch.cuda.device_of(spectrogram):
            self.spectrogram[:count].copy_(spectrogram)
            self.graph.replay()
            return self.tokens[:count].clone()
