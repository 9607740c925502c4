"""An encoder as inference runs it: a copy with parameters in the dtype of products, folded together.

On CUDA it is replayed as graphs, on a CPU its chunks are encoded side by side.
"""

from __future__ import annotations

import copy
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks_of_all

from hear_axlstm.kernels.products import prefer_onednn, slow_products
from hear_axlstm.kernels.threads import side_by_side
from hear_axlstm.ops.mlstm import fold

# Batches that graphs are captured for: others are filled up to the next, by a third of it at most.
GRAPH_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
WARM_UPS = 2  # runs before a capture: kernels are compiled and workspaces allocated in them
CAPTURED = ("cuda",)  # types of devices whose work can be captured
LAYERS = {nn.Linear, nn.Conv1d, nn.Conv2d, nn.GELU, nn.Sequential, nn.ModuleList}  # that an encoder is built of
TENSORS, SCALARS = {Tensor, nn.Parameter, type(None)}, {bool, int, float, str}

Encode = Callable[..., Tensor]

logger = logging.getLogger(__name__)
_lock = threading.Lock()  # a graph's memory is read and written by one thread at a time
_replays: WeakKeyDictionary[nn.Module, dict[tuple[torch.dtype, str], Replay]] = WeakKeyDictionary()


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)  # the thread that holds it is not in the child


def replayed(encoder: nn.Module, dtype: torch.dtype, backend: str) -> Encode | None:
    """A function that encodes as ``encoder`` does, in ``dtype`` and without gradients; each encoder keeps its own.

    None when a part of the encoder is not what it was built of, or has a forward hook: a graph would not run its Python.
    """
    if (
        not all(map(_is_plain, encoder.modules()))
        or hooks_of_all._global_forward_hooks
        or hooks_of_all._global_forward_pre_hooks
    ):
        return None
    with _lock:
        of_encoder = _replays.setdefault(encoder, {})
        if (dtype, backend) not in of_encoder:
            of_encoder[dtype, backend] = Replay(dtype, backend)
        replay = of_encoder[dtype, backend]
        replay.follow(encoder)
        return replay


class Replay:
    """Runs a copy of an encoder that reads the encoder's own tensors anew in each call, and so follows every change.

    A batch size is captured as a graph when it is first met, and replayed from then on: a small batch costs what its
    kernels take, not what launching them takes. The graph, too, begins by reading the encoder's memory; it is captured
    again when a tensor is elsewhere, or when something else that it depends on has changed.
    """

    def __init__(self, dtype: torch.dtype, backend: str) -> None:
        self.dtype, self.backend = dtype, backend
        self._warned = False
        self._made_of: Any = None
        self._copy: Any = None
        self._graphs: dict[int, Graph] = {}
        self._last: torch.cuda.Event | None = None  # the end of the call before, on whichever stream: they share memory
        self._copies: list[Tensor] = []
        self._originals: list[Tensor] = []

    def follow(self, encoder: nn.Module) -> None:
        """Make the copy and its graphs anew where they no longer stand for the encoder."""
        made_of = [*_settings(), *(fact for module in encoder.modules() for fact in _facts(module))]
        if self._made_of != made_of:
            self._graphs.clear()
            self._copy, self._copies, self._originals = converted_copy(encoder, self.dtype)
            prefer_onednn(self._copy)
            self._made_of = made_of
            if encoder.cls_token.device.type == "cpu" and not self._warned and (warning := slow_products(self.dtype)):
                self._warned = True
                logger.warning(warning)

    def __call__(self, spectrogram: Tensor, layers: Sequence[int] | None = None) -> Tensor:
        """The tokens of chunks, or the outputs of layers, for which there are no graphs.

        Shape: (C, N, F) -> ([layers,] C, L, D).
        """
        if spectrogram.device.type == "cpu" and "cpu" not in CAPTURED:
            with torch.no_grad(), torch.autocast("cpu", enabled=False):
                self._refresh()
                return side_by_side(partial(self._tokens, layers=layers), spectrogram)
        with _lock, torch.no_grad(), torch.autocast(spectrogram.device.type, enabled=False):
            if self._last is not None:
                self._last.wait(torch.cuda.current_stream(spectrogram.device))
            tokens = self._run(spectrogram) if layers is None else self._encode(spectrogram, layers)
            if spectrogram.is_cuda and not torch.cuda.is_current_stream_capturing():
                self._last = torch.cuda.current_stream(spectrogram.device).record_event()
            return tokens

    def _run(self, spectrogram: Tensor) -> Tensor:
        if spectrogram.device.type not in CAPTURED or len(spectrogram) > GRAPH_SIZES[-1]:
            return self._encode(spectrogram)
        size = next(size for size in GRAPH_SIZES if size >= len(spectrogram))
        if size not in self._graphs:
            pool = next(iter(self._graphs.values())).graph.pool() if self._graphs else None
            with torch.inference_mode(False), torch.no_grad():  # the graph's memory is written to in every mode
                self._graphs[size] = Graph.of(self._encode, size, spectrogram, pool)
        return self._graphs[size].replay(spectrogram)

    def _encode(self, spectrogram: Tensor, layers: Sequence[int] | None = None) -> Tensor:
        self._refresh()
        return self._tokens(spectrogram, layers)

    def _refresh(self) -> None:
        """Read the encoder's tensors."""
        if self._copies:
            torch._foreach_copy_(self._copies, self._originals)
        blocks = [module for module in self._copy.modules() if hasattr(module, "folded")]
        if blocks and blocks[0].q.device.type == "cpu":
            for block in blocks:
                block.folded = block.fold(self.backend)
        else:
            fold_together(blocks)

    def _tokens(self, spectrogram: Tensor, layers: Sequence[int] | None = None) -> Tensor:
        return self._copy(spectrogram, layers=layers, backend=self.backend)


def converted_copy(encoder: nn.Module, dtype: torch.dtype) -> tuple[nn.Module, list[Tensor], list[Tensor]]:
    """A copy with matrices in ``dtype``, those of its tensors that are not the encoder's own, and the encoder's for them."""
    with torch.inference_mode(False), torch.no_grad():
        converted = copy.deepcopy(encoder).to(dtype).eval()
    copies, originals = [], []
    for ours, theirs in zip(converted.modules(), encoder.modules(), strict=True):
        for tensors, own in ((ours._parameters, theirs._parameters), (ours._buffers, theirs._buffers)):
            for name, original in own.items():
                if original is None or original.dtype == tensors[name].dtype:  # type: ignore[union-attr]
                    tensors[name] = original  # type: ignore[assignment]
                else:
                    copies.append(tensors[name])
                    originals.append(original)
    return converted, copies, originals  # type: ignore[return-value]


def fold_together(blocks: list[Any]) -> None:
    """Give every mLSTM block of a copy the parameters that its ``fold`` would, those of all blocks computed as one."""
    alike: dict[tuple[torch.Size, torch.Size], list[Any]] = {}
    for block in blocks:
        alike.setdefault((block.q.shape, block.gates.shape), []).append(block)
    for group in alike.values():
        q, k, v, gates, norm, head_norm = (
            torch.stack([getattr(block, name) for block in group]) for name in ("q", "k", "v", "gates", "norm", "head_norm")
        )
        for block, *folded in zip(group, 1 + norm, 1 + head_norm, *torch.vmap(fold)(q, k, v, gates), strict=True):
            block.folded = tuple(folded)


def _is_plain(module: nn.Module) -> bool:
    """Whether a module is a layer or a part of this package, unchanged, and nobody listens to it."""
    ours = type(module) in LAYERS or type(module).__module__.startswith("hear_axlstm.")
    plain = all(type(tensor) in TENSORS for tensor in (*module._parameters.values(), *module._buffers.values()))
    return ours and plain and not (module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))


def _facts(module: nn.Module) -> Iterator[Any]:
    """What a capture of a module has written into it: its code, numbers and options, and where its tensors lie."""
    yield type(module).forward
    yield [fact for fact in vars(module).items() if type(fact[1]) in SCALARS and fact[0] != "training"]
    for tensor in (*module._parameters.values(), *module._buffers.values()):
        if tensor is not None:
            yield tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()


def _settings() -> tuple[Any, ...]:
    """What a capture depends on besides."""
    exact = torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled()
    cudnn = torch.backends.cudnn  # which may round convolutions to TF32; torch 2.9 and newer say so of each operation
    return (
        *exact,
        cudnn.conv.fp32_precision if hasattr(cudnn, "conv") else cudnn.allow_tf32,
        os.environ.get("HEAR_AXLSTM_BACKEND"),
    )


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
