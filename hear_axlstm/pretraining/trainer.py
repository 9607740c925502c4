"""One update of an encoder's weights: loss, optimiser, mixed precision, passes, and processes through accelerate."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import ConfigError
from hear_axlstm.ops import wide
from hear_axlstm.pretraining.batches import Batch
from hear_axlstm.pretraining.objective import reconstruction_loss
from hear_axlstm.pretraining.recipe import Recipe

if TYPE_CHECKING:
    from accelerate import Accelerator


class MaskedModel(nn.Module):
    """An encoder that guesses the patches it does not see; the loss is float32 in every precision."""

    def __init__(self, encoder: Encoder, recipe: Recipe) -> None:
        super().__init__()
        self.encoder = encoder
        self.over = recipe.loss

    def forward(self, spectrogram: Tensor, mask: Tensor) -> Tensor:
        """The loss of one pass. Shape: (B, 200, 80), mask (B, L), true where hidden -> scalar."""
        guess = wide(self.encoder.reconstruct(spectrogram, mask))
        return reconstruction_loss(guess, spectrogram, mask, self.encoder.config.patch, self.over)


def optimizer_of(encoder: Encoder, recipe: Recipe) -> AdamW:
    """AdamW, in which biases, norms and everything else with one dimension do not decay."""
    decaying = [p for p in encoder.parameters() if p.ndim > 1]
    others = [p for p in encoder.parameters() if p.ndim <= 1]
    groups = [{"params": decaying, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return AdamW(groups, lr=recipe.lr, betas=recipe.betas, fused=True)


class Trainer:
    """A new encoder of the recipe's seed, its optimiser, and the average of its weights if the recipe wants one.

    process, processes: this one's place among those that torchrun or accelerate started. dtype: of matrix products;
    gradients are scaled for float16. Raises ConfigError without accelerate.
    """

    def __init__(self, recipe: Recipe, *, cpu: bool = False) -> None:
        self._accelerator = _accelerator(cpu)
        self.device = self._accelerator.device
        self.process = self._accelerator.process_index
        self.processes = self._accelerator.num_processes
        self.is_main = self._accelerator.is_main_process
        self.dtype = _compute_dtype(recipe, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.encoder = Encoder(recipe.encoder).to(self.device)
        self.encoder.checkpointing = recipe.checkpointing
        self.optimizer = optimizer_of(self.encoder, recipe)
        self._average: AveragedModel | None = None
        if recipe.ema is not None:
            self._average = AveragedModel(self.encoder, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema))
        masked = MaskedModel(self.encoder, recipe)
        if recipe.compile:
            masked.compile(dynamic=False)
        self._model: nn.Module = self._accelerator.prepare(masked)

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The modules that a checkpoint must keep, by name."""
        return {"encoder": self.encoder} if self._average is None else {"encoder": self.encoder, "ema": self._average}

    @property
    def result(self) -> Encoder:
        """The encoder that the run is for: the averaged one if there is one."""
        return self.encoder if self._average is None else cast(Encoder, self._average.module)

    def update(self, passes: list[Batch], lr: float) -> Tensor:
        """Make one step after forward and backward over this process's passes.

        The result is the mean loss over all processes, a scalar on the device.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        clips = sum(map(len, passes))
        total = torch.zeros((), device=self.device)
        for index, batch in enumerate(passes):
            last = index == len(passes) - 1  # gradients meet those of other processes once
            with contextlib.nullcontext() if last else self._accelerator.no_sync(self._model):
                with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
                    loss = self._model(batch.spectrogram, batch.mask) * (len(batch) / clips)
                self.scaler.scale(loss).backward()
            total += loss.detach()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        if self._average is not None:
            self._average.update_parameters(self.encoder)
        return self._accelerator.reduce(total, reduction="mean")

    def gather(self, number: int) -> list[int]:
        """The numbers that all processes call this with, in their order."""
        numbers: list[int] = self._accelerator.gather(torch.tensor([number], device=self.device)).tolist()
        return numbers

    def wait(self) -> None:
        """Return when every process has called this."""
        self._accelerator.wait_for_everyone()


def _accelerator(cpu: bool) -> Accelerator:
    try:
        from accelerate import Accelerator
    except ImportError as error:
        raise ConfigError("pretraining needs accelerate; pip install 'hear-axlstm[pretrain]'") from error
    try:
        # CUDA or a CPU: the loss is summed in float64, which others lack. Trainer has its own mixed precision.
        return Accelerator(cpu=cpu or not torch.cuda.is_available(), mixed_precision="no")
    except ValueError as error:
        raise ConfigError(f"accelerate was set up otherwise in this process ({error}); start a new one") from error


def _compute_dtype(recipe: Recipe, device: torch.device) -> torch.dtype:
    if recipe.precision == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    dtype: torch.dtype = getattr(torch, recipe.precision)
    return dtype
