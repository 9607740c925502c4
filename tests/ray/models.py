"""Small models that die, wait or break where a test wants it, in whichever process they are."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import torch

from hear_axlstm.config import SSASTConfig
from hear_axlstm.embedder import Embedder
from hear_axlstm.encoder import Encoder
from hear_axlstm.errors import BackendError

DEADLY = 11_111  # samples


def small_encoder() -> Encoder:
    torch.manual_seed(3)
    return Encoder(SSASTConfig(width=16, depth=2, heads=2)).eval()


class Deadly(Embedder):
    """Kills the process that is to embed a clip of exactly DEADLY samples."""

    def forward(self, audio, lengths=None, layers=None):
        if DEADLY in lengths:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(audio, lengths, layers)


class Waiting(Embedder):
    """The first process that is to embed anything notes in ``place`` which it is, and stays."""

    place: Path

    def forward(self, audio, lengths=None, layers=None):
        try:
            with self.place.open("x") as file:
                file.write(str(os.getpid()))
        except FileExistsError:
            return super().forward(audio, lengths, layers)
        threading.Event().wait()


class Broken(Embedder):
    def forward(self, audio, lengths=None, layers=None):
        raise BackendError("it is broken")
