"""One sound of a stream between its samples and its embedding: frames that wait, the steps of its chunk, sums."""

from __future__ import annotations

import copy
from typing import Self

import numpy as np
import torch
from torch import Tensor

from hear_axlstm.config import CHUNK_FRAMES, N_MELS, Layout
from hear_axlstm.patches import scene_steps, steps_from_tokens
from hear_axlstm.stream.standards import Mel, Standard
from hear_axlstm.stream.windows import Windows


class Sound:
    """What a stream knows of one sound, beside the state of the recurrence.

    windows: its samples. standard: what its frames are standardised by. mel: standardised frames, (N, 80), that no patch
    column was made of yet. columns: how many were encoded. chunk: the steps of the chunk that is not complete, in the time
    layout, (columns of a chunk, E), of which the first ``place`` are there. sums: of the steps of all chunks before, (E,),
    as scene embeddings group them. counted: how many steps the scene embedding has, when the sound has ended. peak: of its
    samples. whole: whether it took all samples it was given, and was not interrupted.
    """

    def __init__(self, standard: Standard, layout: Layout, grid: tuple[int, int], chunk: Tensor) -> None:
        self.windows, self.standard, self.layout, self.grid = Windows(), standard, layout, grid
        self.mel: Mel = np.zeros((0, N_MELS))
        self.columns = 0
        self.chunk = chunk
        self.sums = torch.zeros(chunk.shape[1], dtype=torch.float64, device="cpu")
        self.counted: int | None = None
        self.peak, self.whole = 0.0, True

    @property
    def place(self) -> int:
        """The column of its chunk in which the next frames lie."""
        return self.columns % self.grid[0]

    @property
    def patch_frames(self) -> int:
        """How many frames a patch column has."""
        return CHUNK_FRAMES // self.grid[0]

    def hear(self, mel: Mel) -> None:
        """Note log-mel frames, (N, 80), and standardise what can be."""
        self.mel = np.concatenate([self.mel, self.standard.push(mel)])

    def end(self, *, whole_chunk: bool) -> None:
        """Note that no frames follow, and that what is beyond them is 0, as ``Embedder.steps`` has it.

        whole_chunk: whether the last chunk's columns are all encoded, or those alone that a part of the sound lies in.
        """
        self.mel = np.concatenate([self.mel, self.standard.end()])
        columns = self.counted = scene_steps(self.windows.samples, self.grid[0])
        if whole_chunk:
            columns += -columns % self.grid[0]
        missing = (columns - self.columns) * self.patch_frames - len(self.mel)
        self.mel = np.pad(self.mel, ((0, missing), (0, 0)))

    def take(self, columns: int) -> Mel:
        """The frames of the next columns, which are about to be encoded."""
        frames = columns * self.patch_frames
        taken, self.mel = self.mel[:frames], self.mel[frames:]
        return taken

    def add(self, steps: Tensor) -> bool:
        """Note the steps of the next columns, (k, E), all in one chunk. Whether that is complete with them."""
        begun = self.columns - self.place
        self.chunk[self.place : self.place + len(steps)] = steps
        self.columns += len(steps)
        if self.place:
            return False
        self.sums += self._sum(self.grid[0] if self.counted is None else self.counted - begun)
        return True

    def scene(self) -> Tensor:
        """The scene embedding of a sound that has ended, and whose columns are encoded. Shape: -> (E,), float32."""
        assert self.counted is not None
        sums = self.sums + self._sum(self.place) if self.place else self.sums
        return (sums / self.counted).float()

    def copy(self) -> Self:
        """The same, which can go on by itself."""
        return copy.deepcopy(self)

    def _sum(self, count: int) -> Tensor:
        """The sum of the first steps of the chunk, as scene embeddings group them. Shape: -> (E,), float64."""
        steps = self.chunk
        if self.layout != "time":
            steps = steps_from_tokens(steps.unflatten(1, (self.grid[1], -1)).flatten(0, 1), self.grid, self.layout)
        return steps[:count].sum(0).cpu().double()
