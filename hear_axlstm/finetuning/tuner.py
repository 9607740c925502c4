"""An encoder and its head, trained together: embeddings of chunks, one update, and scores of clips."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import AdamW
from torch.utils.checkpoint import checkpoint

from hear_axlstm.embedder import Embedder
from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import TrainingError
from hear_axlstm.finetuning.clips import Clips
from hear_axlstm.finetuning.head import Head, fit_head
from hear_axlstm.finetuning.settings import Settings
from hear_axlstm.ops.backend import Backend
from hear_axlstm.ops.norm import add_norm
from hear_axlstm.patches import steps_from_tokens

CHUNKS = {"cuda": 64}  # of one forward and backward pass: bounds memory
CHUNKS_ELSEWHERE = 8
STATES = 1 << 30  # bytes of what enters the first trained block, kept of all clips if they fit
HEAD_LR = 3.0  # the head's learning rate over the encoder's
SMOOTHING = 0.1  # of labels: without it few clips are soon known by heart, and the encoder learns no more
WEIGHT_DECAY = 0.05
LARGEST_GRADIENT = 1.0  # norm, over all parameters
WARM_UP = 0.1  # of all updates, in which the learning rate rises

Part = tuple[int, Sequence[int]]  # a clip, and the places of some of its chunks


@dataclass
class Guesses:
    """The head's opinion of clips: the mean cross-entropy, and the class of each."""

    loss: float
    classes: list[int]


def decay_groups(parameters: Sequence[nn.Parameter], weight_decay: float, **options: Any) -> list[dict[str, Any]]:
    """Groups for an optimiser, in which biases, norms and everything else with one dimension do not decay."""
    decaying, others = ([p for p in parameters if (p.ndim > 1) is several] for several in (True, False))
    return [
        {"params": decaying, "weight_decay": weight_decay, **options},
        {"params": others, "weight_decay": 0.0, **options},
    ]


class Tuner:
    """A copy of a model's encoder, with a head for the classes of clips.

    The encoder is trained from layer ``settings.from_layer`` on; the rest has no gradients and stays as it is. What enters
    the first trained block is computed once for each chunk, where it fits into memory.
    """

    def __init__(self, model: Embedder, clips: Clips, classes: Sequence[str], settings: Settings) -> None:
        self.model = Embedder(
            copy.deepcopy(model.encoder).float(), layout=model.layout, precision=model.precision, backend=model.backend
        )
        self.encoder, self.device, self.clips, self.settings = self.model.encoder, model.device, clips, settings
        self.encoder.layout = self.encoder.centring = None  # of the weights that were loaded, not of these
        self.head = Head(model.scene_embedding_size, len(classes)).to(self.device)
        self.labels = torch.tensor([classes.index(label) for label in clips.labels], device=self.device)
        self.size = CHUNKS.get(self.device.type, CHUNKS_ELSEWHERE)
        self.states: Tensor | None = None
        trained = trained_parameters(self.encoder, settings.from_layer)
        for parameter in self.encoder.parameters():
            parameter.requires_grad_(False)
        for parameter in trained.values():
            parameter.requires_grad_(True)
        self.trained = trained
        self.optimizer = AdamW(
            [
                *decay_groups(list(trained.values()), WEIGHT_DECAY, lr=settings.lr, share=1.0),
                *decay_groups(list(self.head.parameters()), WEIGHT_DECAY, lr=settings.lr, share=HEAD_LR),
            ],
            fused=True,
        )
        self.dtype = self.model.compute_dtype
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)

    @property
    def weights(self) -> dict[str, Tensor]:
        """All that training changes: the trained parameters of the encoder, and the head."""
        head = {f"head.{name}": tensor for name, tensor in self.head.state_dict().items()}
        return {f"encoder.{name}": tensor.detach() for name, tensor in self.trained.items()} | head

    @torch.no_grad()
    def restore(self, weights: dict[str, Tensor]) -> None:
        """Set all that training changes to copies of these."""
        for name, tensor in self.weights.items():
            tensor.copy_(weights[name])

    def begin(self, training: Sequence[int], others: Sequence[int], seen: Callable[[int], object]) -> None:
        """Embed all clips with the encoder as it is, and fit the head. seen: called with numbers of clips that are done."""
        embeddings = torch.empty(len(self.clips), self.model.scene_embedding_size)
        with self._kept_states() as keep:
            for some in self._passes(list(enumerate(self.clips.chunks))):
                rows = [clip for clip, _ in some]
                embeddings[rows] = self.embed(rows)
                keep([place for _, chunks in some for place in chunks])
                seen(len(rows))
        known, unknown = list(training), list(others)
        fit_head(self.head, embeddings[known], self.labels[known], embeddings[unknown], self.labels[unknown])

    @contextmanager
    def _kept_states(self) -> Iterator[Callable[[Sequence[int]], None]]:
        """Gives what is to be called with the places of chunks that were embedded since: it keeps what entered the first
        trained block. When the block ends well, ``states`` has those of all chunks; or none, where they are too many.
        """
        config, count = self.encoder.config, len(self.clips.steps)
        shape = (count, 1 + math.prod(config.grid), config.width)
        if not self.settings.from_layer or 4 * math.prod(shape) > STATES:
            yield lambda places: None
            return
        states, entered = torch.empty(shape), list[Tensor]()

        def enter(block: nn.Module, inputs: tuple[Tensor, Tensor | None, Backend]) -> None:
            x, update, _ = inputs
            entered.append((x if update is None else x + update).cpu())

        def keep(places: Sequence[int]) -> None:
            states[list(places)] = torch.cat(entered)
            entered.clear()

        handle = self.encoder.blocks[self.settings.from_layer - 1].register_forward_pre_hook(enter)
        try:
            yield keep
        finally:
            handle.remove()
        self.states = states

    @torch.no_grad()
    def embed(self, clips: Sequence[int]) -> Tensor:
        """Scene embeddings of whole clips, in bounded passes. Shape: -> (n, D), float32 on the CPU."""
        sums = torch.zeros(len(clips), self.model.scene_embedding_size, dtype=torch.float64)
        pairs = [(row, place) for row, clip in enumerate(clips) for place in self.clips.chunks[clip]]
        for first in range(0, len(pairs), self.size):
            rows, places = zip(*pairs[first : first + self.size], strict=True)
            sums.index_add_(0, torch.tensor(rows), self._sums(places).cpu().double())
        counts = [sum(self.clips.steps[place] for place in self.clips.chunks[clip]) for clip in clips]
        return (sums / torch.tensor(counts)[:, None]).float()

    @torch.no_grad()
    def guess(self, clips: Sequence[int]) -> Guesses:
        """What the head makes of whole clips."""
        logits = self.head(self.embed(clips).to(self.device))
        return Guesses(float(cross_entropy(logits, self.labels[list(clips)])), logits.argmax(1).tolist())

    def update(self, parts: Sequence[Part], scale: float) -> float:
        """Learn from some chunks of clips, with ``scale`` of the learning rates; the mean loss of the clips before it.

        Raises TrainingError where the loss is not finite.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.lr * group["share"] * scale
        total = torch.zeros((), device=self.device)
        self.encoder.train()
        for some in self._passes(parts):
            places = [place for _, chosen in some for place in chosen]
            rows = torch.tensor([row for row, (_, chosen) in enumerate(some) for _ in chosen], device=self.device)
            counts = [sum(self.clips.steps[place] for place in chosen) for _, chosen in some]
            sums = self._sums(places)
            means = sums.new_zeros(len(some), sums.shape[1]).index_add(0, rows, sums)
            logits = self.head(means / torch.tensor(counts, device=self.device)[:, None])
            loss = cross_entropy(logits, self.labels[[clip for clip, _ in some]], reduction="sum", label_smoothing=SMOOTHING)
            self.scaler.scale(loss / len(parts)).backward()
            total += loss.detach() / len(parts)
        self.encoder.eval()
        if not math.isfinite(mean := float(total)):
            raise TrainingError(f"the loss is {mean}; start again (--overwrite) with a lower learning rate (--lr)")
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_([p for group in self.optimizer.param_groups for p in group["params"]], LARGEST_GRADIENT)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        return mean

    def _passes(self, parts: Sequence[Part]) -> Iterator[list[Part]]:
        """The parts of an update, a few chunks at a time, one clip at least."""
        some: list[Part] = []
        for part in parts:
            if some and sum(len(chosen) for _, chosen in some) + len(part[1]) > self.size:
                yield some
                some = []
            some.append(part)
        yield some

    def _sums(self, places: Sequence[int]) -> Tensor:
        """The sums over the steps that count, of some chunks. Shape: -> (n, D), float32."""
        dtype, config = self.dtype, self.encoder.config
        with torch.autocast(self.device.type, dtype=dtype, enabled=dtype != torch.float32):
            if self.states is None:
                tokens = self.encoder(self.clips.shelf.take(places).to(self.device), backend=self.model.backend)
            else:
                assert self.settings.from_layer
                tokens = self._rest(self.states[list(places)].to(self.device), self.settings.from_layer - 1)
        steps = steps_from_tokens(tokens, config.grid, self.model.layout).float()
        left = torch.tensor([self.clips.steps[place] for place in places], device=self.device)
        return (steps * (torch.arange(config.grid[0], device=self.device) < left[:, None]).unsqueeze(2)).sum(1)

    def _rest(self, x: Tensor, start: int) -> Tensor:
        """The encoder's tokens, from what enters block ``start`` on. Shape: (n, 1 + L, D) -> (n, L, D)."""
        encoder, update, backend = self.encoder, None, self.model.backend
        for block in encoder.blocks[start:]:
            if encoder.checkpointing and encoder.training:
                x, update = checkpoint(block, x, update, backend, use_reentrant=False)
            else:
                x, update = block(x, update, backend)
        norm = encoder.norm
        return add_norm(x, update, norm.weight, norm.bias, eps=norm.eps, dtype=x.dtype, backend=backend)[1][:, 1:]


def trained_parameters(encoder: Encoder, from_layer: int | None) -> dict[str, nn.Parameter]:
    """The parameters from a layer on, by name: those of blocks and the final norm; of 0 all that embeddings use."""
    if from_layer is None:
        return {}
    parts = [f"blocks.{index}." for index in range(max(from_layer - 1, 0), encoder.config.depth)] + ["norm."]
    parts += ["patch_embed.", "cls_token"] if from_layer == 0 else []
    return {name: value for name, value in encoder.named_parameters() if name.startswith(tuple(parts))}


def rate_at(step: int, total: int) -> float:
    """The share of the learning rate in update ``step`` of ``total``: it rises for WARM_UP of them, and falls as a cosine.

    >>> rate_at(0, 100), rate_at(9, 100), round(rate_at(99, 100), 4)
    (0.1, 1.0, 0.0003)
    """
    rising = max(1, round(WARM_UP * total))
    if step < rising:
        return (step + 1) / rising
    return 0.5 + 0.5 * math.cos(math.pi * (step + 1 - rising) / (total - rising + 1))
