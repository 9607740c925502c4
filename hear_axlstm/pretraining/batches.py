"""The clips of every update, their crops (B, 200, 80) and masks (B, L), which follow from seed and place in the run alone.

So a run that goes on after an interruption, or is spread over other processes, sees what it would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hear_axlstm.audio import Wave
from hear_axlstm.config import CHUNK_FRAMES, N_MELS
from hear_axlstm.errors import AudioError, ConfigError
from hear_axlstm.frontend import log_mel
from hear_axlstm.pretraining.objective import random_mask
from hear_axlstm.pretraining.recipe import Recipe
from hear_axlstm.pretraining.shard_clips import ShardClips
from hear_axlstm.pretraining.views import View, view
from hear_axlstm.synthesis.draws import Draws
from hear_axlstm.synthesis.procedural import synthesize

CROPS, MASKS = 1, 2  # streams of random numbers beside that of the sound itself


@dataclass(frozen=True)
class Plan:
    """Clip n = step * batch + slot of a run: synthesised, or the n-th clip drawn from the shards.

    recipe: what to draw. shard_clips: how many clips the shards hold. groups: their numbers, by source, for the shares.
    """

    recipe: Recipe
    shard_clips: int
    groups: Sequence[Sequence[int]] = ()

    def from_shards(self, clip: int) -> int | None:
        """The number of the shards' clip at place ``clip``, None when that is synthesised. Every epoch has another order."""
        return None if self.is_synthetic(clip) else self.drawn(self._drawn(clip))

    def drawn(self, place: int) -> int:
        """The number of the shards' clip that is drawn at this place, where none are synthesised."""
        group, place = self._turn(place) if self.recipe.shares else (range(self.shard_clips), place)
        used = max(1, round(self.recipe.subset * len(group)))
        epoch, place = divmod(place, used)
        chosen = _permutation(len(group), self.recipe.seed, 0)[:used]
        order = _permutation(used, self.recipe.seed, 1 + epoch)
        return group[int(chosen[order[place]])]

    def _turn(self, place: int) -> tuple[Sequence[int], int]:
        """The group that it is the turn of, and how many times it was before: turns are spread evenly."""
        turns = _turns(self.recipe.shares)
        rounds, turn = divmod(place, len(turns))
        chosen = turns[turn]
        return self.groups[chosen], rounds * self.recipe.shares[chosen] + turns[:turn].count(chosen)

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


@lru_cache(maxsize=1)
def _turns(shares: tuple[int, ...]) -> list[int]:
    """Whose turn it is in a round.

    >>> _turns((3, 1))
    [0, 0, 1, 0]
    """
    return [
        group
        for _, group in sorted(((turn + 0.5) / share, group) for group, share in enumerate(shares) for turn in range(share))
    ]


@lru_cache(maxsize=32)
def _permutation(count: int, seed: int, epoch: int) -> Tensor:
    numbers = Draws(torch.arange(count), seed)
    numbers = numbers.fork(epoch, torch.arange(count))
    return numbers.uniform(0, 1).argsort(stable=True).int()


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
    """One pass: standardised log-mel crops (B, 200, 80), the mask (B, L) of their patches, true where hidden, and each
    teacher's targets (B, 50, D), zero where it has none."""

    spectrogram: Tensor
    mask: Tensor
    targets: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.mask)


def targets_of(recipe: Recipe, recorded: ShardClips) -> dict[str, int]:
    """How many numbers each teacher of the recipe says of a moment. Raises ConfigError when the shards do not have them."""
    sizes = recorded.sizes if recipe.targets else {}
    if missing := recipe.targets.keys() - sizes.keys():
        raise ConfigError(
            f"the shards have no targets of {', '.join(sorted(missing))}, but of {', '.join(sizes) or 'no teacher'}; "
            "expected KEY.TEACHER.npy beside the clips: make them, or choose a recipe without them"
        )
    return {teacher: sizes[teacher] for teacher in recipe.targets}


class _ShardCrops(Dataset[View]):
    """Crops of the shards' clips, by place in the run; worker processes make them."""

    def __init__(self, recorded: ShardClips, plan: Plan) -> None:
        self.recorded, self.plan = recorded, plan
        self.sizes = targets_of(plan.recipe, recorded)

    def __getitem__(self, clip: int) -> View:
        index = self.plan.from_shards(clip)
        assert index is not None
        draws = streams(torch.tensor([clip]), self.plan.recipe.seed, CROPS)
        if not self.plan.recipe.targets:
            return View(crop(self.recorded.log_mel(index)[None], draws)[0], {})
        targets = self.recorded.targets(index, self.sizes)
        return view(self.recorded.wave(index), targets, self.sizes, self._other, draws)

    def _other(self, chosen: Tensor) -> Wave:
        return self.recorded.wave(self.plan.drawn(int(chosen * len(self.recorded))))


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
    plan = Plan(recipe, len(recorded), recorded.groups)
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


def _batch(plan: Plan, part: range, crops: Iterator[View], device: torch.device) -> Batch:
    recipe = plan.recipe
    clips = torch.arange(part.start, part.stop, device=device)
    made = torch.tensor([plan.is_synthetic(clip) for clip in part], device=device)
    spectrogram = torch.empty(len(part), CHUNK_FRAMES, N_MELS, device=device)
    targets = {}
    if made.any():
        ids = torch.tensor([plan.synthetic_id(clip) for clip in clips[made].tolist()], device=device)
        mel = log_mel(synthesize(ids, recipe.seed))
        spectrogram[made] = crop(mel, streams(clips[made], recipe.seed, CROPS))
    if not made.all():
        found = _next(crops)
        spectrogram[~made] = found.spectrogram.to(device, non_blocking=True)
        for teacher, own in found.targets.items():
            targets[teacher] = torch.zeros(len(part), *own.shape[1:], device=device)
            targets[teacher][~made] = own.to(device, non_blocking=True)
    return Batch(spectrogram, _masks(recipe, clips), targets)


def _masks(recipe: Recipe, clips: Tensor) -> Tensor:
    columns, rows = recipe.encoder.grid
    draws = streams(clips, recipe.seed, MASKS)
    mask = random_mask(draws, columns * rows, recipe.mask_ratio)
    return mask if recipe.masked == 1 else mask & draws.chance(recipe.masked, 1)


def _next(crops: Iterator[View]) -> View:
    try:
        return next(crops)
    except AudioError as error:  # of a process, which torch puts after its traceback
        raise AudioError(str(error).strip().rpartition(f"{AudioError.__name__}: ")[2]) from error
