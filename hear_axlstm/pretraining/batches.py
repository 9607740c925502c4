"""The clips of every update, their crops (B, 200, 80) and masks (B, L), which follow from seed and place in the run alone.

So a run that goes on after an interruption, or is spread over other processes, sees what it would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hear_axlstm.config import CHUNK_FRAMES, N_MELS
from hear_axlstm.errors import AudioError, ConfigError
from hear_axlstm.frontend import log_mel
from hear_axlstm.pretraining.objective import random_mask
from hear_axlstm.pretraining.recipe import Recipe
from hear_axlstm.pretraining.shard_clips import ShardClips
from hear_axlstm.synthesis.draws import Draws
from hear_axlstm.synthesis.procedural import synthesize

CROPS, MASKS = 1, 2  # streams of random numbers beside that of the sound itself


@dataclass(frozen=True)
class Plan:
    """Clip n = step * batch + slot of a run: synthesised, or the n-th clip drawn from the shards.

    recipe: what to draw. shard_clips: how many clips the shards hold.
    """

    recipe: Recipe
    shard_clips: int

    @property
    def used(self) -> int:
        """How many clips of the shards the recipe's subset leaves, one at least."""
        return max(1, round(self.recipe.subset * self.shard_clips))

    def from_shards(self, clip: int) -> int | None:
        """The number of the shards' clip at place ``clip``, None when that is synthesised. Every epoch has another order."""
        if self.is_synthetic(clip):
            return None
        epoch, place = divmod(self._drawn(clip), self.used)
        chosen = _permutation(self.shard_clips, self.recipe.seed, 0)[: self.used]
        order = _permutation(self.used, self.recipe.seed, 1 + epoch)
        return int(chosen[order[place]])

    def is_synthetic(self, clip: int) -> bool:
        """True when the clip at this place is synthesised; this needs no order of the shards' clips."""
        return self._drawn(clip + 1) == self._drawn(clip)

    def synthetic_id(self, clip: int) -> int:
        """The synthesised clip at this place: a new one each time, or one of a subset of an epoch."""
        recipe = self.recipe
        if recipe.subset == 1 or recipe.epoch_clips is None:
            return clip
        return clip % max(1, round(recipe.subset * recipe.epoch_clips))

    def _drawn(self, clip: int) -> int:
        """How many clips of the shards come before this place, evenly spread among the synthesised ones."""
        return clip - int(clip * self.recipe.synthetic_share)


@lru_cache(maxsize=3)
def _permutation(count: int, seed: int, epoch: int) -> Tensor:
    numbers = Draws(torch.arange(count), seed)
    numbers = numbers.fork(epoch, torch.arange(count))
    return numbers.uniform(0, 1).argsort(stable=True)


def streams(clips: Tensor, seed: int, purpose: int) -> Draws:
    """The random numbers of the clips at these places for one purpose, CROPS or MASKS."""
    return Draws(clips, seed).fork(purpose << 16, torch.arange(len(clips), device=clips.device))


def crop(mel: Tensor, draws: Draws) -> Tensor:
    """A random crop of each clip, in which one shorter than 2 seconds is repeated. Shape: (B, N, 80) -> (B, 200, 80)."""
    frames = mel.shape[1]
    start = draws.integers(0, max(1, frames - CHUNK_FRAMES + 1))
    index = (start[:, None] + torch.arange(CHUNK_FRAMES, device=mel.device)) % frames
    return mel.gather(1, index.unsqueeze(-1).expand(-1, -1, N_MELS))


@dataclass(frozen=True)
class Share:
    """The slice of every batch that one of ``processes`` sees, in passes of at most ``micro_batch`` clips.

    Raises ConfigError when the batch cannot be divided so.
    """

    batch: int
    micro_batch: int
    process: int = 0
    processes: int = 1

    def __post_init__(self) -> None:
        if self.micro_batch < 1:
            raise ConfigError(f"micro_batch is {self.micro_batch}; expected 1 or more")
        if self.batch % self.processes:
            raise ConfigError(f"a batch of {self.batch} clips cannot be divided by {self.processes} processes; change one")

    def passes(self, step: int) -> list[range]:
        """The places of the clips of each pass of an update.

        >>> Share(batch=8, micro_batch=3, process=1, processes=2).passes(step=1)
        [range(12, 15), range(15, 16)]
        """
        own = self.batch // self.processes
        first = step * self.batch + self.process * own
        starts = range(first, first + own, self.micro_batch)
        return [range(start, min(start + self.micro_batch, first + own)) for start in starts]


@dataclass(frozen=True)
class Batch:
    """One pass: standardised log-mel crops (B, 200, 80), and the mask (B, L) of their patches, true where hidden."""

    spectrogram: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return len(self.mask)


class _ShardCrops(Dataset[Tensor]):
    """Crops of the shards' clips, by place in the run; worker processes make them."""

    def __init__(self, recorded: ShardClips, plan: Plan) -> None:
        self.recorded, self.plan = recorded, plan

    def __getitem__(self, clip: int) -> Tensor:
        index = self.plan.from_shards(clip)
        assert index is not None
        place = streams(torch.tensor([clip]), self.plan.recipe.seed, CROPS)
        return crop(self.recorded.log_mel(index)[None], place)[0]


@dataclass(frozen=True)
class _Places:
    """The places that the shards fill, pass by pass of the updates ``first`` to ``last`` - 1, without empty passes."""

    plan: Plan
    share: Share
    first: int
    last: int

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.first, self.last):
            for part in self.share.passes(step):
                if places := [clip for clip in part if not self.plan.is_synthetic(clip)]:
                    yield places


def updates(
    recipe: Recipe, recorded: ShardClips, share: Share, steps: range, device: torch.device, workers: int
) -> Iterator[Iterator[Batch]]:
    """The passes of every update in ``steps``, each made when it is asked for, to be taken one after the other.

    workers: processes that decode the shards' clips; this one does when it is 0.

    Raises AudioError when a clip of the shards cannot be decoded.
    """
    plan = Plan(recipe, len(recorded))
    loader = DataLoader(
        _ShardCrops(recorded, plan),
        batch_sampler=_Places(plan, share, steps.start, steps.stop),
        num_workers=workers,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # or it would draw from the one that everybody shares
    )
    crops = iter(loader)
    for step in steps:
        yield (_batch(plan, part, crops, device) for part in share.passes(step))


def _batch(plan: Plan, part: range, crops: Iterator[Tensor], device: torch.device) -> Batch:
    recipe = plan.recipe
    clips = torch.arange(part.start, part.stop, device=device)
    made = torch.tensor([plan.is_synthetic(clip) for clip in part], device=device)
    spectrogram = torch.empty(len(part), CHUNK_FRAMES, N_MELS, device=device)
    if made.any():
        ids = torch.tensor([plan.synthetic_id(clip) for clip in clips[made].tolist()], device=device)
        mel = log_mel(synthesize(ids, recipe.seed))
        spectrogram[made] = crop(mel, streams(clips[made], recipe.seed, CROPS))
    if not made.all():
        spectrogram[~made] = _next(crops).to(device, non_blocking=True)
    columns, rows = recipe.encoder.grid
    mask = random_mask(streams(clips, recipe.seed, MASKS), columns * rows, recipe.mask_ratio)
    return Batch(spectrogram, mask)


def _next(crops: Iterator[Tensor]) -> Tensor:
    try:
        return next(crops)
    except AudioError as error:  # of a process, which torch puts after its traceback
        raise AudioError(str(error).strip().rpartition(f"{AudioError.__name__}: ")[2]) from error
