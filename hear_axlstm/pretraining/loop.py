"""A recipe and a folder -> pretrained weights, on one device or on many through accelerate."""

from __future__ import annotations

import contextlib
import math
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import ConfigError, TrainingError
from hear_axlstm.pretraining.corpus import Corpus
from hear_axlstm.pretraining.data import Batch, Share, updates
from hear_axlstm.pretraining.model import MaskedModel, optimizer_of
from hear_axlstm.pretraining.recipe import Recipe, Schedule
from hear_axlstm.pretraining.state import LOGS, WEIGHTS, Curve, RunFolder
from hear_axlstm.version import __version__
from hear_axlstm.weights.format import save_weights

if TYPE_CHECKING:
    from accelerate import Accelerator

MICRO_BATCH = {"cuda": 256}  # clips of one forward and backward pass
MICRO_BATCH_ELSEWHERE = 16
LOG_SECONDS = 10.0  # losses are fetched from the device and written this often


def pretrain(
    recipe: Recipe,
    out: str | os.PathLike[str],
    *,
    cpu: bool = False,
    micro_batch: int | None = None,
    workers: int = 0,
    checkpoint_minutes: float = 5.0,
    overwrite: bool = False,
    progress: bool = False,
) -> Path:
    """Train a new encoder by masked reconstruction, or go on with the run in ``out``; the path of its weights.

    Under ``torchrun`` or ``accelerate launch`` each process takes its part of every batch. A run that was killed goes on
    from its last checkpoint with the same command, and sees what it would have seen: on a CPU the curve is the same bit for
    bit, as long as ``micro_batch`` and the processes are.

    out: a folder; see RunFolder. cpu: leave other devices alone. micro_batch: clips of one pass of one process; less memory,
    the same mathematics. workers: processes that decode shards, beside each process that trains.

    Raises ConfigError on a recipe that does not fit, OutputError on a folder that must not be continued, AudioError on a
    clip that cannot be decoded, TrainingError on a loss that is not finite.
    """
    accelerator = _accelerator(cpu)
    device = accelerator.device
    dtype = _compute_dtype(recipe, device)
    corpus = Corpus(recipe.shards)
    schedule = Schedule.of(recipe, len(corpus))
    passes = micro_batch or MICRO_BATCH.get(device.type, MICRO_BATCH_ELSEWHERE)
    share = Share(recipe.batch, passes, accelerator.process_index, accelerator.num_processes)
    folder = RunFolder(Path(out))
    if accelerator.is_main_process:
        folder.open(recipe.to_dict(), overwrite=overwrite)
    accelerator.wait_for_everyone()

    encoder = _new_encoder(recipe).to(device)
    optimizer = optimizer_of(encoder, recipe)
    ema = AveragedModel(encoder, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema)) if recipe.ema is not None else None
    modules: dict[str, nn.Module] = {"encoder": encoder} if ema is None else {"encoder": encoder, "ema": ema}
    begun = folder.load(modules, optimizer)
    step = int(begun["step"])
    _require_one_folder(accelerator, step, out)
    masked = MaskedModel(encoder, recipe)
    if recipe.compile:
        masked.compile(dynamic=False)
    trainer = Trainer(accelerator, accelerator.prepare(masked), optimizer, dtype)
    if begun.get("scaler"):
        trainer.scaler.load_state_dict(begun["scaler"])
    result = encoder if ema is None else cast(Encoder, ema.module)

    def checkpoint() -> None:
        folder.save(step, modules, optimizer, {"scaler": trainer.scaler.state_dict()})
        save_weights(result, folder.path / WEIGHTS, provenance_of(recipe, step, accelerator.num_processes))

    log = _Log(accelerator, folder, step, schedule.total, progress)
    data = updates(recipe, corpus, share, range(step, schedule.total), device, workers)
    saved = time.monotonic()
    with log:
        for batch in data:
            loss = trainer.update(batch, schedule.at(step))
            if ema is not None:
                ema.update_parameters(encoder)
            step += 1
            log.add(step, loss, schedule.at(step - 1), recipe.batch)
            if accelerator.is_main_process and time.monotonic() - saved > 60 * checkpoint_minutes:
                log.flush()
                checkpoint()
                saved = time.monotonic()
    if accelerator.is_main_process:
        checkpoint()
    accelerator.end_training()
    return folder.path / WEIGHTS


class Trainer:
    """One update of the weights, in mixed precision, over all processes.

    dtype: of matrix products; gradients are scaled for float16.
    """

    def __init__(self, accelerator: Accelerator, model: nn.Module, optimizer: Optimizer, dtype: torch.dtype) -> None:
        self.accelerator, self.model, self.optimizer, self.dtype = accelerator, model, optimizer, dtype
        self.scaler = torch.amp.GradScaler(accelerator.device.type, enabled=dtype == torch.float16)

    def update(self, passes: list[Batch], lr: float) -> Tensor:
        """Forward and backward over this process's passes, then a step. The mean loss over all processes, a scalar."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        clips = sum(map(len, passes))
        total = torch.zeros((), device=self.accelerator.device)
        for index, batch in enumerate(passes):
            last = index == len(passes) - 1  # gradients meet those of other processes once
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.model):
                with torch.autocast(self.accelerator.device.type, self.dtype, enabled=self.dtype != torch.float32):
                    loss = self.model(batch.spectrogram, batch.mask) * (len(batch) / clips)
                self.scaler.scale(loss).backward()
            total += loss.detach()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        return self.accelerator.reduce(total, reduction="mean")


def _accelerator(cpu: bool) -> Accelerator:
    try:
        from accelerate import Accelerator
    except ImportError as error:
        raise ConfigError("pretraining needs accelerate; pip install 'hear-axlstm[pretrain]'") from error
    try:
        return Accelerator(cpu=cpu, mixed_precision="no")  # Trainer has its own
    except ValueError as error:
        raise ConfigError(f"accelerate was set up otherwise in this process ({error}); start a new one") from error


def _compute_dtype(recipe: Recipe, device: torch.device) -> torch.dtype:
    if recipe.precision == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    if recipe.precision == "float16" and device.type != "cuda":
        raise ConfigError("precision is 'float16', but gradient scaling needs CUDA; use 'bfloat16' or 'float32' here")
    dtype: torch.dtype = getattr(torch, recipe.precision)
    return dtype


def _require_one_folder(accelerator: Accelerator, step: int, out: str | os.PathLike[str]) -> None:
    """Raises ConfigError when the processes do not see the same checkpoint."""
    steps = accelerator.gather(torch.tensor([step], device=accelerator.device)).tolist()
    if len(set(steps)) > 1:
        raise ConfigError(f"the processes found checkpoints of updates {steps} in {out}; put it where all machines see it")


def _new_encoder(recipe: Recipe) -> Encoder:
    """Initial values by the recipe's seed, whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        encoder = Encoder(recipe.encoder)
    encoder.checkpointing = recipe.checkpointing
    return encoder


def provenance_of(recipe: Recipe, steps: int, processes: int) -> dict[str, Any]:
    """What a weights file says of the run it comes from."""
    return {"recipe": recipe.to_dict(), "steps": steps, "processes": processes, "hear_axlstm": __version__}


class _Log:
    """Progress bar, curve.csv and TensorBoard, of the main process. Losses stay on the device until they are written."""

    def __init__(self, accelerator: Accelerator, folder: RunFolder, step: int, total: int, progress: bool) -> None:
        self.main = accelerator.is_main_process
        self.pending: list[tuple[int, Tensor, float, int]] = []
        self.since = time.monotonic()
        if self.main:
            self.curve = Curve(folder, step)
            self.board = _tensorboard(folder.path / LOGS, step)
            self.bar = tqdm(total=total, initial=step, unit="step", disable=not progress, smoothing=0.05)

    def add(self, step: int, loss: Tensor, lr: float, clips: int) -> None:
        if not self.main:
            return
        self.pending.append((step, loss, lr, clips))
        if time.monotonic() - self.since > LOG_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Raises TrainingError when a loss is not finite; the rows before it are written."""
        if not self.main or not self.pending:
            return
        steps, losses, rates, clips = zip(*self.pending, strict=True)
        now = time.monotonic()
        speed = round(sum(clips) / (now - self.since), 2)
        self.pending, self.since = [], now
        for step, loss, rate in zip(steps, torch.stack(losses).tolist(), rates, strict=True):
            if not math.isfinite(loss):
                raise TrainingError(
                    f"the loss of update {step} is {loss}, and the last checkpoint is from before; start again with a lower "
                    "base_lr, or with precision 'float32'"
                )
            self.curve.add({"step": step, "loss": loss, "lr": rate, "clips_per_second": speed})
            self.board.add_scalar("loss", loss, step)
            self.board.add_scalar("lr", rate, step)
        self.board.add_scalar("clips_per_second", speed, steps[-1])
        self.bar.update(len(steps))
        self.bar.set_postfix(loss=f"{loss:.4f}", clips_per_second=f"{speed:.1f}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if kind is None:
                self.flush()
        finally:
            if self.main:
                self.curve.close()
                self.board.close()
                self.bar.close()


def _tensorboard(folder: Path, step: int) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise ConfigError("pretraining needs tensorboardX; pip install 'hear-axlstm[pretrain]'") from error
    return SummaryWriter(str(folder), purge_step=step + 1)
