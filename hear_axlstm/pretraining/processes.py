"""The processes that train together: what torchrun and accelerate launch tell each one, and what they exchange."""

from __future__ import annotations

import atexit
import contextlib
import os
from collections.abc import Iterator

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from hear_axlstm.errors import ConfigError


class Processes:
    """This process among all that train one model: one alone, unless a launcher started several.

    device: the CUDA device that the launcher gives it where there are some, else the CPU: the loss is summed in float64,
    which other devices lack. rank: this process's number, from 0. count: how many there are.

    Raises ConfigError when the launcher's environment variables are not whole, or the processes cannot meet.
    """

    def __init__(self, *, cpu: bool = False) -> None:
        self.count = _number("WORLD_SIZE", 1)
        self.rank = _number("RANK", 0) if self.count > 1 else 0
        self.device = torch.device("cpu")
        if not cpu and torch.cuda.is_available():
            self.device = torch.device("cuda", _number("LOCAL_RANK", 0))
            torch.cuda.set_device(self.device)
        if self.count > 1 and not distributed.is_initialized():
            try:
                distributed.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
            except (ValueError, RuntimeError) as error:
                raise ConfigError(f"the {self.count} processes cannot meet ({error}); start them with torchrun") from error
            atexit.register(distributed.destroy_process_group)  # its threads must not outlive the interpreter

    @property
    def is_main(self) -> bool:
        """True in the one process that writes files and shows progress."""
        return self.rank == 0

    def shared(self, model: nn.Module) -> nn.Module:
        """The model with gradients that are averaged over all processes as they are computed."""
        if self.count == 1:
            return model
        return DistributedDataParallel(model, device_ids=[self.device] if self.device.type == "cuda" else None)

    @contextlib.contextmanager
    def apart(self, model: nn.Module) -> Iterator[None]:
        """Gradients stay in this process inside the block; the first pass after it averages them all."""
        with model.no_sync() if isinstance(model, DistributedDataParallel) else contextlib.nullcontext():
            yield

    def mean(self, value: Tensor) -> Tensor:
        """The mean over all processes of a tensor on the device."""
        if self.count == 1:
            return value
        total = value.clone()
        distributed.all_reduce(total)
        return total / self.count

    def gather(self, number: int) -> list[int]:
        """The numbers that all processes call this with, in their order."""
        if self.count == 1:
            return [number]
        found = [torch.zeros(1, dtype=torch.long, device=self.device) for _ in range(self.count)]
        distributed.all_gather(found, torch.tensor([number], device=self.device))
        return [int(each) for each in found]

    def wait(self) -> None:
        """Return when every process has called this."""
        if self.count > 1:
            distributed.barrier()


def _number(variable: str, otherwise: int) -> int:
    text = os.environ.get(variable, "")
    if text and not text.isdigit():
        raise ConfigError(f"the environment variable {variable} is {text!r}; expected a number, as torchrun sets it")
    return int(text) if text else otherwise
