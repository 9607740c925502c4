"""One update of an encoder's weights: loss, optimiser, mixed precision, and passes."""

from __future__ import annotations

import importlib
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from types import MappingProxyType
from typing import cast

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hear_axlstm.blocks.mamba import Scan
from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import ConfigError
from hear_axlstm.finetuning.tuner import decay_groups
from hear_axlstm.ops import wide
from hear_axlstm.patches import steps_from_tokens
from hear_axlstm.pretraining.batches import Batch
from hear_axlstm.pretraining.objective import reconstruction_loss, teaching_loss
from hear_axlstm.pretraining.processes import Processes
from hear_axlstm.pretraining.recipe import Recipe

logger = logging.getLogger(__name__)

HEAD_WIDTH = 384  # between a moment and what a teacher says of it
OUTPUTS = {"axlstm": ("down",), "ssam": ("out_proj",), "ssast": ("proj", "mlp.2")}  # a block's layers that add to the stream


class MaskedModel(nn.Module):
    """An encoder that guesses the patches it does not see, and what teachers say; the loss is float32 in every precision.

    targets: how many numbers each teacher says of a moment. Each has a small network from the moment's joined tokens: with
    linear maps instead, the tokens keep less of what no teacher says.
    """

    def __init__(self, encoder: Encoder, recipe: Recipe, targets: Mapping[str, int]) -> None:
        super().__init__()
        self.encoder, self.recipe = encoder, recipe
        width = encoder.config.embedding_size
        self.heads = nn.ModuleDict({teacher: _head(width, size) for teacher, size in targets.items()})

    def forward(self, batch: Batch) -> Tensor:
        """The loss of one pass, a scalar."""
        recipe, config, guess_of = self.recipe, self.encoder.config, self.encoder.head
        tokens = self.encoder(batch.spectrogram, batch.mask)
        guess = wide(guess_of(tokens.to(guess_of[0].weight.dtype)))
        loss = recipe.reconstruction * reconstruction_loss(guess, batch.spectrogram, batch.mask, config.patch, recipe.loss)
        moments = steps_from_tokens(tokens, config.grid, "time")
        for teacher, head in self.heads.items():
            loss = loss + recipe.targets[teacher] * teaching_loss(wide(head(moments)), batch.targets[teacher])
        return loss


def _head(width: int, size: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, HEAD_WIDTH), nn.GELU(), nn.Linear(HEAD_WIDTH, size))


def optimizer_of(model: nn.Module, recipe: Recipe) -> AdamW:
    """AdamW, in which biases, norms and everything else with one dimension do not decay."""
    groups = decay_groups(list(model.parameters()), recipe.weight_decay)
    return AdamW(groups, lr=recipe.lr, betas=recipe.betas, fused=True)


def compile_blocks(encoder: Encoder) -> None:
    """Have torch compile the blocks. They share code: what is compiled for one serves all that read in its direction.

    Scans are left to our kernels: torch would write their loop out, token by token, for minutes and in gigabytes.

    Raises ConfigError where the encoder is on a CPU and there is no C++ compiler.
    """
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if encoder.cls_token.device.type == "cpu" and shutil.which(compiler) is None:
        raise ConfigError(
            f"compile = true needs a C++ compiler, and there is no {compiler}; install it, or leave compile out"
        )
    for block in encoder.blocks:
        for module in block.modules():
            if isinstance(module, Scan):
                module.forward = torch.compiler.disable(module.forward)  # type: ignore[method-assign]
        block.compile(dynamic=False)


def train_first(encoder: Encoder, blocks: int) -> None:
    """Train so many blocks, and have those above pass on what they get."""
    for index, block in enumerate(encoder.blocks):
        vars(block).pop("forward", None)
        if index >= blocks:
            block.forward = _pass_on
        block.requires_grad_(index < blocks)


def _pass_on(x: Tensor, update: Tensor | None, backend: str = "auto") -> tuple[Tensor, Tensor | None]:
    return x, update


@torch.no_grad()
def copy_up(encoder: Encoder, blocks: int) -> None:
    """Make all blocks above the first ``blocks`` copies of those, in turn, that add nothing to the stream yet.

    So an encoder that grows says the same before and after (Gong et al., 2019, stack trained blocks; zeros keep what was
    learnt).
    """
    for index in range(blocks, encoder.config.depth):
        block = encoder.blocks[index]
        block.load_state_dict(encoder.blocks[index % blocks].state_dict())
        for name in OUTPUTS[encoder.config.family]:
            for parameter in block.get_submodule(name).parameters():
                parameter.zero_()


class Trainer:
    """A new encoder of the recipe's seed, its optimiser, and the average of its weights if the recipe wants one.

    start: an encoder whose weights to begin with, mask token and head included. targets: those of MaskedModel. processes:
    this one among all that train. dtype: of matrix products; gradients are scaled for float16. settled: False from the
    moment an update changes the weights until whoever called it has taken note, and sets it True; only then may a checkpoint
    be written. blocks: how many of them are trained.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        cpu: bool = False,
        start: Encoder | None = None,
        targets: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self.processes = Processes(cpu=cpu)
        self.device = self.processes.device
        self.dtype = _compute_dtype(recipe, self.device)
        if self.device.type == "cpu" and self.processes.is_main:
            warning = importlib.import_module("hear_axlstm.kernels.products").slow_products(self.dtype)
            if warning is not None:
                logger.warning(warning)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        self.settled = True

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.encoder = Encoder(recipe.encoder).to(self.device)
            model = MaskedModel(self.encoder, recipe, targets).to(self.device)
        if start is not None:
            self.encoder.load_state_dict(start.state_dict())
            if recipe.growth and self.processes.is_main:
                text = "of the initial weights, blocks 1 to %d are used: growth begins with them; growth = [] keeps all"
                logger.warning(text, recipe.growth[0])
        self.encoder.checkpointing = recipe.checkpointing
        self.optimizer = optimizer_of(model, recipe)
        self.blocks = recipe.stages[0]
        copy_up(self.encoder, self.blocks)
        self._average: AveragedModel | None = None
        if recipe.ema is not None:
            self._average = AveragedModel(self.encoder, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema))
        if recipe.compile:
            compile_blocks(self.encoder)
        self.model = model
        self.train_blocks(self.blocks)
        self._clips = recipe.batch // self.processes.count

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The modules that a checkpoint must keep, by name."""
        average = {} if self._average is None else {"ema": self._average}
        heads = {"heads": self.model.heads} if len(self.model.heads) else {}
        return {"encoder": self.encoder, **average, **heads}

    def train_blocks(self, blocks: int) -> None:
        """Train this many blocks from now on, as they are."""
        self.blocks = blocks
        train_first(self.encoder, blocks)
        self._model = self.processes.shared(self.model)  # anew: it exchanges the gradients that there are at first

    def grow(self, blocks: int) -> None:
        """Have more blocks join, until there are this many; fewer than there are change nothing."""
        if blocks > self.blocks:
            for encoder in {self.encoder, self.result}:
                copy_up(encoder, self.blocks)
            self.train_blocks(blocks)

    @property
    def result(self) -> Encoder:
        """The encoder that the run is for: the averaged one if there is one."""
        return self.encoder if self._average is None else cast(Encoder, self._average.module)

    def update(self, passes: Iterable[Batch], lr: float, seen: Callable[[int], None] | None = None) -> Tensor:
        """Make one step after forward and backward over this process's passes, which are made as they are needed.

        seen: is told after each pass how many clips it had. The result is the mean loss over all processes, a scalar on the
        device.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        total = torch.zeros((), device=self.device)
        clips = 0
        for batch in passes:
            clips += len(batch)
            last = clips == self._clips  # gradients meet those of other processes once
            with nullcontext() if last else self.processes.apart(self._model):
                with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
                    loss = self._model(batch) * (len(batch) / self._clips)
                self.scaler.scale(loss).backward()
            total += loss.detach()
            if seen is not None:
                seen(len(batch))
        self.settled = False
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        if self._average is not None:
            self._average.update_parameters(self.encoder)
        return self.processes.mean(total)


def _compute_dtype(recipe: Recipe, device: torch.device) -> torch.dtype:
    if recipe.precision == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    dtype: torch.dtype = getattr(torch, recipe.precision)
    return dtype
